"""One hub in one process: broker, ingest, gRPC, scheduler and training."""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from cloud_hub.app import bootstrap, leader, monitor, scheduler, setup
from cloud_hub.core.config import GrpcConfig, HubConfig
from cloud_hub.core.errors import Conflict, NotReady
from cloud_hub.ingest.intake import tune_process
from cloud_hub.rpc.server import HubServer, build_server
from edge_agent.core.notify import Notify, service_manager

log = logging.getLogger(__name__)

_LOOP = "grpc loop"
_BEAT_S = 2.0
_LOOP_HUNG_S = 60.0


def serve(config: HubConfig, config_path: Path | None, *, insecure_dev: bool = False) -> None:
    """Stand by while another hub leads, then run, until SIGTERM or SIGINT.

    ``insecure_dev``: the port for tokens speaks plain text.

    Raises:
        Invalid: ``insecure_dev`` on an address that others can reach.
        Conflict: another hub runs on this data folder or this SQLite database, or took over while the database was away or this
            process was stopped; or the database is that of another authority.
        HubError: a part cannot start; the message says which and why.
    """
    setup.make_folder(config)
    notify = service_manager()
    with _only_hub(config.data_dir), leader.leading(config, notify) as epoch:
        if epoch is not None:
            asyncio.run(_serve(config, config_path, insecure_dev, epoch, notify))
    log.info("stopped")


async def _serve(config: HubConfig, config_path: Path | None, insecure_dev: bool, epoch: int, notify: Notify) -> None:
    """Starts and stops block the loop, which serves nobody then; a signal in between is seen to afterwards."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    hub = bootstrap.assemble(config, config_path, epoch=epoch)
    server = _bind(hub, insecure_dev)
    tune_process()
    with monitor.serving(config.metrics, hub.monitor.pages()) as port, _started(hub):
        await server.start()
        hub.monitor.running = True
        told = {"hub": server.addresses.hub, "broker": hub.broker.address.port, "metrics": port, "term": epoch}
        log.info("ready", extra=told)
        notify("READY=1")
        async with _beating(hub, notify):
            await stopping.wait()
        log.info("stopping")
        notify("STOPPING=1")
        hub.monitor.running = False
        await server.stop()


@contextlib.asynccontextmanager
async def _beating(hub: bootstrap.Hub, notify: Notify) -> AsyncIterator[None]:
    """The loop that serves gRPC says that it turns; the service manager is told as long as nothing of the hub is dead."""
    watched = "WATCHDOG_USEC" in os.environ

    async def beat() -> None:
        while True:
            hub.beats.beat(_LOOP)
            if watched and not hub.monitor.dead():
                notify("WATCHDOG=1")
            await asyncio.sleep(_BEAT_S)

    hub.beats.expect(_LOOP, within_s=_LOOP_HUNG_S)
    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()


def _bind(hub: bootstrap.Hub, insecure_dev: bool) -> HubServer:
    """Before anything else is started: a port in use must not cost a training job an attempt."""
    grpc = hub.config.grpc
    _check_free(grpc)
    try:
        return build_server(
            hub.services,
            authority=hub.authority,
            broker=hub.broker.address,
            config=grpc,
            clock=hub.steady,
            metrics=hub.metrics,
            insecure_dev=insecure_dev,
        )
    except RuntimeError as error:
        raise NotReady(f"gRPC cannot listen on {grpc.host}: {error}") from error


def _check_free(config: GrpcConfig) -> None:
    """gRPC's own error names no reason. Raises NotReady."""
    for key, port in (("port", config.port), ("enroll_port", config.enroll_port), ("token_port", config.token_port)):
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
        stack.callback(hub.services.readings.close)
        hub.services.audit.tick(hub.clock.now())  # an anchor of what was there when it started
        hub.revocation.tick(hub.steady.now())  # a list that expired while the hub was down would let nobody in
        hub.broker.start()
        stack.callback(hub.broker.stop)
        hub.ingest.start()
        stack.callback(hub.ingest.stop)
        hub.dispatcher.start()
        stack.callback(hub.dispatcher.stop)
        ticks = scheduler.start(hub.ticks, hub.clock, metrics=hub.metrics, beats=hub.beats)
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
