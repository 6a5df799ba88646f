"""Composition root: the only place that sees two stages."""
