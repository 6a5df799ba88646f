"""Windows over event time: one implementation for the device, before the uplink, and for the hub, behind the store."""
