"""The agent: one process on one device, unattended."""
