"""One moment of all readings: the files that are live, and the batches that are in no file yet."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cloud_hub.archive import unfold
from cloud_hub.archive.engine import Engine, Question, quoted
from cloud_hub.archive.parquet import SCHEMAS
from cloud_hub.archive.unfold import Unfolded
from cloud_hub.core.errors import Exhausted, NotFound
from cloud_hub.core.labels import model_term
from cloud_hub.store import archive as store
from cloud_hub.store import registry
from cloud_hub.store.archive import Kind
from cloud_hub.store.database import Database, Tx
from protos.contract import codec, ids
from protos.contract.ids import DeviceId, Digest, TenantId
from protos.contract.telemetry import from_ms

MAX_FILES = 10_000  # opened for one query
_PART_ROWS = 50_000  # readings written at once
_PART_BATCHES = 250  # of up to a megabyte each
_LISTED = 200  # devices or models written out in SQL: row groups without them are skipped


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which readings, resolved: None stands for all."""

    tenant: TenantId
    since_ms: int
    until_ms: int
    devices: Sequence[DeviceId] | None = None
    models: Sequence[Digest] | None = None
    uncertain: bool | None = None
    captured: bool | None = None

    @property
    def empty(self) -> bool:
        return self.until_ms <= self.since_ms or self.devices == [] or self.models == []


class Snapshot:
    """Taken when made, for one question.

    Batches that are in no file are written to one, in the question's folder: DuckDB sorts a scan of files within its memory,
    and not a union of a scan and something else.
    """

    def __init__(self, db: Database, engine: Engine, question: Question, scope: Scope) -> None:
        """Raises Exhausted where the readings are in too many files, or too many of them in none."""
        self._engine = engine
        self._scope = scope
        for name, chosen in (("device", scope.devices), ("model", scope.models)):
            if chosen is not None and len(chosen) > _LISTED:
                question.give(f"chosen_{name}", pa.table({name: pa.array(chosen, pa.string())}))
        with question.working(), db.read() as tx:
            files = store.live(tx, scope.tenant, Kind.READINGS, scope.since_ms, scope.until_ms)
            rollups = store.live(tx, scope.tenant, Kind.ROLLUPS, scope.since_ms, scope.until_ms)
            if len(files) + len(rollups) > MAX_FILES:
                raise Exhausted(f"the readings of that time are in more than {MAX_FILES} files: ask for a shorter time")
            landed = _write(_landed(tx, question, scope), question)
        self._readings = [*(file.path for file in files), str(landed.path)]
        self._rollups = [file.path for file in rollups]
        self.about_rows = sum(file.rows for file in files) + landed.rows

    @property
    def memory_bytes(self) -> int:
        """That the answer may take."""
        return self._engine.memory_bytes

    @property
    def span_ms(self) -> tuple[int, int]:
        return self._scope.since_ms, self._scope.until_ms

    @property
    def readings(self) -> str:
        """SQL of a table that holds more than the scope does; ``condition`` is what makes it the scope."""
        return self._engine.source(self._readings)

    @property
    def condition(self) -> str:
        return self._condition("captured_at")

    @property
    def rollups(self) -> str:
        """As ``readings``; empty: there are none."""
        return self._engine.source(self._rollups) if self._rollups else ""

    @property
    def rollup_condition(self) -> str:
        """By hours that start within the time."""
        return self._condition("hour")

    def _condition(self, time: str) -> str:
        scope = self._scope
        terms = [f"{time} >= {_sql_time(scope.since_ms)}", f"{time} < {_sql_time(scope.until_ms)}"]
        for name, chosen in (("device", scope.devices), ("model", scope.models)):
            if chosen is not None and len(chosen) <= _LISTED:
                terms.append(f"{name} IN ({', '.join(map(quoted, chosen))})")
            elif chosen is not None:
                terms.append(f"{name} IN (SELECT {name} FROM chosen_{name})")
        for name, flag in (("uncertain", scope.uncertain), ("captured", scope.captured)):
            if flag is not None:
                terms.append(name if flag else f"NOT {name}")
        return " AND ".join(terms)


def digests_of(tx: Tx, tenant: TenantId, model: str) -> list[Digest] | None:
    """Manifests of ``name``, ``name:version``, or the one whose digest it is; None: no model was named. Raises NotFound."""
    if not model:
        return None
    if model.startswith("sha256:"):
        return [ids.digest(model)]
    name, version = model_term(model)
    found = [digest for digest, _, _ in registry.manifests(tx, tenant, name, version)]
    if not found:
        raise NotFound(f"no published model {model}")
    return found


class _Written(NamedTuple):
    path: Path
    rows: int


def _write(tables: Iterable[pa.Table], question: Question) -> _Written:
    path, rows = question.folder / "landed.parquet", 0
    with pq.ParquetWriter(path, SCHEMAS[Kind.READINGS], compression="lz4") as writer:
        for table in tables:
            writer.write_table(table)
            rows += len(table)
            if path.stat().st_size > question.disk_bytes:
                raise Exhausted("more readings than a query may hold are not archived yet: ask for fewer devices")
    return _Written(path, rows)


def _landed(tx: Tx, question: Question, scope: Scope) -> Iterator[pa.Table]:
    """Readings of batches that are not archived, a few batches decoded at a time."""
    waiting: list[Unfolded] = []
    rows = 0
    with closing(store.landed(tx, scope.tenant, scope.devices, scope.since_ms, scope.until_ms)) as landed:
        for device, received_ms, payload in landed:
            question.check()
            batch = codec.decode_batch(payload)  # it was decoded once before it landed
            waiting.append(Unfolded(device, received_ms, batch))
            rows += len(batch.inferences)
            if rows >= _PART_ROWS or len(waiting) >= _PART_BATCHES:
                yield unfold.readings(waiting)
                waiting, rows = [], 0
    if waiting:
        yield unfold.readings(waiting)


def _sql_time(ms: int) -> str:
    return f"TIMESTAMPTZ '{from_ms(ms):%Y-%m-%d %H:%M:%S.%f}+00'"
