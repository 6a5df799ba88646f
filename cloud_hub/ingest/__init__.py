"""MQTT -> batches -> services; acknowledged after commit."""
