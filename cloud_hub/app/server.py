"""One hub in one process: broker, ingest, gRPC, scheduler and training."""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

from cloud_hub.app import bootstrap, scheduler, setup
from cloud_hub.core.config import HubConfig
from cloud_hub.core.errors import Conflict
from cloud_hub.rpc.server import build_server

log = logging.getLogger(__name__)


def serve(config: HubConfig, config_path: Path | None) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        Conflict: another hub runs on this data folder.
        HubError: a part cannot start; the message says which and why.
    """
    setup.initialise(config)
    with _only_hub(config.data_dir):
        hub = bootstrap.assemble(config, config_path)
        with _started(hub):
            asyncio.run(_serve(hub))
    log.info("stopped")


async def _serve(hub: bootstrap.Hub) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server = build_server(
        hub.services, authority=hub.authority, broker=hub.broker.address, config=hub.config.grpc, clock=hub.clock
    )
    await server.start()
    log.info("ready", extra={"broker": hub.broker.address.port})
    _notify("READY=1")
    await stopping.wait()
    _notify("STOPPING=1")
    await server.stop()


@contextlib.contextmanager
def _started(hub: bootstrap.Hub) -> Iterator[None]:
    """The parts beside gRPC, stopped in the opposite order."""
    with contextlib.ExitStack() as stack:
        stack.callback(hub.database.close)
        hub.broker.start()
        stack.callback(hub.broker.stop)
        hub.ingest.start()
        stack.callback(hub.ingest.stop)
        hub.runner.start()
        stack.callback(hub.runner.stop)
        ticks = scheduler.start(hub.ticks, hub.clock)
        stack.callback(ticks.shutdown)
        yield


@contextlib.contextmanager
def _only_hub(folder: Path) -> Iterator[None]:
    with (folder / "hub.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Conflict(f"another hub runs on {folder}: stop it first, or give this one its own data_dir") from error
        yield


def _notify(state: str) -> None:
    """Tell systemd (sd_notify(3)); nothing where it does not listen."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out, contextlib.suppress(OSError):
            out.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
