"""Deltas between blobs: made here, decoded by ``edge_agent.core.delta``."""
