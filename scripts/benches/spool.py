"""Records a second that survive a power cut, from ``append`` to the file, with group commits and numbered batches.

References in the same run, on the same disk, with the same records packed into the same rows: SQLite with a commit for each
record, which is what "durable" costs without groups, and SQLite with groups of a thousand, which is the most it gives.
"""

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from edge_agent.core.clock import SystemClock
from edge_agent.core.config import SpoolConfig
from edge_agent.core.model import Outcome
from edge_agent.spool.records import number, pack
from edge_agent.spool.sqlite import SqliteSpool
from scripts.benches._figures import figure
from scripts.benches._readings import outcomes

GROUP = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    records, singles, rounds = (20_000, 500, 3) if quick else (100_000, 2_000, 7)
    items = outcomes(records, every_s=0.1)
    with tempfile.TemporaryDirectory(prefix="bench-spool-") as folder:
        turns = [_turn(Path(folder) / str(i), items, singles) for i in range(rounds)]
    ours, alone, groups = (statistics.median(turn[i] for turn in turns) for i in range(3))
    figure(
        "spool", "durable appends, group commits", ours, "records/s", reference=alone, aim="against a commit for each record"
    )
    figure("spool", "durable appends, group commits", ours, "records/s", reference=groups, aim=f"against groups of {GROUP}")
    figure("spool", "the slowest append of a hundred", statistics.median(turn[3] for turn in turns) * 1e6, "us", aim="p99")
    figure("spool", "file with its log and reserve", statistics.median(turn[4] for turn in turns) / records, "bytes/record")


def _turn(folder: Path, items: Sequence[Outcome], singles: int) -> tuple[float, float, float, float, float]:
    """Records a second of ours, of single commits and of groups; p99 of an append in seconds; bytes of the files."""
    folder.mkdir()
    spool = SqliteSpool(folder / "spool.sqlite", SpoolConfig(), SystemClock())
    took = []
    started = time.perf_counter()
    for i, item in enumerate(items):
        before = time.perf_counter()
        spool.append(item)
        took.append(time.perf_counter() - before)
        if i % 10_000 == 9_999:
            spool.flush()  # no camera is as fast as this loop: beyond fifty thousand in memory records would be dropped
    spool.flush()
    ours = len(items) / (time.perf_counter() - started)
    stats = spool.stats()
    assert (stats.records, stats.dropped) == (len(items), 0), "every record is in the file"
    spool.close()
    rows = [(i, pack(number(item, i))) for i, item in enumerate(items)]
    alone = _raw(folder / "alone.sqlite", rows[:singles], 1)
    groups = _raw(folder / "groups.sqlite", rows, GROUP)
    return ours, alone, groups, sorted(took)[len(took) * 99 // 100], stats.file_bytes


def _raw(path: Path, rows: Sequence[tuple[int, bytes]], group: int) -> float:
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        db.execute(f"PRAGMA {pragma}")
    db.execute("CREATE TABLE record (sequence INTEGER PRIMARY KEY, row BLOB NOT NULL)")
    started = time.perf_counter()
    for i in range(0, len(rows), group):
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO record VALUES (?, ?)", rows[i : i + group])
        db.execute("COMMIT")
    rate = len(rows) / (time.perf_counter() - started)
    db.close()
    return rate


if __name__ == "__main__":
    main()
