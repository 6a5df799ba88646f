"""What only a file can go through: restarts, crashes, damage and full disks."""

import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.core.clock import SystemClock
from edge_agent.core.config import SpoolConfig
from edge_agent.core.errors import DiskFull, Permanent, Retryable
from edge_agent.spool import intake, recovery
from edge_agent.spool.sqlite import SqliteSpool
from edge_agent.spool.store import Store
from protos.contract.telemetry import Lane, Mark
from tests.agent.clocks import ManualClock
from tests.agent.spool.parts import accounted, happening, held, outcome
from tests.agent.spool.test_spool import incompressible

CONFIG = SpoolConfig(batch_records=10, linger_s=2.0, commit_interval_s=0.01)

Open = Callable[..., SqliteSpool]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


def append(spool: SqliteSpool, records: int, lane: Lane = Lane.NORMAL) -> None:
    for i in range(records):
        spool.append(outcome(i), lane)
    spool.flush()


def reopen(spool: SqliteSpool, path: Path, clock: ManualClock, config: SpoolConfig = CONFIG) -> SqliteSpool:
    spool.close()
    return SqliteSpool(path, config, clock)


def test_numbers_epoch_and_bytes_go_on_after_a_restart(path: Path, clock: ManualClock) -> None:
    spool = SqliteSpool(path, CONFIG, clock)
    append(spool, 23)
    epoch, before = spool.epoch, spool.batches(after=None, lane=Lane.NORMAL, limit=9)
    spool = reopen(spool, path, clock)
    assert spool.epoch == epoch
    assert spool.batches(after=None, lane=Lane.NORMAL, limit=9) == before
    assert spool.stats().records == 23
    assert spool.append(outcome()) == 23
    spool.flush()
    clock.advance(CONFIG.linger_s)
    assert accounted(held(spool)) == list(range(24))
    spool.close()


def test_numbers_go_on_after_everything_was_discarded(path: Path, clock: ManualClock) -> None:
    spool = SqliteSpool(path, CONFIG, clock)
    append(spool, 20)
    spool.discard([Mark(epoch=spool.epoch, lane=Lane.NORMAL, committed_through=19)])
    spool = reopen(spool, path, clock)
    assert held(spool) == []
    assert spool.append(outcome()) == 20
    spool.close()


def test_what_was_handed_out_before_a_restart_is_never_dropped(path: Path, clock: ManualClock) -> None:
    config = replace(CONFIG, max_bytes=12_000)
    spool = SqliteSpool(path, config, clock)
    incompressible(spool, 10, Lane.NORMAL)
    sent = spool.batches(after=None, lane=Lane.NORMAL, limit=1)
    spool = reopen(spool, path, clock, config)
    incompressible(spool, 300, Lane.NORMAL)
    assert spool.batches(after=None, lane=Lane.NORMAL, limit=1) == sent
    spool.close()


def test_the_drop_count_survives_a_restart(path: Path, clock: ManualClock) -> None:
    config = replace(CONFIG, max_bytes=12_000)
    spool = SqliteSpool(path, config, clock)
    incompressible(spool, 300, Lane.NORMAL)
    dropped = spool.stats().dropped
    spool = reopen(spool, path, clock, config)
    assert spool.stats().dropped == dropped > 0
    spool.close()


def test_the_committer_commits_and_cuts_without_being_asked(path: Path) -> None:
    import threading

    cut = threading.Event()
    spool = SqliteSpool(path, replace(CONFIG, linger_s=0.05), SystemClock())
    spool.on_batch(cut.set)
    spool.append(outcome())
    assert cut.wait(10)
    assert accounted(held(spool)) == [0]
    spool.close()


def test_close_keeps_what_was_queued_and_may_be_repeated(path: Path, clock: ManualClock) -> None:
    spool = SqliteSpool(path, replace(CONFIG, commit_interval_s=60.0), clock)
    spool.append(outcome())
    spool.close()
    spool.close()
    with pytest.raises(Permanent, match="closed"):
        spool.append(outcome())
    spool = SqliteSpool(path, CONFIG, clock)
    assert spool.stats().records == 1
    spool.close()


def test_a_second_process_on_the_same_file_is_told_so(path: Path, clock: ManualClock) -> None:
    spool = SqliteSpool(path, CONFIG, clock)
    with pytest.raises(Retryable, match="in use"):  # not a ConfigError: a service ends for good over one
        SqliteSpool(path, CONFIG, clock)
    spool.close()


@pytest.mark.parametrize("damage", ["noise", "truncated", "empty tables", "another format"])
def test_a_damaged_file_is_set_aside_and_said_so(path: Path, clock: ManualClock, damage: str) -> None:
    spool = SqliteSpool(path, CONFIG, clock)
    append(spool, 200)
    epoch = spool.epoch
    spool.close()
    content = path.read_bytes()
    if damage == "noise":
        path.write_bytes(b"\xa5" * len(content))
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        with sqlite3.connect(path) as db:
            db.execute("DELETE FROM lane" if damage == "empty tables" else "PRAGMA user_version=99")
        db.close()
    spool = SqliteSpool(path, CONFIG, clock)
    assert path.with_name("spool.db.corrupt-1").exists()
    assert spool.epoch != epoch
    assert spool.append(outcome()) == 0
    spool.flush()
    clock.advance(CONFIG.linger_s)
    (batch,) = held(spool, Lane.CRITICAL)
    assert [event.kind for event in batch.events] == ["spool.reset"]
    spool.close()


def test_damaged_files_do_not_pile_up(path: Path, clock: ManualClock) -> None:
    for _ in range(5):
        path.write_bytes(b"not a database, but long enough to be taken for one" * 100)
        SqliteSpool(path, CONFIG, clock).close()
    assert sorted(p.name for p in path.parent.glob("*corrupt*")) == ["spool.db.corrupt-4", "spool.db.corrupt-5"]


def break_file(spool: SqliteSpool) -> None:
    db = spool._store._connection
    db.execute("PRAGMA writable_schema=ON")
    db.execute("UPDATE sqlite_schema SET rootpage=99999 WHERE name='batch'")
    db.execute("PRAGMA writable_schema=RESET")


def test_damage_while_running_starts_a_new_epoch_with_what_is_in_memory(path: Path, clock: ManualClock) -> None:
    spool = SqliteSpool(path, replace(CONFIG, commit_interval_s=60.0), clock)
    append(spool, 15)
    epoch = spool.epoch
    spool.append(outcome(77))
    break_file(spool)
    spool.batches(after=None, lane=Lane.NORMAL, limit=1)
    assert spool.epoch != epoch
    clock.advance(CONFIG.linger_s)
    spool.flush()
    clock.advance(CONFIG.linger_s)
    assert [row.label for batch in held(spool) for row in batch.inferences.rows()] == [10, 11, 12, 13, 14, 77]
    assert [e.kind for b in held(spool, Lane.CRITICAL) for e in b.events] == ["spool.reset"]
    assert spool.append(outcome()) == 6
    spool.close()


@pytest.mark.parametrize(("failures", "on_disk"), [(1, True), (2, False)])
def test_damage_on_a_full_disk_does_not_end_the_spool(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, failures: int, on_disk: bool
) -> None:
    spool = SqliteSpool(path, replace(CONFIG, commit_interval_s=60.0), clock)
    append(spool, 15)
    left = [failures]

    def full(where: Path, *, max_bytes: int) -> Store:
        left[0] -= 1
        if left[0] >= 0:
            raise DiskFull("no room")
        return Store(where, max_bytes=max_bytes)

    monkeypatch.setattr(recovery, "Store", full)
    break_file(spool)
    spool.batches(after=None, lane=Lane.NORMAL, limit=1)
    append(spool, 5)
    clock.advance(CONFIG.linger_s)
    assert accounted(held(spool)) == list(range(10))
    assert path.exists() is on_disk
    assert not list(path.parent.glob("*corrupt*")), "the damaged file kept the room"
    spool.close()


def test_a_batch_that_rots_on_the_disk_becomes_a_gap_of_the_same_range(path: Path, clock: ManualClock) -> None:
    spool = SqliteSpool(path, CONFIG, clock)
    append(spool, 30)
    spool.close()
    with sqlite3.connect(path) as db:
        (payload,) = db.execute("SELECT payload FROM batch WHERE first=10").fetchone()
        flipped = bytearray(payload)
        flipped[len(flipped) // 2] ^= 4
        db.execute("UPDATE batch SET payload=? WHERE first=10", (bytes(flipped),))
    db.close()
    spool = SqliteSpool(path, CONFIG, clock)
    batches = held(spool)
    assert [(b.first_sequence, b.last_sequence, b.dropped) for b in batches] == [(0, 9, 0), (10, 19, 10), (20, 29, 0)]
    assert held(spool) == batches
    assert spool.stats().dropped == 10
    spool.close()


def test_an_open_row_that_rots_becomes_a_gap(path: Path, clock: ManualClock) -> None:
    spool = SqliteSpool(path, CONFIG, clock)
    append(spool, 3)
    spool.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE open SET row=x'00' WHERE first=1")
    db.close()
    spool = SqliteSpool(path, CONFIG, clock)
    clock.advance(CONFIG.linger_s)
    (batch,) = held(spool)
    assert batch.records == 2 and batch.dropped == 1
    spool.close()


def limit_pages(spool: SqliteSpool, extra: int) -> None:
    """A disk with room for so many pages more."""
    db = spool._store._connection
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    if free > 8:  # what a new file has in reserve
        db.execute("CREATE TABLE filler (bytes BLOB)")
        db.execute("INSERT INTO filler VALUES (zeroblob(?))", ((free - 4) * 4092,))
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    spool._store._most_pages = pages + extra
    spool._store._fit_disk(at_first=True)


def test_a_full_disk_drops_bulk_for_critical_and_accounts_for_every_record(path: Path, clock: ManualClock) -> None:
    spool = SqliteSpool(path, CONFIG, clock)
    incompressible(spool, 300, Lane.BULK)
    limit_pages(spool, 0)
    for _ in range(20):
        incompressible(spool, 10, Lane.CRITICAL)
    critical = held(spool, Lane.CRITICAL)
    assert accounted(critical) == list(range(200)) and not any(batch.gaps for batch in critical)
    bulk = held(spool, Lane.BULK)
    assert accounted(bulk) == list(range(300)) and any(gap.reason == "disk full" for batch in bulk for gap in batch.gaps)
    stats = spool.stats()
    assert stats.records + stats.dropped == 500
    spool.close()


def test_a_full_disk_takes_nothing_that_ranks_higher_for_bulk(path: Path, clock: ManualClock) -> None:
    spool = SqliteSpool(path, CONFIG, clock)
    incompressible(spool, 100, Lane.NORMAL)
    limit_pages(spool, 0)
    for _ in range(20):
        incompressible(spool, 10, Lane.BULK)
    assert not any(batch.gaps for batch in held(spool))
    limit_pages(spool, 1000)
    incompressible(spool, 10, Lane.BULK)
    clock.advance(CONFIG.linger_s)
    bulk = held(spool, Lane.BULK)
    assert accounted(bulk) == list(range(210))
    assert sum(batch.dropped for batch in bulk) == spool.stats().dropped > 0
    spool.close()


def test_appending_never_raises_when_the_file_cannot_grow_at_all(path: Path) -> None:
    """In a child, because a file size limit holds for a whole process."""
    out = subprocess.run([sys.executable, "-c", _NO_GROWTH, str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert out.returncode == 0, out.stderr
    dropped, kept, accounted_for = map(int, out.stdout.split())
    assert dropped > 0
    assert dropped + kept == accounted_for == 400


_NO_GROWTH = """
import resource, sys
from pathlib import Path
from edge_agent.core.config import SpoolConfig
from edge_agent.spool.sqlite import SqliteSpool
from edge_agent.spool.store import Store
from protos.contract.telemetry import Lane
from tests.agent.clocks import ManualClock
from tests.agent.spool.parts import held
from tests.agent.spool.test_spool import incompressible

clock = ManualClock()
spool = SqliteSpool(Path(sys.argv[1]), SpoolConfig(batch_records=10, commit_interval_s=0.01), clock)
incompressible(spool, 100, Lane.NORMAL)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
for _ in range(29):
    incompressible(spool, 10, Lane.NORMAL)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
incompressible(spool, 10, Lane.NORMAL)
clock.advance(10)
batches = held(spool)
assert batches[0].first_sequence == 0
for a, b in zip(batches, batches[1:]):
    assert b.first_sequence == a.last_sequence + 1
print(sum(b.dropped for b in batches), sum(b.records for b in batches), batches[-1].last_sequence + 1)
spool.close()
"""


def test_a_queue_that_outruns_the_disk_is_bounded_and_accounted_for(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MAX_QUEUED", 30)
    spool = SqliteSpool(path, replace(CONFIG, commit_interval_s=60.0), clock)
    for i in range(50):
        spool.append(outcome(i))
    spool.append(happening(), Lane.BULK)
    spool.flush()
    clock.advance(CONFIG.linger_s)
    assert accounted(held(spool)) == list(range(50))
    assert accounted(held(spool, Lane.BULK)) == [0]
    assert spool.stats().dropped == 21
    spool.close()


_APPENDER = """
import sys
from pathlib import Path
from edge_agent.core.clock import SystemClock
from edge_agent.core.config import SpoolConfig
from edge_agent.spool.sqlite import SqliteSpool
from edge_agent.spool.store import Store
from protos.contract.telemetry import Lane
from tests.agent.spool.parts import happening, outcome

spool = SqliteSpool(Path(sys.argv[1]), SpoolConfig(batch_records=7, linger_s=0.02, commit_interval_s=0.005), SystemClock())
print("ready", flush=True)
while True:
    normal = [spool.append(outcome(i)) for i in range(5)][-1]
    spool.flush()
    print("NORMAL", normal, flush=True)
    print("CRITICAL", spool.append(happening(), Lane.CRITICAL), flush=True)
"""


def test_what_was_durable_survives_kill_nine_and_no_sequence_ever_has_other_bytes(path: Path, clock: ManualClock) -> None:
    seed = random.Random(7)
    durable = {Lane.NORMAL: -1, Lane.CRITICAL: -1}
    handed: dict[tuple[str, Lane, int], bytes] = {}
    for _ in range(6):
        child = subprocess.Popen([sys.executable, "-c", _APPENDER, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "ready\n"
            for _ in range(seed.randrange(20, 200)):
                lane, sequence = child.stdout.readline().split()
                durable[Lane[lane]] = int(sequence)
        finally:
            child.send_signal(signal.SIGKILL)
        rest = [line.split() for line in child.communicate()[0].splitlines() if line.endswith(tuple("0123456789"))]
        durable |= {Lane[name]: int(sequence) for name, sequence in rest[:-1]}  # the last line may be cut short
        spool = SqliteSpool(path, CONFIG, clock)
        clock.advance(CONFIG.linger_s)
        for one, through in durable.items():
            found = spool.batches(after=None, lane=one, limit=10_000)
            numbers = accounted([batch for batch, _ in found])
            assert numbers == list(range(len(numbers))) and len(numbers) > through
            assert not any(batch.gaps for batch, _ in found)
            for batch, payload in found:
                assert handed.setdefault((batch.epoch, one, batch.first_sequence), payload) == payload
        assert len({epoch for epoch, _, _ in handed}) == 1
        spool.close()
