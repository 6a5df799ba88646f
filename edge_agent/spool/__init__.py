"""A durable, bounded FIFO between inference and the network."""
