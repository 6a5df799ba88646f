"""Use cases about readings: what devices inferred, from the database and the archive as one.

A query takes the list of files and the batches that are not in one yet from one snapshot of the database, so it sees every
reading once, whatever is archived meanwhile.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from cloud_hub.archive.engine import Engine, Question
from cloud_hub.core.errors import Exhausted, Invalid
from cloud_hub.core.labels import checked_selector
from cloud_hub.core.model import Principal, StoredReading
from cloud_hub.services import aggregates
from cloud_hub.services.aggregates import Aggregate, Grouping
from cloud_hub.services.snapshots import Scope, Snapshot, digests_of
from cloud_hub.services.tails import Tail, Tails
from cloud_hub.services.versions import Versions
from cloud_hub.store import fleet
from cloud_hub.store.database import Database, Tx
from edge_agent.core.clock import Clock
from protos.contract.ids import DeviceId, Digest, TenantId
from protos.contract.telemetry import Lane, from_ms, to_ms

DEFAULT_ROWS = 100_000
MAX_ROWS = 1_000_000  # readings in one query
PAGE_READINGS = 4000  # of 100 to 200 bytes each on the wire
PAGE_AGGREGATES = 500
_HEAP_ROW_BYTES = 500  # of each of the first rows, kept in memory; where that is too much all are sorted, also on the disk

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingFilter:
    """Which readings; ``since`` is inclusive, ``until`` exclusive, both event time."""

    since: datetime
    until: datetime
    device: DeviceId | None = None
    selector: Mapping[str, str] = field(default_factory=dict)  # devices that have all of these labels now
    model: str = ""  # name, name:version, or the digest of a manifest
    uncertain: bool | None = None
    captured: bool | None = None


class Pages(Iterator[T], Generic[T]):
    """An answer, page by page; the first ``next`` starts it. ``cancel`` frees what it holds at once, from any thread."""

    def __init__(self, engine: Engine, make: Callable[[Question], Generator[T, None, None]]) -> None:
        self._engine = engine
        self._make = make
        self._question: Question | None = None
        self._pages: Generator[T, None, None] | None = None
        self._over = False

    def __iter__(self) -> "Pages[T]":
        return self

    def __next__(self) -> T:
        try:
            if self._pages is None:
                self._question = self._engine.question()
                self._pages = self._make(self._question)
            if self._over:
                raise Exhausted("the query was cancelled")
            return next(self._pages)
        except BaseException:
            self.close()
            raise

    def cancel(self) -> None:
        self._over = True
        if self._question is not None:
            self._question.cancel()

    def close(self) -> None:
        """Twice is harmless; not while another thread is in ``next``."""
        self._over = True
        if self._question is not None:
            self._question.close()


class ReadingsService:
    def __init__(self, db: Database, engine: Engine, clock: Clock) -> None:
        self._db = db
        self._engine = engine
        self._versions = Versions()
        self._tails = Tails(db, clock, self._versions)

    def query(self, who: Principal, wanted: ReadingFilter, limit: int = DEFAULT_ROWS) -> Pages[list[StoredReading]]:
        """By device, event time, lane and sequence, at most ``limit``.

        Raises:
            Invalid: a limit outside 1..MAX_ROWS, a selector or model that cannot be meant.
            NotFound: no such model.
            Exhausted: it takes too long or needs too much, or too many queries run; raised by the pages.
        """
        if not 1 <= limit <= MAX_ROWS:
            raise Invalid(f"limit must be in 1..{MAX_ROWS}, got {limit}")
        scope = self._scope(who, wanted)
        return Pages(self._engine, lambda question: self._query(question, scope, limit))

    def aggregate(
        self, who: Principal, wanted: ReadingFilter, grouping: Grouping, limit: int = aggregates.DEFAULT_ROWS
    ) -> Pages[list[Aggregate]]:
        """Sums over windows of event time, by window and then by what ``grouping`` names, at most ``limit``.

        Where readings are gone their roll-ups answer: by whole hours, and with percentiles that are ``approximate``. They are
        also where there are more readings than a query can hold to find a percentile.

        Raises:
            As ``query``; Invalid too for ``uncertain`` or ``captured``, which roll-ups cannot tell apart: they are counted.
        """
        if not 1 <= limit <= aggregates.MAX_ROWS:
            raise Invalid(f"limit must be in 1..{aggregates.MAX_ROWS}, got {limit}")
        if wanted.uncertain is not None or wanted.captured is not None:
            raise Invalid("an aggregate counts uncertain and captured readings, it cannot leave others out")
        scope = self._scope(who, wanted)
        return Pages(self._engine, lambda question: self._aggregate(question, scope, grouping, limit))

    def tail(
        self,
        who: Principal,
        wake: Callable[[], None],
        device: DeviceId | None = None,
        selector: Mapping[str, str] | None = None,
        last: int = 0,
    ) -> Tail:
        """Readings as they are stored from now on, each once, and before them about the ``last`` ones. Close it.

        ``wake`` is called, from any thread, when there may be more to ``take``.

        Raises:
            Invalid: a selector that cannot be meant.
            Exhausted: too many tails are open.
        """
        return self._tails.open(who.tenant, wake, device, checked_selector(selector or {}), last)

    def close(self) -> None:
        self._tails.close()

    def _scope(self, who: Principal, wanted: ReadingFilter) -> Scope:
        with self._db.read() as tx:
            return Scope(
                tenant=who.tenant,
                since_ms=to_ms(wanted.since),
                until_ms=to_ms(wanted.until),
                devices=_devices(tx, who.tenant, wanted.device, checked_selector(wanted.selector)),
                models=digests_of(tx, who.tenant, wanted.model),
                uncertain=wanted.uncertain,
                captured=wanted.captured,
            )

    def _query(self, question: Question, scope: Scope, limit: int) -> Generator[list[StoredReading], None, None]:
        if scope.empty:
            return
        snapshot = Snapshot(self._db, self._engine, question, scope)
        first = f" LIMIT {limit}" if limit * _HEAP_ROW_BYTES <= snapshot.memory_bytes // 2 else ""
        sql = (
            "SELECT device, epoch, lane, sequence, epoch_ms(captured_at) AS captured_ms, model, label, confidence, latency_ms, "
            f"captured, uncertain, frame_key, value FROM {snapshot.readings} WHERE {snapshot.condition} "
            f"ORDER BY device, captured_at, lane, sequence, epoch{first}"
        )
        labels = _Labels(self._db, self._versions, scope.tenant)
        for part in question.ask(sql):
            for start in range(0, min(part.num_rows, limit), PAGE_READINGS):
                page = part.slice(start, min(PAGE_READINGS, limit - start))
                yield [_stored(row, labels) for row in page.to_pylist()]
            limit -= part.num_rows
            if limit <= 0:
                return

    def _aggregate(
        self, question: Question, scope: Scope, grouping: Grouping, limit: int
    ) -> Generator[list[Aggregate], None, None]:
        if scope.empty:
            return
        page: list[Aggregate] = []
        snapshot = Snapshot(self._db, self._engine, question, scope)
        names = aggregates.names(self._db, self._versions, scope, grouping)
        for row in aggregates.rows(snapshot, question, names, grouping, limit):
            page.append(row)
            if len(page) == PAGE_AGGREGATES:
                yield page
                page = []
        if page:
            yield page


class _Labels:
    """Class names, looked up once per model."""

    def __init__(self, db: Database, versions: Versions, tenant: TenantId) -> None:
        self._db = db
        self._versions = versions
        self._tenant = tenant
        self._known: dict[Digest, tuple[str, ...]] = {}

    def name(self, model: Digest, label: int) -> str:
        """Empty where the model is not known here, or has no such class."""
        if model not in self._known:
            with self._db.read() as tx:
                self._known[model] = self._versions.labels(tx, self._tenant, model)
        labels = self._known[model]
        return labels[label] if label < len(labels) else ""


def _devices(tx: Tx, tenant: TenantId, device: DeviceId | None, selector: Mapping[str, str]) -> Sequence[DeviceId] | None:
    """None: all."""
    if not selector:
        return None if device is None else [device]
    matching = fleet.matching_ids(tx, tenant, selector)
    return matching if device is None else [one for one in matching if one == device]


def _stored(row: Mapping[str, object], labels: _Labels) -> StoredReading:
    values: dict[str, Any] = dict(row)
    return StoredReading(
        device=values["device"],
        epoch=values["epoch"],
        lane=Lane(values["lane"]).name.lower(),
        sequence=values["sequence"],
        captured_at=from_ms(values["captured_ms"]),
        model=values["model"],
        label=values["label"],
        label_name=labels.name(values["model"], values["label"]),
        confidence=values["confidence"],
        latency_ms=values["latency_ms"],
        captured=values["captured"],
        uncertain=values["uncertain"],
        frame_key=values["frame_key"],
        value=values["value"],
    )
