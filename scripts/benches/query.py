"""Readings as an admin asks for them: summed up, and one by one, from Parquet files and from landing; and made into files.

References, of the same files in the same run: pyarrow reads the columns that a sum needs into memory, pyarrow makes Python rows
of all columns, and one Parquet file is written and fsynced.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from cloud_hub.archive import parquet
from cloud_hub.archive.engine import Engine
from cloud_hub.archive.files import LocalFiles
from cloud_hub.archive.upkeep import Upkeep
from cloud_hub.core.config import TelemetryConfig
from cloud_hub.core.model import Principal, Role
from cloud_hub.services.aggregates import Grouping
from cloud_hub.services.readings import ReadingFilter, ReadingsService
from cloud_hub.store import landing
from cloud_hub.store.archive import Kind
from cloud_hub.store.database import Database
from edge_agent.core.clock import SystemClock
from protos.contract import codec, ids
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import Batch, InferenceTable, Lane, to_ms
from scripts.benches._figures import figure

WHO = Principal(role=Role.ADMIN, name="bench")
DEVICES, ROWS = 50, 100
YOUNG = 10  # one reading in so many is not archived yet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    readings, rounds = (500_000, 3) if quick else (5_000_000, 5)
    with tempfile.TemporaryDirectory() as folder:
        _measure(Path(folder), readings, rounds)


def _measure(home: Path, readings: int, rounds: int) -> None:
    clock = SystemClock()
    config = TelemetryConfig(compact_after_s=0.0)
    db = Database(f"sqlite:///{home / 'hub.db'}")
    db.migrate()
    files = LocalFiles(home / "archive")
    service = ReadingsService(db, Engine(files, config, home / "spill"), clock)
    land(db, clock, range(0, readings - readings // YOUNG, ROWS * DEVICES))
    archive_s = timed(lambda: Upkeep(db, files, config, clock).tick(clock.now() + timedelta(hours=1)))
    land(db, clock, range(readings - readings // YOUNG, readings, ROWS * DEVICES))
    paths = [files.root + path for path in files.list(Kind.READINGS)]
    rows = sum(pq.read_metadata(path).num_rows for path in paths)
    write_s = timed(lambda: _write(home / "one.parquet", paths[0])) / pq.read_metadata(paths[0]).num_rows
    figure("query", "readings archived", rows / archive_s, "readings/s", reference=1 / write_s)
    always = ReadingFilter(since=clock.now() - timedelta(days=3), until=clock.now() + timedelta(days=1))

    def summed() -> None:
        grouping = Grouping(window_ms=3_600_000, by=("device",))
        found = sum(row.readings for page in service.aggregate(WHO, always, grouping) for row in page)
        assert found == readings, found

    def listed(device: DeviceId | None = None) -> None:
        wanted = ReadingFilter(since=always.since, until=always.until, device=device)
        for _ in service.query(WHO, wanted, 100_000):
            pass

    columns = ["device", "captured_at", "model", "label", "confidence", "latency_ms", "captured", "uncertain"]
    sum_s = median(summed, rounds)
    read_s = median(lambda: [pq.read_table(path, columns=columns) for path in paths], rounds)
    figure("query", "readings summed up", readings / sum_s, "readings/s", reference=rows / read_s)
    list_s = median(listed, rounds)
    python_s = median(lambda: pq.ParquetFile(paths[0]).read_row_group(0).to_pylist(), rounds)
    in_group = pq.ParquetFile(paths[0]).metadata.row_group(0).num_rows
    figure("query", "readings listed", 100_000 / list_s, "readings/s", reference=in_group / python_s)
    one_s = median(lambda: listed(DeviceId("cam-7")), rounds)
    figure("query", "readings of one device listed", readings / DEVICES / one_s, "readings/s", reference=in_group / python_s)
    bytes_each = sum(Path(path).stat().st_size for path in paths) / rows
    figure("query", "archive bytes per reading", bytes_each, "B")


def land(db: Database, clock: SystemClock, firsts: range) -> None:
    dice = np.random.default_rng(firsts.start)
    now_ms = to_ms(clock.now())
    for start in range(0, len(firsts), 50):
        some = firsts[start : start + 50]
        batches = [_batch(dice, device, first // DEVICES, now_ms) for first in some for device in range(DEVICES)]
        with db.write() as tx:
            landing.land_many(tx, batches)
            landing.fold_through(tx, {batch.stream: batch.last_sequence for batch in batches})


def _batch(dice: np.random.Generator, device: int, first: int, now_ms: int) -> landing.Batch:
    table = InferenceTable(
        sequence=np.arange(first, first + ROWS, dtype="<u8"),
        captured_at_ms=now_ms - 100_000_000 + 500 * np.arange(first, first + ROWS, dtype="<i8"),
        label=dice.integers(0, 10, ROWS).astype("<u2"),
        confidence=dice.beta(8, 1, ROWS).astype("<f4"),
        latency_ms=dice.lognormal(1, 0.2, ROWS).astype("<f4"),
        flags=np.zeros(ROWS, "u1"),
        frame_key=dice.integers(0, 1 << 62, ROWS).astype("<u8"),
        model=np.zeros(ROWS, "u1"),
        models=(ids.digest_of(b"model"),),
    )
    batch = Batch(epoch="e1", lane=Lane.NORMAL, first_sequence=first, last_sequence=first + ROWS - 1, inferences=table)
    payload, head = codec.encode_batch(batch), batch.head
    return landing.Batch(
        tenant=TenantId("default"),
        device=DeviceId(f"cam-{device}"),
        epoch="e1",
        lane=Lane.NORMAL,
        first_sequence=first,
        last_sequence=first + ROWS - 1,
        digest=ids.digest_of(payload),
        records=ROWS,
        dropped=0,
        first_captured_ms=head.first_captured_ms,
        last_captured_ms=head.last_captured_ms,
        received_ms=now_ms,
        payload=payload,
    )


def _write(path: Path, source: str) -> None:
    data = parquet.write(Kind.READINGS, pq.read_table(source, partitioning=None))
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def timed(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def median(act: Callable[[], object], rounds: int) -> float:
    return statistics.median(timed(act) for _ in range(rounds))


if __name__ == "__main__":
    main()
