"""What a spool file holds, read from its bytes after its agent was killed: what the agent owes.

It shares nothing with the spool but the format: another reading of the same bytes.
"""

import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import zstandard

from protos.v1 import telemetry_pb2 as pb

_HEAD = struct.Struct("<Bq")
_READING = struct.Struct("<HffBQ")
_SPAN = struct.Struct("<qQ?H")  # of a window; as many doubles follow as the last one says, then names
INFERENCE, EVENT, GAP, WINDOW = 1, 2, 3, 4
STREAM = tuple[str, int]  # epoch, lane

Content = tuple[object, ...]  # what tells one record from another: what it is, when, and what it says


@dataclass(slots=True)
class Owed:
    """All that was seen of one agent, over all looks."""

    records: dict[STREAM, dict[int, Content]] = field(default_factory=dict)
    gaps: dict[STREAM, dict[int, str]] = field(default_factory=dict)
    following: dict[STREAM, int] = field(default_factory=dict)  # the first sequence not given out
    changed: list[str] = field(default_factory=list)  # records that were another thing at an earlier look
    looks: int = 0

    def see(self, stream: STREAM, sequence: int, content: Content) -> None:
        known = self.records.setdefault(stream, {})
        if known.setdefault(sequence, content) != content:
            self.changed.append(f"{stream} {sequence}: {known[sequence]} became {content}")


def look(data_dir: Path, owed: Owed) -> None:
    """Read the spool of an agent that does not run, leaving it as it is."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("spool.sqlite", "spool.sqlite-wal"):
            if (data_dir / name).exists():
                shutil.copy(data_dir / name, folder)
        if not (Path(folder) / "spool.sqlite").exists():
            return
        connection = sqlite3.connect(Path(folder) / "spool.sqlite")
        try:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}
            if "epoch" not in tables:
                return  # killed while it made the file
            _read(connection, owed)
        finally:
            connection.close()
    owed.looks += 1


def _read(connection: sqlite3.Connection, owed: Owed) -> None:
    (epoch,) = connection.execute("SELECT epoch FROM epoch").fetchone()
    base = {}  # what a row's number is above its sequence: not 0 once an epoch has been left
    for lane, following, base[lane] in connection.execute("SELECT lane, next - base, base FROM lane"):
        owed.following[epoch, lane] = max(following, owed.following.get((epoch, lane), 0))
    for lane, first_row, last_row, row in connection.execute("SELECT lane, first, last, row FROM open"):
        first, last = first_row - base[lane], last_row - base[lane]
        kind, at_ms = _HEAD.unpack_from(row)
        if kind == INFERENCE:
            label, confidence, _latency, _flags, key = _READING.unpack_from(row, _HEAD.size)
            owed.see((epoch, lane), first, ("inference", at_ms, label, confidence, key))
        elif kind == EVENT:
            name = row[_HEAD.size :].partition(b"\0")[0].decode()
            owed.see((epoch, lane), first, ("event", at_ms, name))
        elif kind == WINDOW:
            *_, values = _SPAN.unpack_from(row, _HEAD.size)
            name = row[_HEAD.size + _SPAN.size + 8 * values :].partition(b"\0")[0].decode()
            owed.see((epoch, lane), first, ("window", at_ms, name))
        elif kind == GAP:
            for sequence in range(first, last + 1):
                owed.gaps.setdefault((epoch, lane), {})[sequence] = row[_HEAD.size :].decode()
    for batch_epoch, lane, payload in connection.execute("SELECT epoch, lane, payload FROM batch"):
        for sequence, content in contents(payload):
            if content[0] == "gap":
                owed.gaps.setdefault((batch_epoch, lane), {})[sequence] = str(content[1])
            else:
                owed.see((batch_epoch, lane), sequence, content)


def contents(payload: bytes) -> Iterator[tuple[int, Content]]:
    """Every sequence of a batch, and what stands for it."""
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        payload = zstandard.ZstdDecompressor().decompress(payload, max_output_size=16 << 20)
    batch = pb.TelemetryBatch.FromString(payload)
    columns = batch.inferences
    offsets = np.frombuffer(columns.offset, "<u4").tolist()
    values = zip(
        np.frombuffer(columns.captured_at, "<i8").tolist(),
        np.frombuffer(columns.label, "<u2").tolist(),
        np.frombuffer(columns.confidence, "<f4").tolist(),
        np.frombuffer(columns.frame_key, "<u8").tolist(),
        strict=True,
    )
    for offset, (at_ms, label, confidence, key) in zip(offsets, values, strict=True):
        yield batch.first_sequence + offset, ("inference", at_ms, label, confidence, key)
    for event in batch.events:
        yield event.sequence, ("event", event.at_ms, event.kind)
    for window in batch.windows:
        yield window.sequence, ("window", window.start_ms, window.stream)
    for gap in batch.gaps:
        for sequence in range(gap.first_sequence, gap.last_sequence + 1):
            yield sequence, ("gap", gap.reason)
