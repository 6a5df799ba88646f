"""The hub's certificate authority."""
