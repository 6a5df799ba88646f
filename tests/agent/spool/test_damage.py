"""Whatever happens to the spool's file, the spool starts, takes records, and accounts for every sequence."""

import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.core.config import SpoolConfig
from edge_agent.spool.sqlite import SqliteSpool
from edge_agent.spool.store import StoredBatch
from protos.contract.telemetry import Lane, Mark
from tests.agent.clocks import ManualClock
from tests.agent.spool.parts import accounted, happening, held, outcome

CONFIG = SpoolConfig(batch_records=10, linger_s=2.0, commit_interval_s=60.0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a killed agent leaves: a file and a write-ahead log with something in each."""
    folder = tmp_path_factory.mktemp("left")
    spool = SqliteSpool(folder / "live.db", CONFIG, ManualClock())
    append(spool, 205)
    spool._store.recycle()
    append(spool, 100)
    spool.append(happening(), Lane.CRITICAL)
    for suffix in ("", "-wal"):
        shutil.copy(folder / f"live.db{suffix}", folder / f"spool.db{suffix}")
    spool.close()
    return folder


def append(spool: SqliteSpool, records: int, lane: Lane = Lane.NORMAL) -> None:
    for i in range(records):
        spool.append(outcome(i), lane)
    spool.flush()


def works(path: Path, clock: ManualClock) -> SqliteSpool:
    """It opens, takes records, cuts them, and what it hands out has no hole."""
    spool = SqliteSpool(path, CONFIG, clock)
    append(spool, 25)
    spool.append(happening("last.word"), Lane.CRITICAL)
    clock.advance(CONFIG.linger_s)
    for lane in (Lane.NORMAL, Lane.CRITICAL):
        batches = held(spool, lane)
        first = batches[0].first_sequence
        assert accounted(batches) == list(range(first, batches[-1].last_sequence + 1))
        assert {batch.epoch for batch in batches} == {spool.epoch}
    assert [e.kind for b in held(spool, Lane.CRITICAL) for e in b.events][-1] == "last.word"
    spool.discard([Mark(epoch=spool.epoch, lane=Lane.NORMAL, committed_through=held(spool)[-1].last_sequence)])
    assert held(spool) == []
    return spool


def told(spool: SqliteSpool) -> list[str]:
    return [event.kind for batch in held(spool, Lane.CRITICAL) for event in batch.events]


@pytest.mark.parametrize("seed", range(25))
def test_noise_anywhere_in_the_file_or_its_log(left_behind: Path, tmp_path: Path, clock: ManualClock, seed: int) -> None:
    dice = random.Random(seed)
    victim = "spool.db-wal" if seed % 3 == 0 else "spool.db"
    for suffix in ("", "-wal"):
        shutil.copy(left_behind / f"spool.db{suffix}", tmp_path)
    content = bytearray((tmp_path / victim).read_bytes())
    start = dice.randrange(len(content))
    length = min(dice.choice([1, 16, 512, 4096, 20_000]), len(content) - start)
    content[start : start + length] = dice.randbytes(length)
    (tmp_path / victim).write_bytes(content)
    works(tmp_path / "spool.db", clock).close()


def _truncate(share: float) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return change


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("x")


def _header(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(b"\0" * 100 + content[100:])


def _sql(*statements: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with sqlite3.connect(path) as db:
            for statement in statements:
                db.execute(statement)
        db.close()

    return change


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(_truncate(0.5), id="half of it"),
        pytest.param(_folder, id="a folder"),
        pytest.param(_header, id="no header"),
        pytest.param(lambda path: path.write_bytes(b"garbage " * 4000), id="garbage"),
        pytest.param(_sql("DROP TABLE batch"), id="a table is gone"),
        pytest.param(_sql("ALTER TABLE batch RENAME COLUMN records TO was"), id="a column is gone"),
        pytest.param(_sql("UPDATE epoch SET epoch='not an epoch!'"), id="the epoch is nonsense"),
        pytest.param(_sql("UPDATE lane SET next=3"), id="the next sequence was given out before"),
        pytest.param(_sql("UPDATE batch SET last=last+3 WHERE first=50"), id="two batches of one sequence"),
        pytest.param(_sql("PRAGMA user_version=99"), id="a format of the future"),
    ],
)
def test_what_cannot_be_read_is_set_aside_and_told(
    left_behind: Path, tmp_path: Path, clock: ManualClock, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "spool.db"
    for suffix in ("", "-wal"):
        shutil.copy(left_behind / f"spool.db{suffix}", tmp_path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (epoch,) = db.execute("SELECT epoch FROM epoch").fetchone()
    db.close()
    damage(path)
    spool = works(path, clock)
    assert told(spool)[0] == "spool.reset"
    assert spool.epoch != epoch
    assert spool.stats().resets == 1
    assert (tmp_path / "spool.db.corrupt-1").exists()
    spool.close()
    again = SqliteSpool(path, CONFIG, clock)
    assert again.epoch == spool.epoch and again.stats().resets == 1
    again.close()


def test_an_empty_file_is_a_new_spool(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "spool.db"
    path.write_bytes(b"")
    spool = works(path, clock)
    assert "spool.reset" not in told(spool), "nothing was in it"
    spool.close()


def test_rows_that_vanish_become_gaps(left_behind: Path, tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "spool.db"
    for suffix in ("", "-wal"):
        shutil.copy(left_behind / f"spool.db{suffix}", tmp_path)
    _sql("DELETE FROM batch WHERE lane=2 AND first IN (50, 60, 290)", "DELETE FROM open WHERE lane=2 AND first=302")(path)
    spool = SqliteSpool(path, CONFIG, clock)
    assert spool.stats().dropped == 31
    clock.advance(CONFIG.linger_s)
    batches = held(spool)
    assert accounted(batches) == list(range(305))
    assert sum(batch.dropped for batch in batches) == 31
    spool.close()
    spool = SqliteSpool(path, CONFIG, clock)
    assert spool.stats().dropped == 31, "counted once"
    spool.close()


def test_a_spool_of_the_first_format_goes_on(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "spool.db"
    spool = SqliteSpool(path, CONFIG, clock)
    append(spool, 25)
    epoch = spool.epoch
    spool.close()
    _sql("ALTER TABLE lane DROP COLUMN base", "ALTER TABLE epoch DROP COLUMN resets", "PRAGMA user_version=1")(path)
    spool = SqliteSpool(path, CONFIG, clock)
    assert spool.epoch == epoch
    append(spool, 5)
    assert accounted(held(spool)) == list(range(30))
    spool.close()


def test_a_disk_that_lied_is_healed_by_the_first_watermark(tmp_path: Path, clock: ManualClock) -> None:
    """The log is lost with what the hub has long committed: what is held goes into an epoch the hub knows nothing of."""
    path = tmp_path / "live.db"
    spool = SqliteSpool(path, CONFIG, clock)
    append(spool, 20)
    spool._store.recycle()
    shutil.copy(path, tmp_path / "spool.db")  # without its log
    append(spool, 80)
    epoch = spool.epoch
    spool.close()
    spool = SqliteSpool(tmp_path / "spool.db", CONFIG, clock)
    assert spool.epoch == epoch
    append(spool, 5)
    spool.discard([Mark(epoch=epoch, lane=Lane.NORMAL, committed_through=99)])
    assert spool.epoch != epoch
    clock.advance(CONFIG.linger_s)
    spool.flush()
    assert accounted(held(spool)) == list(range(25))
    assert told(spool) == ["spool.foreign_mark"]
    spool.close()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_while_leaving_an_epoch_leaves_one_of_the_two_whole(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    path = tmp_path / "live.db"
    spool = SqliteSpool(path, CONFIG, clock)
    append(spool, 23)
    spool.discard([Mark(epoch=spool.epoch, lane=Lane.NORMAL, committed_through=9)])
    epoch, store = spool.epoch, spool._store

    def copy() -> None:
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{tmp_path}/spool.db{suffix}")

    add_batch = store.add_batch

    def add_and_copy(_: object, lane: Lane, batch: StoredBatch) -> None:
        add_batch(lane, batch)
        copy()

    if when == "before":  # all is written, nothing is committed
        monkeypatch.setattr(type(store), "add_batch", add_and_copy)
    spool.discard([Mark(epoch=epoch, lane=Lane.NORMAL, committed_through=1000)])
    monkeypatch.undo()
    if when == "after":
        copy()
    crashed = SqliteSpool(tmp_path / "spool.db", CONFIG, clock)
    clock.advance(CONFIG.linger_s)
    numbers = accounted(held(crashed))
    if when == "before":
        assert crashed.epoch == epoch and numbers == list(range(10, 23)) and told(crashed) == []
    else:
        assert crashed.epoch == spool.epoch and numbers == list(range(13)) and told(crashed) == ["spool.foreign_mark"]
    crashed.close()
    spool.close()


def test_where_no_file_can_be_written_it_goes_on_in_memory_and_says_so(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "not-a-folder").write_text("")
    spool = works(tmp_path / "not-a-folder" / "spool.db", clock)
    assert told(spool)[0] == "spool.in_memory"
    spool.close()
