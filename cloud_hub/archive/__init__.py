"""Telemetry past its first hour: Parquet files, then hourly roll-ups, then nothing (docs/telemetry.md)."""
