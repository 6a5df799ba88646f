"""``cloud-hub``: make a hub, run a hub."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

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
def ingest(name: Annotated[str, typer.Option(help="ingest-2 to ingest-16")], config: Config = None) -> None:
    """Ingest telemetry beside the hub until SIGTERM, on the hub's broker and database; see docs/operate.md."""
    from cloud_hub.app import replica

    replica.ingest(_load(config), name)


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    print(installed("tideline"))


def main() -> None:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's own lines on stderr would stand between ours
    try:
        app()
    except ConfigError as error:
        _fail(str(error), EXIT_USAGE)
    except HubError as error:
        _fail(str(error), EXIT_FAILED)
    except OSError as error:
        _fail(f"{error.filename or 'system'}: {error.strerror or error}", EXIT_FAILED)


def _fail(message: str, code: int) -> NoReturn:
    print(f"cloud-hub: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def _load(path: Path | None) -> configuration.HubConfig:
    from cloud_hub.app import logs

    settings = configuration.load(path)
    try:
        logs.configure(settings.log_level)
    except ValueError as error:
        raise ConfigError(f"'log_level' must be DEBUG, INFO, WARNING or ERROR, got {settings.log_level!r}") from error
    logging.captureWarnings(True)
    return settings
