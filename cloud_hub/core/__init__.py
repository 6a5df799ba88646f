"""Values, ports and errors of the hub."""
