"""Processes that ingest beside the hub: what one of them had when it stopped or died is neither lost nor doubled."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from sqlalchemy import select

from cloud_hub.app import replica
from cloud_hub.core.config import HubConfig
from cloud_hub.core.errors import Invalid, NotReady
from cloud_hub.store import landing, losses, streams
from cloud_hub.store.landing import Landed
from tests.hub.ingest.parts import Ingesting, Repeating
from tests.hub.mqtt_parts import batch, wait_for

DEVICES = 6
BATCHES = 40


class Replica:
    """``cloud-hub ingest`` beside the hub of ``running``."""

    def __init__(self, running: Ingesting, name: str) -> None:
        config = running.folder / f"{name}.yaml"
        settings = {
            "data_dir": str(running.folder),
            "database_url": running.database_url,
            "broker": {"port": running.broker.local.port},
            "metrics": {"port": 0},
            "ingest": {"group_messages": 5, "group_wait_s": 0.01},
        }
        config.write_text(yaml.safe_dump(settings))
        self.log = running.folder / f"{name}.log"
        with self.log.open("w") as log:
            program = Path(sys.executable).parent / "cloud-hub"
            command: list[str | Path] = [program, "ingest", "--config", str(config), "--name", name]
            self.process = subprocess.Popen(command, stderr=log, stdout=log)

    def ready(self) -> "Replica":
        wait_for(
            lambda: "connected to the broker" in self.log.read_text() or self.process.poll() is not None, "the replica", 60
        )
        assert self.process.poll() is None, self.log.read_text()
        return self


@pytest.fixture
def running(tmp_path: Path, database_url: str) -> Iterator[Ingesting]:
    # a process that is stopped in the middle of a transaction holds its locks for so long
    soon = quote("-c idle_in_transaction_session_timeout=3s")
    url = database_url if database_url.startswith("sqlite") else f"{database_url}&options={soon}"
    made = Ingesting(tmp_path, database_url=url).start()
    yield made
    made.stop()


def all_of(running: Ingesting) -> list[Landed]:
    with running.hub.db.read() as tx:
        assert tx.execute(select(losses.losses)).all() == []
        return landing.unfolded(tx, 10_000)


def test_replicas_that_stop_and_die_lose_nothing_and_store_nothing_twice(running: Ingesting, database_kind: str) -> None:
    replicas = [Replica(running, name) for name in ("ingest-2", "ingest-3")]
    try:
        for one in replicas:
            one.ready()
        sent = [batch(10 * number) for number in range(BATCHES)]
        devices = [Repeating(running, f"cam-{number}", sent) for number in range(DEVICES)]

        def landed() -> int:
            for device in devices:
                device.done()
            return sum(running.stored(device.id) for device in devices)

        wait_for(lambda: landed() > DEVICES * BATCHES // 6, "the first batches")
        if database_kind == "postgres":  # SQLite's one lock would stop with it
            os.kill(replicas[0].process.pid, signal.SIGSTOP)
        wait_for(lambda: landed() > DEVICES * BATCHES // 3, "some more")
        replicas[1].process.kill()
        wait_for(lambda: all([device.done() for device in devices]), "all marks", 90)
        os.kill(replicas[0].process.pid, signal.SIGCONT)
        replicas[0].process.terminate()
        assert replicas[0].process.wait(30) == 0, replicas[0].log.read_text()
    finally:
        for one in replicas:
            one.process.kill()
            one.process.wait()
    found = all_of(running)
    assert len(found) == DEVICES * BATCHES
    for device in devices:
        assert [one.first_sequence for one in found if one.device == device.id] == [one.first_sequence for one in sent]
    with running.hub.db.read() as tx:
        rows = tx.execute(select(streams.streams)).all()
    assert {(row.committed_through, row.batches, row.records) for row in rows} == {(10 * BATCHES - 1, BATCHES, 10 * BATCHES)}
    assert running.ingest.counters.batches < DEVICES * BATCHES, "the replicas had no share"


@pytest.mark.parametrize("name", ["ingest-1", "ingest-17", "ingest-02", "hub", ""])
def test_a_name_that_the_broker_does_not_know_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid, match="ingest-2"):
        replica.ingest(HubConfig(data_dir=tmp_path), name)


def test_a_replica_without_its_identity_says_which_files_it_needs(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="ingest-2.key"):
        replica.ingest(HubConfig(data_dir=tmp_path), "ingest-2")
