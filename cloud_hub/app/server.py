"""One hub in one process: broker, ingest, gRPC, scheduler and training."""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from cloud_hub.app import bootstrap, scheduler, setup
from cloud_hub.core.config import GrpcConfig, HubConfig
from cloud_hub.core.errors import Conflict, NotReady
from cloud_hub.ingest.service import tune_process
from cloud_hub.rpc.server import HubServer, build_server

log = logging.getLogger(__name__)


def serve(config: HubConfig, config_path: Path | None) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        Conflict: another hub runs on this data folder.
        HubError: a part cannot start; the message says which and why.
    """
    setup.make_folder(config)
    with _only_hub(config.data_dir):
        setup.initialise(config)
        asyncio.run(_serve(config, config_path))
    log.info("stopped")


async def _serve(config: HubConfig, config_path: Path | None) -> None:
    """Starts and stops block the loop, which serves nobody then; a signal in between is seen to afterwards."""
    notify = _service_manager()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    hub = bootstrap.assemble(config, config_path)
    server = _bind(hub)
    tune_process()
    with _started(hub):
        await server.start()
        log.info("ready", extra={"hub": server.addresses.hub, "broker": hub.broker.address.port})
        notify("READY=1")
        await stopping.wait()
        log.info("stopping")
        notify("STOPPING=1")
        await server.stop()


def _bind(hub: bootstrap.Hub) -> HubServer:
    """Before anything else is started: a port in use must not cost a training job an attempt."""
    grpc = hub.config.grpc
    _check_free(grpc)
    try:
        return build_server(hub.services, authority=hub.authority, broker=hub.broker.address, config=grpc, clock=hub.clock)
    except RuntimeError as error:
        raise NotReady(f"gRPC cannot listen on {grpc.host}: {error}") from error


def _check_free(config: GrpcConfig) -> None:
    """gRPC's own error names no reason. Raises NotReady."""
    for key, port in (("port", config.port), ("enroll_port", config.enroll_port)):
        try:
            socket.create_server((config.host, port)).close()
        except OSError as error:
            why = error.strerror or error
            raise NotReady(f"gRPC cannot listen on {config.host}:{port}: {why}; end what does, or set grpc.{key}") from error


@contextlib.contextmanager
def _started(hub: bootstrap.Hub) -> Iterator[None]:
    """The parts beside gRPC, stopped in the opposite order."""
    with contextlib.ExitStack() as stack:
        stack.callback(hub.database.close)
        hub.broker.start()
        stack.callback(hub.broker.stop)
        hub.ingest.start()
        stack.callback(hub.ingest.stop)
        ticks = scheduler.start(hub.ticks, hub.clock)
        stack.callback(ticks.shutdown)
        hub.runner.start()
        stack.callback(hub.runner.stop)
        yield


@contextlib.contextmanager
def _only_hub(folder: Path) -> Iterator[None]:
    with (folder / "hub.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(f"another hub runs on {folder}: stop it first, or give this one its own data_dir") from error
        yield


def _service_manager() -> Callable[[str], None]:
    """What tells systemd (sd_notify(3)); nothing where it does not listen. The children get no word in: mosquitto would."""
    address = os.environ.pop("NOTIFY_SOCKET", "")

    def notify(state: str) -> None:
        if address:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out, contextlib.suppress(OSError):
                out.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)

    return notify
