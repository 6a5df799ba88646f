"""Sample -> prediction, on the device's own runtime; the hub borrows this package so that the two cannot drift apart."""
