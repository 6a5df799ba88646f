"""Open windows between folds: in memory while this process is the only one that folds, and always in the database."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_hub.core.streams import span_ms
from cloud_hub.services.unfolding import Page, Stretch
from cloud_hub.store import stream_states as store
from cloud_hub.store.database import Tx
from cloud_hub.store.stream_states import StreamState
from edge_agent.streams.rows import Column, Rows
from edge_agent.streams.spec import InvalidSpec, StreamSpec
from edge_agent.streams.windows import Closed, Windows, add_all
from protos.contract.ids import DeviceId, TenantId

log = logging.getLogger(__name__)

_compact = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

MAX_REMEMBERED = 20_000  # engines: about 100 MB

Key = tuple[TenantId, str, DeviceId]  # stream, and whose


@dataclass(slots=True, kw_only=True)
class Engine:
    """One stream of one source of time."""

    key: Key
    spec: StreamSpec
    fingerprint: str
    windows: Windows
    event_ms: int = -1
    received_ms: int = 0
    complete_from_ms: int = 0

    @property
    def close_at_ms(self) -> int | None:
        """When one more window has passed on the wall clock; None: none is open."""
        if not len(self.windows):
            return None
        last = max(self.received_ms, self.event_ms)
        return last + self.spec.window.lateness_ms + span_ms(self.spec)

    def row(self) -> StreamState:
        tenant, stream, device = self.key
        return StreamState(
            tenant=tenant,
            stream=stream,
            device=device,
            fingerprint=self.fingerprint,
            state=_compact(self.windows.state()),
            event_ms=self.event_ms,
            received_ms=self.received_ms,
            complete_from_ms=self.complete_from_ms,
            close_at_ms=self.close_at_ms,
        )


@dataclass(frozen=True, slots=True)
class Feed:
    """Readings for an engine: ``rows`` of a stretch (None: all of it), with fields of the whole page."""

    engine: Engine
    stretch: Stretch
    rows: NDArray[np.int64] | None
    fields: Mapping[str, Column]


def feed_all(page: Page, feeds: Sequence[Feed]) -> list[list[Closed]]:
    """The windows that each of ``feeds`` closes; all engines are of one spec, and one may come several times.

    What is late is told by the batches that came before it in its stream, never by how many of them are on one page.
    """
    closed: list[list[Closed]] = [[] for _ in feeds]
    together: dict[Key, tuple[int, Feed]] = {}

    def flush() -> None:
        found = add_all([(feed.engine.windows, _rows(page, feed, _index(page, feed))) for _, feed in together.values()])
        for (number, _), windows in zip(together.values(), found, strict=True):
            closed[number] = windows
        together.clear()

    for number, feed in enumerate(feeds):
        if feed.engine.key in together:
            flush()
        if _none_is_late(page, feed):
            together[feed.engine.key] = number, feed
            continue
        for batch in range(feed.stretch.first, feed.stretch.end):
            span = page.rows_of(batch, batch + 1)
            rows = span if feed.rows is None else feed.rows[(feed.rows >= span.start) & (feed.rows < span.stop)]
            closed[number] += feed.engine.windows.add(_rows(page, feed, rows))
    flush()
    return closed


def _none_is_late(page: Page, feed: Feed) -> bool:
    """Then the engine says the same however the rows are cut into calls."""
    at_ms = page.readings.at_ms[_index(page, feed)]
    newest, before = np.maximum.accumulate(at_ms), feed.engine.windows.newest_ms
    if before is not None:
        np.maximum(newest, before, out=newest)
    return bool((at_ms >= newest - feed.engine.spec.window.lateness_ms).all())


def _index(page: Page, feed: Feed) -> NDArray[np.int64] | slice:
    return page.rows(feed.stretch) if feed.rows is None else feed.rows


def _rows(page: Page, feed: Feed, rows: NDArray[np.int64] | slice) -> Rows:
    return Rows(
        origin=feed.stretch.origin,
        sequence=page.readings.sequence[rows],
        at_ms=page.readings.at_ms[rows],
        fields=_Part(feed.fields, rows),
    )


class Engines:
    """All that one process has of them. Not thread-safe."""

    def __init__(self) -> None:
        self._known: dict[Key, Engine] = {}
        self._stored: dict[Key, StreamState] = {}  # read, and not asked for yet
        self._loaded: set[DeviceId] = set()
        self._changed: dict[Key, Engine] = {}
        self._gone: set[Key] = set()

    def forget(self) -> None:
        """Somebody else may have folded, or what was changed here was not written."""
        for part in (self._known, self._stored, self._loaded, self._changed, self._gone):
            part.clear()

    def load(self, tx: Tx, devices: Iterable[DeviceId]) -> None:
        """Have every state of ``devices`` at hand."""
        if len(self._known) > MAX_REMEMBERED:
            self.forget()
        missing = set(devices) - self._loaded
        for state in store.of_devices(tx, missing):
            self._stored[state.tenant, state.stream, state.device] = state
        self._loaded |= missing

    def find(self, key: Key, spec: StreamSpec, fingerprint: str) -> Engine | None:
        """None where there is none of this fingerprint. Its device must have been loaded."""
        known = self._known.get(key)
        if known is None and (stored := self._stored.pop(key, None)) is not None:
            known = _restored(key, spec, stored)
        if known is None or known.fingerprint != fingerprint:
            return None
        if known.spec is not spec and known.spec != spec:
            known.windows, known.spec = Windows(spec, known.windows.state()), spec
        self._known[key] = known
        return known

    def make(self, key: Key, spec: StreamSpec, fingerprint: str) -> Engine:
        """An empty one, in place of what there may be."""
        made = Engine(key=key, spec=spec, fingerprint=fingerprint, windows=Windows(spec))
        self._stored.pop(key, None)
        self._known[key] = made
        self._gone.discard(key)
        return made

    def changed(self, engine: Engine) -> None:
        """It is written with this page."""
        self._changed[engine.key] = engine

    def remove(self, key: Key) -> None:
        for part in (self._known, self._stored, self._changed):
            part.pop(key, None)
        self._gone.add(key)

    def write(self, tx: Tx) -> None:
        store.remove(tx, sorted(self._gone))
        store.put(tx, (engine.row() for engine in self._changed.values()))
        self._gone.clear()
        self._changed.clear()


def _restored(key: Key, spec: StreamSpec, stored: StreamState) -> Engine | None:
    try:
        windows = Windows(spec, json.loads(stored.state))
    except (InvalidSpec, ValueError) as error:  # of another spec, or of another version of the engine
        log.warning("open windows dropped", extra={"stream": key[1], "device": key[2], "reason": str(error)})
        return None
    return Engine(
        key=key,
        spec=spec,
        fingerprint=stored.fingerprint,
        windows=windows,
        event_ms=stored.event_ms,
        received_ms=stored.received_ms,
        complete_from_ms=stored.complete_from_ms,
    )


class _Part(Mapping[str, Column]):
    """Rows of columns that are cut when they are asked for."""

    def __init__(self, fields: Mapping[str, Column], rows: NDArray[np.int64] | slice) -> None:
        self._fields, self._rows = fields, rows

    def __getitem__(self, name: str) -> Column:
        column = self._fields[name]
        return column[self._rows] if isinstance(column, np.ndarray) else column

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)
