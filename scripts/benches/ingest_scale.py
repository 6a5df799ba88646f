"""Readings per second into one database by two processes that ingest, against one; each has its share of the same messages.

Publishers, broker and database share the machine with them: where those leave no core idle, no second process can help. How
busy the machine is with one is printed too.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

from sqlalchemy import func, select

from cloud_hub.broker.identity import make_ingest_identity
from cloud_hub.core.metrics import HubMetrics
from cloud_hub.core.ports import Broker, BrokerAddress, TlsFiles
from cloud_hub.ingest.intake import tune_process
from cloud_hub.ingest.service import IngestServices, share_intake
from cloud_hub.services.fleet import FleetService
from cloud_hub.services.packages import PackageService
from cloud_hub.services.registry import RegistryService
from cloud_hub.services.rollouts import RolloutService
from cloud_hub.services.telemetry import TelemetryService
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database
from cloud_hub.store.streams import streams
from edge_agent.core.clock import SystemClock
from scripts.benches._figures import figure
from scripts.benches._postgres import database, postgres
from scripts.benches._traffic import ROWS, prepare, timed, traffic
from scripts.benches.ingest import UNLIMITED

CORES = len(os.sched_getaffinity(0))
AIM = f"ratio >= 1.6 where cores allow; here {CORES}"
FIRST = 2  # numbers of the processes: these have no session that outlives them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds instead of a minute: rougher figures")
    quick = parser.parse_args().quick
    messages, rounds = (6_000, 1) if quick else (30_000, 3)
    rates: dict[tuple[str, int], list[float]] = {(kind, count): [] for kind in ("PostgreSQL", "SQLite") for count in (1, 2)}
    busy: dict[tuple[str, int], list[float]] = {key: [] for key in rates}
    with (
        tempfile.TemporaryDirectory(prefix="bench-scale-") as name,
        traffic(Path(name), messages) as (broker, authority, publisher),
        postgres() as socket,
    ):
        tls = [make_ingest_identity(authority, Path(name) / "tls", number) for number in (FIRST, FIRST + 1)]
        for number in range(rounds):
            for kind, count in rates:
                run = f"round{number}x{count}"
                url = database(socket, run) if kind == "PostgreSQL" else f"sqlite:///{name}/{run}.db"
                prepare(url, authority)
                rate, used = measure(broker, publisher, messages, url, Path(name), tls[:count])
                rates[kind, count].append(rate)
                busy[kind, count].append(used)
    for kind in ("PostgreSQL", "SQLite"):
        one, two = rates[kind, 1], rates[kind, 2]
        ratio = statistics.median(b / a for a, b in zip(one, two, strict=True))
        value, reference = statistics.median(two), statistics.median(one)
        figure("ingest-scale", f"two processes, {kind}", value, "readings/s", reference=reference, ratio=ratio, aim=AIM)
        used = statistics.median(busy[kind, 1])
        figure(
            "ingest-scale", f"cores in use with one process, {kind}", used, "cores", reference=CORES, aim="below 0.6 to scale"
        )


def measure(
    broker: Broker, publisher: Connection, messages: int, url: str, folder: Path, tls: list[TlsFiles]
) -> tuple[float, float]:
    """Readings per second, and how many cores were in use meanwhile."""
    spawn = multiprocessing.get_context("spawn")
    db = Database(url)
    with ExitStack() as stack:
        stack.callback(db.close)
        for number, files in enumerate(tls, FIRST):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=ingest, args=(theirs, url, folder, broker.local, files, number), daemon=True)
            process.start()
            stack.callback(process.join)
            stack.callback(ours.send, "stop")
            assert ours.recv() == "ready"

        def stored() -> bool:
            with db.read() as tx:
                return tx.execute(select(func.sum(streams.c.batches))).scalar() == messages

        used = _used_s()
        seconds = timed(publisher, stored)
        return messages * ROWS / seconds, (_used_s() - used) / seconds


def ingest(pipe: Connection, url: str, folder: Path, address: BrokerAddress, tls: TlsFiles, number: int) -> None:
    """One process, until it is told to stop."""
    tune_process()
    db, clock = Database(url), SystemClock()
    fleet = FleetService(db, clock)
    artifacts = ArtifactStore(folder / "artifacts")
    registry, packages = RegistryService(db, artifacts, clock), PackageService(db, artifacts, clock)
    rollouts = RolloutService(db, registry, fleet, clock, packages)
    services = IngestServices(fleet=fleet, rollouts=rollouts, telemetry=TelemetryService(db, clock))
    intake = share_intake(UNLIMITED, db, services, address, tls, number=number, clock=clock, metrics=HubMetrics())
    intake.start()
    while not intake.ready:
        if pipe.poll(0.01):
            return
    pipe.send("ready")
    pipe.recv()
    intake.stop()
    db.close()


def _used_s() -> float:
    """Seconds of all cores that were not idle, by whoever."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
