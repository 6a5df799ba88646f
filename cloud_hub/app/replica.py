"""A process that only ingests telemetry, beside the hub: ``cloud-hub ingest --name ingest-2``.

It takes its share of what the hub's broker shares out and lands it in the hub's database. On the hub's machine it needs the
hub's configuration and nothing else. On another machine ``broker.host`` is the hub's name as it stands in ``grpc.names``,
``database_url`` is the hub's PostgreSQL, and the folder ``broker/tls`` in ``data_dir`` holds ``ca.pem``, ``<name>.pem`` and
``<name>.key``, which a start on the hub's machine makes.
"""

import contextlib
import fcntl
import logging
import os
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cloud_hub.app import bootstrap, monitor, setup
from cloud_hub.broker.identity import local_host, make_ingest_identity
from cloud_hub.broker.mosquitto import PROTOCOL
from cloud_hub.core.config import HubConfig
from cloud_hub.core.errors import Conflict, Invalid, NotReady
from cloud_hub.core.metrics import HubMetrics
from cloud_hub.core.ports import BrokerAddress, TlsFiles
from cloud_hub.ingest.intake import tune_process
from cloud_hub.ingest.service import share_intake
from cloud_hub.trust.authority import MAX_INGEST, Authority
from edge_agent.core.beats import Beats
from edge_agent.core.clock import SystemClock
from edge_agent.core.notify import service_manager

log = logging.getLogger(__name__)

_BEAT_S = 2.0


def ingest(config: HubConfig, name: str) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        Invalid: no such name; ``ingest-1`` is the hub itself.
        Conflict: a process of this name runs already.
        HubError: a part cannot start; the message says which and why.
    """
    number = _number(name)
    setup.make_folder(config)
    stopping = threading.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: stopping.set())
    with _alone(config.data_dir / f"{name}.lock", name), contextlib.closing(setup.open_database(config)) as database:
        database.migrate()
        clock, metrics = SystemClock(), HubMetrics()
        tls = _identity(config.data_dir, number)
        services = bootstrap.make_ingest_services(config, database, clock)
        address = BrokerAddress(host=local_host(config.broker.host), port=config.broker.port, protocol=PROTOCOL)
        intake = share_intake(config.ingest, database, services, address, tls, number=number, clock=clock, metrics=metrics)
        told = monitor.Monitor(
            metrics,
            database=database,
            broker=None,
            ingest=intake,
            beats=Beats(clock),
            certificates={"broker client": tls.certificate},
            clock=clock,
        )
        pages = replace(config.metrics, port=config.metrics.port and config.metrics.port + number - 1)
        tune_process()
        with monitor.serving(pages, told.pages()) as port:
            intake.start()
            log.info("ready", extra={"replica": name, "broker": f"{address.host}:{address.port}", "metrics": port})
            told.running = True
            _beat(told, stopping)
            told.running = False
            intake.stop()
    log.info("stopped")


def _beat(told: monitor.Monitor, stopping: threading.Event) -> None:
    notify = service_manager()
    watched = "WATCHDOG_USEC" in os.environ
    notify("READY=1")
    while not stopping.wait(_BEAT_S):
        if watched and not told.dead():
            notify("WATCHDOG=1")
    log.info("stopping")
    notify("STOPPING=1")


def _number(name: str) -> int:
    match = re.fullmatch(r"ingest-([1-9][0-9]?)", name)
    if match is None or not 2 <= int(match[1]) <= MAX_INGEST:
        raise Invalid(f"a replica's name is one of ingest-2..ingest-{MAX_INGEST}, got {name[:80]!r}")
    return int(match[1])


def _identity(data_dir: Path, number: int) -> TlsFiles:
    """A new certificate where the hub's authority is; on another machine the files that were copied here."""
    folder = data_dir / "broker" / "tls"
    if (data_dir / "ca").exists():
        return make_ingest_identity(Authority.load(data_dir / "ca"), folder, number)
    name = f"ingest-{number}"
    files = TlsFiles(ca=folder / "ca.pem", certificate=folder / f"{name}.pem", key=folder / f"{name}.key")
    missing = [str(path) for path in (files.ca, files.certificate, files.key) if not path.exists()]
    if missing:
        raise NotReady(f"{name} has no identity: copy {', '.join(missing)} from the hub's machine, where it has run once")
    return files


@contextlib.contextmanager
def _alone(path: Path, name: str) -> Iterator[None]:
    """The broker ends the older one of two connections with one name, and each would come again for ever."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(f"a process named {name} runs on this data folder already: give this one another name") from error
        yield
