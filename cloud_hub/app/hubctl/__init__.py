"""``hubctl``: the hub on the command line, over gRPC."""

import sys


def main() -> None:
    """The console script. Its commands take a moment to come in, in which Ctrl-C is no bug either."""
    try:
        from cloud_hub.app.hubctl.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()
