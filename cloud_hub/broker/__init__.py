"""The MQTT broker the hub supervises."""
