"""Composition root, processes and command lines."""
