"""gRPC in front of the use cases: one servicer per noun."""
