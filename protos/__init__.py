"""The contract between devices and the hub: all that both sides share."""
