"""Cut short anywhere, by an error or by a kill, and gone on with: every reading is in exactly one place all the time."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import select

from cloud_hub.archive import parquet
from cloud_hub.archive.files import Files, LocalFiles
from cloud_hub.store import archive as archive_store
from cloud_hub.store.archive import Kind
from cloud_hub.store.database import Database
from cloud_hub.store.landing import landing
from protos.contract import codec
from protos.contract.telemetry import MAX_TIME_MS
from tests.hub.archive.parts import Store
from tests.hub.telemetry_parts import TENANT, batch

KILLS = 8

CHILD = """
import sys
from datetime import datetime, timedelta
from pathlib import Path
from cloud_hub.archive.files import LocalFiles
from cloud_hub.archive.upkeep import Upkeep
from cloud_hub.core.config import TelemetryConfig
from cloud_hub.store.database import Database
from edge_agent.core.clock import SystemClock

database, archive, now = sys.argv[1], Path(sys.argv[2]), datetime.fromisoformat(sys.argv[3])
config = TelemetryConfig(compact_after_s=0.001, file_readings=60)
upkeep = Upkeep(Database(database), LocalFiles(archive), config, SystemClock())
print("running", flush=True)
while True:
    now += timedelta(seconds=240)
    upkeep.tick(now)
"""


class Fault(Exception):
    pass


@dataclass
class Faulty:
    """Files that fail at the step they are told, before it or after it."""

    real: Files
    at: int
    after: bool
    steps: int = 0
    log: list[str] = field(default_factory=list)

    @property
    def root(self) -> str:
        return self.real.root

    @property
    def fsspec(self) -> object:
        return self.real.fsspec

    def put(self, path: str, data: bytes) -> None:
        self._step(f"put {path.split('/')[0]}", lambda: self.real.put(path, data))

    def get(self, path: str) -> bytes:
        return self.real.get(path)

    def list(self, folder: str) -> Iterator[str]:
        return self.real.list(folder)

    def delete(self, path: str) -> None:
        self._step(f"delete {path.split('/')[0]}", lambda: self.real.delete(path))

    def _step(self, what: str, act: Callable[[], None]) -> None:
        self.steps += 1
        self.log.append(what)
        if self.steps == self.at and not self.after:
            raise Fault(what)
        act()
        if self.steps == self.at:
            raise Fault(what)


def places(db: Database, files: Files) -> list[tuple[str, int]]:
    """(epoch, sequence) of every reading, once for each place that it is in."""
    with db.read() as tx:
        payloads = tx.execute(select(landing.c.payload)).scalars().all()
        live = archive_store.live(tx, TENANT, Kind.READINGS, 0, MAX_TIME_MS)
    found = [
        (decoded.epoch, int(sequence))
        for decoded in map(codec.decode_batch, payloads)
        for sequence in decoded.inferences.sequence
    ]
    for file in live:
        rows = parquet.read(files.get(file.path)).select(["epoch", "sequence"]).to_pylist()
        found += [(row["epoch"], row["sequence"]) for row in rows]
    return sorted(found)


def expected(readings: int) -> list[tuple[str, int]]:
    return sorted(("e1", sequence) for sequence in range(readings))


def settled(store: Store) -> None:
    """Two ticks later, when no query can need what has ended, nothing is on the disk that no row lists."""
    store.restart()
    for _ in range(2):
        store.clock.advance(3600)
        store.upkeep.tick()
    with store.db.read() as tx:
        must, may = archive_store.paths(tx)
    assert store.paths() == must | may


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_fault_at_any_step_loses_nothing_and_doubles_nothing(local: Store, after: bool) -> None:
    """Each round begins with what the last one left half done."""
    real = local.files
    local.configure(file_readings=1000, query_timeout_s=1.0)
    sent = 0
    hit: set[str] = set()
    for round in range(36):
        for first in range(sent, sent + 20, 10):
            local.land(batch(first))
        sent += 20
        local.fold()
        local.clock.advance(240)
        reference = local.all()
        local.files = faulty = Faulty(real, 1 + round % 5, after)
        local.restart()
        try:
            local.upkeep.tick()
        except Fault as fault:
            hit.add(str(fault))
        local.files = real
        assert places(local.db, real) == expected(sent), faulty.log
        assert local.all() == reference, faulty.log
    assert hit == {"put archive.json", "put readings", "delete readings"}
    settled(local)
    assert local.all() == reference


def test_a_fault_in_the_transaction_itself_leaves_all_as_it_was(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    local.land(*(batch(first) for first in range(0, 100, 10)))
    local.land(batch(100))
    local.fold()
    local.clock.advance(61)
    real = archive_store._add

    def broken(*args: object) -> None:
        real(*args)  # type: ignore[arg-type]
        raise Fault

    monkeypatch.setattr(archive_store, "_add", broken)
    with pytest.raises(Fault):
        local.upkeep.tick()
    monkeypatch.undo()
    assert places(local.db, local.files) == expected(110)
    assert local.paths()  # written, and in nobody's list
    settled(local)
    assert places(local.db, local.files) == expected(110)


def test_a_compactor_killed_at_random_loses_nothing_and_doubles_nothing(
    db: Database, database_url: str, local_files: LocalFiles, tmp_path: Path
) -> None:
    store = Store(db=db, files=local_files, folder=tmp_path)
    dice = random.Random(7)
    sent = 0
    reference: list[object] = []
    for kill in range(KILLS):
        for first in range(sent, sent + 100, 10):
            store.land(batch(first))
        sent += 100
        store.fold()
        reference = list(store.all())
        store.clock.advance(3600)
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, database_url, str(tmp_path / "archive"), store.clock.now().isoformat()],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert child.stdout is not None and child.stdout.readline() == b"running\n"
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(dice.uniform(0.0, 0.15))
        child.kill()
        child.wait()
        child.stdout.close()
        assert places(db, local_files) == expected(sent), kill
        assert store.all() == reference, kill
    store.clock.advance(7 * 24 * 3600)  # the children's clocks ran on
    settled(store)
    assert store.all() == reference
