"""The network: MQTT up and down, gRPC when there is something to fetch."""
