"""The contract as values: no I/O, and protobuf only in ``codec``."""
