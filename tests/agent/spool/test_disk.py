"""A real small disk: how much of it the spool takes, and what it does when there is none."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.core.config import SpoolConfig
from edge_agent.spool import schema
from edge_agent.spool.room import RESERVE_BYTES
from edge_agent.spool.sqlite import SqliteSpool
from protos.contract.telemetry import Lane, Mark
from tests.agent.clocks import ManualClock
from tests.agent.spool.parts import accounted, happening, held
from tests.agent.spool.test_spool import incompressible

CONFIG = SpoolConfig(batch_records=10, linger_s=2.0, commit_interval_s=60.0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Of 6 MiB."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", tmp_path], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"needs a file system of its own, which takes root: {mounted.stderr.strip() or 'mount failed'}")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


def fill(disk: Path, *, leaving: int = 0) -> None:
    with (disk / "ballast").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    size = (disk / "ballast").stat().st_size
    os.truncate(disk / "ballast", max(0, size - leaving))


def account(spool: SqliteSpool, lane: Lane) -> tuple[int, int]:
    """Records kept and dropped, of a lane without a hole from 0 on."""
    batches = held(spool, lane)
    numbers = accounted(batches)
    assert numbers == list(range(len(numbers)))
    return sum(batch.records for batch in batches), sum(batch.dropped for batch in batches)


def test_the_files_stay_within_their_bound_through_a_long_time_offline(tmp_path: Path, clock: ManualClock) -> None:
    config = SpoolConfig(max_bytes=2 << 20, batch_records=100, commit_interval_s=60.0)
    spool = SqliteSpool(tmp_path / "spool.db", config, clock)
    bound = config.max_bytes * 3 // 2 + schema.SPARE_BYTES + 2 * schema.WAL_BYTES + RESERVE_BYTES
    assert bound <= config.max_bytes * 3 // 2 + (5 << 20)
    most = 0
    for i in range(20_000):
        spool.append(happening(detail=os.urandom(100).hex()), (Lane.NORMAL, Lane.BULK)[i % 7 == 0])
        if i % 500 == 0:
            spool.append(happening(detail=os.urandom(400).hex()), Lane.CRITICAL)
        if i % 100 == 0:
            batches = spool.batches(after=None, lane=Lane.NORMAL, limit=20)
            assert batches or i < 200
        if i % 50 == 0:
            spool.flush()
            files = sum(path.stat().st_size for path in tmp_path.iterdir())
            most = max(most, files)
            assert spool.stats().file_bytes == files
    spool.flush()
    assert most <= bound
    assert spool.stats().bytes <= config.max_bytes
    assert spool.stats().dropped > 0, "it was long enough"
    spool.close()


def test_a_disk_that_fills_up_loses_bulk_first_and_critical_last(disk: Path, clock: ManualClock) -> None:
    spool = SqliteSpool(disk / "spool.db", CONFIG, clock)
    incompressible(spool, 6000, Lane.BULK)
    fill(disk)
    for _ in range(20):
        incompressible(spool, 10, Lane.CRITICAL)
        fill(disk)  # whatever else runs takes every byte that comes free
    assert account(spool, Lane.CRITICAL) == (200, 0)
    kept, dropped = account(spool, Lane.BULK)
    assert kept + dropped == 6000 and dropped > 0
    spool.discard([Mark(epoch=spool.epoch, lane=Lane.CRITICAL, committed_through=99)])
    assert spool.held()[0].oldest == 100, "what the hub has leaves the file all the same"
    spool.close()
    spool = SqliteSpool(disk / "spool.db", CONFIG, clock)
    assert account(spool, Lane.BULK) == (kept, dropped)
    spool.close()


def test_records_that_find_no_room_at_all_are_told_of_once_there_is_some(disk: Path, clock: ManualClock) -> None:
    spool = SqliteSpool(disk / "spool.db", CONFIG, clock)
    incompressible(spool, 10, Lane.NORMAL)
    fill(disk)
    for _ in range(200):
        incompressible(spool, 10, Lane.CRITICAL)
        fill(disk)
    spool.flush()
    (disk / "ballast").unlink()
    incompressible(spool, 10, Lane.CRITICAL)
    clock.advance(CONFIG.linger_s)
    kept, dropped = account(spool, Lane.CRITICAL)
    assert kept + dropped == 2010 and dropped > 0
    assert sum(account(spool, Lane.NORMAL)) == 10
    assert spool.stats().dropped == dropped + account(spool, Lane.NORMAL)[1]
    assert not spool.stats().failing
    incompressible(spool, 100, Lane.NORMAL)
    assert account(spool, Lane.NORMAL)[0] >= 100, "the file grows again"
    spool.close()


@pytest.mark.parametrize("pages", [0, 1, 3, 8, 20, 60, 150, 300, 600])
def test_a_start_on_a_disk_with_little_room_takes_records_all_the_same(disk: Path, clock: ManualClock, pages: int) -> None:
    fill(disk, leaving=pages * 4096)
    spool = SqliteSpool(disk / "spool.db", CONFIG, clock)
    for _ in range(5):
        incompressible(spool, 10, Lane.CRITICAL)
        fill(disk)
    (disk / "ballast").unlink()
    spool.flush()
    clock.advance(CONFIG.linger_s)
    kept, dropped = account(spool, Lane.CRITICAL)
    assert kept + dropped >= 50
    assert kept >= 10
    spool.close()


@pytest.mark.parametrize("pages", [0, 1, 3, 8, 20, 60])
def test_a_restart_on_a_full_disk_goes_on_with_what_is_there(disk: Path, clock: ManualClock, pages: int) -> None:
    spool = SqliteSpool(disk / "spool.db", CONFIG, clock)
    incompressible(spool, 500, Lane.BULK)
    epoch = spool.epoch
    spool.close()
    fill(disk, leaving=pages * 4096)
    spool = SqliteSpool(disk / "spool.db", CONFIG, clock)
    assert spool.epoch == epoch
    for _ in range(5):
        incompressible(spool, 10, Lane.CRITICAL)
        fill(disk)
    clock.advance(CONFIG.linger_s)
    (disk / "ballast").unlink()
    spool.flush()
    assert sum(account(spool, Lane.CRITICAL)) == 50
    assert sum(account(spool, Lane.BULK)) == 500
    spool.close()


@pytest.mark.parametrize("pages", [0, 2, 10, 100])
def test_a_file_of_the_first_format_on_a_full_disk_goes_on(disk: Path, clock: ManualClock, pages: int) -> None:
    spool = SqliteSpool(disk / "spool.db", CONFIG, clock)
    incompressible(spool, 500, Lane.BULK)
    epoch = spool.epoch
    spool._store._connection.execute("ALTER TABLE lane DROP COLUMN base")
    spool._store._connection.execute("ALTER TABLE epoch DROP COLUMN resets")
    spool._store._connection.execute("PRAGMA user_version=1")
    spool._store.close()
    fill(disk, leaving=pages * 4096)
    spool = SqliteSpool(disk / "spool.db", CONFIG, clock)  # perhaps in memory
    incompressible(spool, 10, Lane.CRITICAL)
    spool.close()
    (disk / "ballast").unlink()
    spool = SqliteSpool(disk / "spool.db", CONFIG, clock)
    assert spool.epoch == epoch
    assert sum(account(spool, Lane.BULK)) == 500
    spool.close()
