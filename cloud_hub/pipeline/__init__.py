"""Samples -> trained, compressed, verified model files."""
