"""``cloud-hub``: make a hub, run a hub."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from cloud_hub.core import config as configuration
from cloud_hub.core.errors import HubError
from edge_agent.core.errors import ConfigError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The Tideline hub.", pretty_exceptions_enable=False)

Config = Annotated[Path | None, typer.Option("--config", "-c", help="hub.yaml; CLOUD_HUB__SECTION__KEY overrides it")]

EXIT_FAILED = 1
EXIT_USAGE = 2


@app.command()
def init(config: Config = None) -> None:
    """Make the data folder: certificate authority, database and the first admin's hubctl configuration. Safe to repeat."""
    from cloud_hub.app import setup

    settings = _load(config)
    folder = setup.initialise(settings)
    print(f"hub data in {settings.data_dir}\nadmin: hubctl --config {folder / 'hubctl.yaml'} device list")


@app.command()
def serve(config: Config = None) -> None:
    """Run the hub until SIGTERM: broker, ingest, gRPC, scheduler and training."""
    from cloud_hub.app import server

    server.serve(_load(config), config)


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    print(installed("tideline"))


def main() -> None:
    try:
        app()
    except (HubError, ConfigError) as error:
        print(f"cloud-hub: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED)


def _load(path: Path | None) -> configuration.HubConfig:
    from cloud_hub.app import logs

    settings = configuration.load(path)
    logs.configure(settings.log_level)
    logging.captureWarnings(True)
    return settings
