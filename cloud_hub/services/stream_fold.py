"""Users' streams: windows of each device and of the whole fleet, and those that devices made themselves."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cloud_hub.core import streams as specs
from cloud_hub.core.model import StreamWindow
from cloud_hub.core.ports import WindowListener
from cloud_hub.core.streams import Across, HubStream
from cloud_hub.services.engines import Engine, Engines, Feed, Key, feed_all
from cloud_hub.services.stream_fields import StreamFields
from cloud_hub.services.unfolding import Page, Stretch
from cloud_hub.store import fleet as fleet_store
from cloud_hub.store import stream_specs, stream_states, stream_windows
from cloud_hub.store.database import Tx
from cloud_hub.store.stream_states import FLEET, StreamState
from edge_agent.streams.spec import Send, StreamSpec
from edge_agent.streams.windows import Closed
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import Window, from_ms

MAX_COUNTS = 1000  # of labels, kept of one window
_NEVER_LATE_S = 1e12  # the fleet's time is told by its devices together, never by one reading

Told = tuple[TenantId, DeviceId | None, StreamWindow, bool]  # whether it is stored


@dataclass(frozen=True, slots=True)
class _Put:
    """A stream of one tenant, with what of it does not change from page to page."""

    tenant: TenantId
    stream: HubStream
    fingerprint: str
    spec: StreamSpec  # as the engine takes it
    selected: frozenset[DeviceId] | None  # of the devices of this page; None: all

    def key(self, device: DeviceId) -> Key:
        return self.tenant, self.stream.spec.name, device


class StreamFold:
    def __init__(self, engines: Engines, listeners: Sequence[WindowListener] = ()) -> None:
        self._engines = engines
        self._listeners = listeners
        self._put: dict[TenantId, list[_Put]] = {}
        self._told: list[Told] = []

    def forget(self) -> None:
        self._told.clear()

    def read(self, tx: Tx, devices: Iterable[DeviceId]) -> None:
        """The streams as they are now; a new one sees what is folded from now on."""
        wanted = sorted(devices)
        self._put = defaultdict(list)
        for stored in stream_specs.every(tx):
            stream = specs.parsed(stored.yaml)
            selector = stream.spec.selector
            chosen = frozenset(fleet_store.matching_among(tx, stored.tenant, selector, wanted)) if selector else None
            self._put[stored.tenant].append(_Put(stored.tenant, stream, stream.fingerprint, _engine_spec(stream), chosen))
        if any(put.stream.across is Across.FLEET for own in self._put.values() for put in own):
            self._engines.load(tx, [FLEET])

    def fold(self, page: Page) -> None:
        fields = StreamFields(page)
        usable = None if bool(page.usable.all()) else page.usable
        feeds: dict[tuple[TenantId, str], list[tuple[_Put, Feed]]] = defaultdict(list)
        for stretch in page.stretches:
            span = page.rows(stretch)
            if span.start == span.stop or not (own := self._put.get(stretch.tenant)):
                continue
            rows = None if usable is None else np.flatnonzero(usable[span]) + span.start
            for put in own:
                if put.selected is None or stretch.device in put.selected:
                    feed = self._feed(page, stretch, rows, fields, put)
                    if feed is not None:
                        feeds[put.tenant, put.stream.spec.name].append((put, feed))
        for asked in feeds.values():
            for (put, feed), closed in zip(asked, feed_all(page, [feed for _, feed in asked]), strict=True):
                self._over(put, feed.engine, feed.stretch.device, closed)  # the fleet's do not close here
        for batch, window in page.windows():
            self._told.append((batch.tenant, batch.device, _of_device(batch.device, window), True))

    def close_idle(self, stored: StreamState) -> None:
        """The windows that are open are over by the wall clock; its device was read."""
        key: Key = (stored.tenant, stored.stream, stored.device)
        put = next((put for put in self._put.get(stored.tenant, ()) if put.key(stored.device) == key), None)
        engine = self._engines.find(key, put.spec, put.fingerprint) if put else None
        if put is None or engine is None:
            self._engines.remove(key)
            return
        self._over(put, engine, stored.device, engine.windows.finish())
        self._engines.changed(engine)

    def write(self, tx: Tx, now_ms: int) -> None:
        stream_windows.add(tx, ((tenant, window) for tenant, _, window, stored in self._told if stored), now_ms)
        told: dict[tuple[TenantId, DeviceId | None], list[StreamWindow]] = defaultdict(list)
        for tenant, device, window, _ in self._told:
            told[tenant, device].append(window)
        for listener in self._listeners:
            for (tenant, device), windows in told.items():
                listener.on_windows(tx, tenant, device, windows)
        self._told.clear()

    def fleet_moves(self, tx: Tx, now_ms: int) -> bool:
        """Whether ``close_fleet`` would close anything."""
        return any(self._fleet_mark(tx, put, engine, now_ms) is not None for put, engine in self._fleets())

    def close_fleet(self, tx: Tx, now_ms: int) -> None:
        """Close the fleet's windows that every device has passed, but those that have been silent for too long.

        What the devices' engines know must be written, and how far the streams are folded.
        """
        for put, engine in self._fleets():
            mark = self._fleet_mark(tx, put, engine, now_ms)
            if mark is not None:
                self._over(put, engine, None, engine.windows.advance(mark))
                self._engines.changed(engine)
        self.write(tx, now_ms)

    def _feed(
        self, page: Page, stretch: Stretch, rows: NDArray[np.int64] | None, fields: StreamFields, put: _Put
    ) -> Feed | None:
        """None: there is nothing. Of the fleet's windows only the time is kept for each device."""
        at_ms = page.readings.at_ms[page.rows(stretch) if rows is None else rows]
        if not len(at_ms):
            return None
        key = put.key(stretch.device)
        own = self._engines.find(key, put.spec, put.fingerprint)
        if own is None:
            own = self._engines.make(key, put.spec, put.fingerprint)
            own.complete_from_ms = int(at_ms.min()) if page.batches[stretch.first].first_sequence else 0
        before_ms = own.event_ms
        own.event_ms = max(own.event_ms, int(at_ms.max()))
        own.received_ms = max(own.received_ms, stretch.received_ms)
        self._engines.changed(own)
        mine = fields.of(stretch)
        if put.stream.across is Across.DEVICE:
            return Feed(own, stretch, rows, mine)
        fleet_key = put.key(FLEET)
        fleet = self._engines.find(fleet_key, put.spec, put.fingerprint)
        if fleet is None:
            fleet = self._engines.make(fleet_key, put.spec, put.fingerprint)
        fleet.complete_from_ms = max(fleet.complete_from_ms, own.complete_from_ms)
        fleet.event_ms, fleet.received_ms = max(fleet.event_ms, own.event_ms), max(fleet.received_ms, own.received_ms)
        late = _late(page, stretch, rows, put.stream.spec, before_ms)
        if late is not None:
            fleet.windows.late += len(late)
            rows = np.setdiff1d(np.arange(*_bounds(page.rows(stretch))) if rows is None else rows, late)
        self._engines.changed(fleet)
        return Feed(fleet, stretch, rows, mine)

    def _fleets(self) -> list[tuple[_Put, Engine]]:
        """Those with open windows."""
        found = []
        for own in self._put.values():
            for put in own:
                if put.stream.across is Across.FLEET:
                    engine = self._engines.find(put.key(FLEET), put.spec, put.fingerprint)
                    if engine is not None and len(engine.windows):
                        found.append((put, engine))
        return found

    def _fleet_mark(self, tx: Tx, put: _Put, engine: Engine, now_ms: int) -> int | None:
        """What the watermark is to be now; None: it stays."""
        tenant, name, _ = engine.key
        heard_from_ms = now_ms - round(put.stream.wait_s * 1000)
        unheard = stream_states.unheard(tx, tenant, name)
        selector = put.stream.spec.selector
        if unheard and (not selector or fleet_store.matching_among(tx, tenant, selector, unheard)):
            return None  # what they have to say may be older than all that is known
        slowest = stream_states.fleet_time(tx, tenant, name, heard_from_ms)
        silence = engine.event_ms + specs.span_ms(engine.spec)  # past all that is open
        mark = silence if slowest is None else slowest - put.stream.spec.window.lateness_ms
        told = engine.windows.watermark_ms
        return mark if told is None or mark > told else None

    def _over(self, put: _Put, engine: Engine, device: DeviceId | None, closed: Iterable[Closed]) -> None:
        send = put.stream.spec.send
        for one in closed:
            stored = send is Send.ALL or (send is Send.HOLDING and bool(one.holds))
            window = _of_hub(device, one, complete=one.start_ms >= engine.complete_from_ms)
            self._told.append((put.tenant, device, window, stored))


def _late(
    page: Page, stretch: Stretch, rows: NDArray[np.int64] | None, spec: StreamSpec, before_ms: int
) -> NDArray[np.int64] | None:
    """Rows that come after a window of theirs is over by their own device's time; None: there are none.

    The fleet's time is never ahead of it, so what is left out is the same whenever the others' readings come.
    """
    window = spec.window
    late = []
    newest_ms = before_ms
    for number in range(stretch.first, stretch.end):
        own = page.rows_of(number, number + 1)
        index = np.arange(*_bounds(own)) if rows is None else rows[(rows >= own.start) & (rows < own.stop)]
        if not len(index):
            continue
        at_ms = page.readings.at_ms[index]
        first_end = ((at_ms - window.size_ms) // window.hop_ms + 1) * window.hop_ms + window.size_ms
        late.append(index[first_end <= newest_ms - window.lateness_ms])
        newest_ms = max(newest_ms, int(at_ms.max()))
    found = np.concatenate(late)
    return found if len(found) else None


def _bounds(span: slice) -> tuple[int, int]:
    return span.start, span.stop


def _engine_spec(stream: HubStream) -> StreamSpec:
    if stream.across is Across.DEVICE:
        return stream.spec
    return replace(stream.spec, window=replace(stream.spec.window, lateness_s=_NEVER_LATE_S))


def _of_hub(device: DeviceId | None, closed: Closed, *, complete: bool) -> StreamWindow:
    return StreamWindow(
        stream=closed.stream,
        device=device,
        origin="hub",
        key=",".join(f"{field}={value}" for field, value in closed.key),
        start=from_ms(max(0, closed.start_ms)),
        end=from_ms(closed.end_ms),
        readings=closed.readings,
        values=dict(closed.values),
        counts={**dict(closed.counts), **{name: _dense(tally) for name, tally in closed.tallies}},
        holds=closed.holds,
        complete=complete,
    )


def _of_device(device: DeviceId, window: Window) -> StreamWindow:
    return StreamWindow(
        stream=window.stream,
        device=device,
        origin="device",
        key=window.key,
        start=window.start,
        end=window.end,
        readings=window.readings,
        values=dict(window.values),
        complete=window.complete,
    )


def _dense(tally: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    counts = dict(tally)
    return tuple(counts.get(label, 0) for label in range(min(max(counts, default=-1) + 1, MAX_COUNTS)))
