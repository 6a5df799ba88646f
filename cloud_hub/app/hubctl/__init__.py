"""``hubctl``: the hub on the command line, over gRPC."""

from cloud_hub.app.hubctl.cli import main

__all__ = ["main"]
