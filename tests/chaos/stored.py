"""What the hub holds, read from its tables and its Parquet files without the hub's code."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, create_engine, text

from tests.chaos.verdict import Held
from tests.chaos.witness import Content, contents

ALARMS = ("telemetry.lost", "telemetry.cloned")
_TIME = {"readings": "captured_at", "events": "at", "windows": "start_at", "gaps": "at"}
_UNFOLDED = "committed_through > folded_through"


def of(database_url: str, archive: Path) -> dict[str, Held]:
    """By device; from a database and an archive that nobody writes to any more."""
    held: dict[str, Held] = defaultdict(Held)
    engine = create_engine(database_url)
    with engine.connect() as connection:
        for device, epoch, lane, payload in connection.execute(text("SELECT device, epoch, lane, payload FROM landing")):
            held[device].add((epoch, lane), contents(payload))
        for kind, path in connection.execute(text("SELECT kind, path FROM archive_files WHERE removed_ms IS NULL")):
            if kind in _TIME:
                for device, stream, record in _archived(kind, archive / path):
                    held[device].add(stream, [record])
        _count(connection, held)
        _effects(connection, held)
    engine.dispose()
    return held


def _archived(kind: str, path: Path) -> Iterator[tuple[str, tuple[str, int], tuple[int, Content]]]:
    table = pq.read_table(path)
    at = _TIME[kind]
    table = table.set_column(table.schema.get_field_index(at), at, table[at].cast(pa.int64()))
    for row in table.to_pylist():
        for sequence in range(row["sequence"], row.get("last_sequence", row["sequence"]) + 1):
            yield row["device"], (row["epoch"], row["lane"]), (sequence, _content(kind, row, row[at]))


def _content(kind: str, row: dict[str, Any], at_ms: int) -> Content:
    if kind == "readings":
        return ("inference", at_ms, row["label"], row["confidence"], row["frame_key"])
    if kind == "events":
        return ("event", at_ms, row["kind"])
    if kind == "windows":
        return ("window", at_ms, row["stream"])
    return ("gap", row["reason"])


def _count(connection: Connection, held: dict[str, Held]) -> None:
    query = text("SELECT device, sum(records), sum(dropped) FROM streams GROUP BY device")
    for device, records, dropped in connection.execute(query):
        held[device].records_counted, held[device].dropped_counted = int(records), int(dropped)


def folded(database_url: str) -> bool:
    """Whether everything that is stored has been seen by what looks at it."""
    engine = create_engine(database_url)
    try:
        with engine.connect() as connection:
            return connection.execute(text(f"SELECT count(*) FROM streams WHERE {_UNFOLDED}")).scalar() == 0
    finally:
        engine.dispose()


def _effects(connection: Connection, held: dict[str, Held]) -> None:
    for device, at_ms, kind, detail in connection.execute(text("SELECT device, at_ms, kind, detail FROM device_events")):
        held[device].listed["event", at_ms, kind] += 1
        if kind in ALARMS:
            held[device].alarms.append(f"{kind}: {detail}")
    for device, lane, first, last in connection.execute(text("SELECT device, lane, first_sequence, last_sequence FROM losses")):
        held[device].alarms.append(f"given up: {first}..{last} of lane {lane}")
    for topic, reason in connection.execute(text("SELECT topic, reason FROM quarantine")):
        held[topic.split("/")[3]].alarms.append(f"in quarantine: {reason}")
    behind = text(f"SELECT device, lane, folded_through, committed_through FROM streams WHERE {_UNFOLDED}")
    for device, lane, through, stored in connection.execute(behind):
        held[device].unfolded.append(f"lane {lane} is folded through {through} and stored through {stored}")
