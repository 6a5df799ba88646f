"""What can be replaced on a device, each behind the port ``installer.Installer``."""
