"""Drift as a stream: each device's windows under each version, judged when they are over, moving its episodes."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cloud_hub.core.config import DriftConfig
from cloud_hub.core.drift import CONFIDENCE_BINS, Change, Streak, Verdict, follow, judge
from cloud_hub.core.model import DriftWindow, ModelVersion
from cloud_hub.services.engines import MAX_REMEMBERED, Engine, Engines, Feed, Key, feed_all
from cloud_hub.services.unfolding import Page, Stretch
from cloud_hub.store import drift as store
from cloud_hub.store import episodes, registry
from cloud_hub.store.database import Tx
from cloud_hub.store.drift import DriftDevice
from cloud_hub.store.stream_states import DRIFT, StreamState
from edge_agent.streams.rows import Column
from edge_agent.streams.spec import Aggregate, Kind, StreamSpec, WindowSpec
from edge_agent.streams.windows import Closed
from protos.contract.ids import DeviceId, ModelName, TenantId
from protos.contract.telemetry import from_ms

log = logging.getLogger(__name__)

Effect = Callable[[Tx], None]


def spec_of(config: DriftConfig) -> StreamSpec:
    return StreamSpec(
        name=DRIFT,
        window=WindowSpec(kind=Kind.TUMBLING, size_s=as_s(config.window_s), lateness_s=as_s(config.lateness_s)),
        by=("version",),
        aggregates={
            "labels": Aggregate(function="counts", field="label"),
            "confidence": Aggregate(function="histogram", field="confidence", low=0.0, high=1.0, bins=CONFIDENCE_BINS),
            "confidence_sum": Aggregate(function="sum", field="confidence"),
        },
    )


class DriftFold:
    """What is read from the database once is remembered until ``forget``."""

    def __init__(self, config: DriftConfig, engines: Engines) -> None:
        self._config = config
        self._engines = engines
        self._spec = spec_of(config)
        self._states: dict[DeviceId, DriftDevice | None] = {}
        self._changed: dict[DeviceId, DriftDevice] = {}
        self._effects: list[Effect] = []  # of this page, in the order of event time per device
        self._windows: list[tuple[TenantId, DriftWindow]] = []
        self._versions: dict[tuple[TenantId, ModelName, int], ModelVersion] = {}

    def forget(self) -> None:
        for part in (self._states, self._changed, self._effects, self._windows):
            part.clear()

    def read(self, tx: Tx, devices: Iterable[DeviceId]) -> None:
        if len(self._states) > MAX_REMEMBERED:
            self._states.clear()
        missing = set(devices) - self._states.keys()
        found = store.find_devices(tx, missing)
        self._states.update({device: found.get(device) for device in missing})

    def fold(self, page: Page) -> None:
        fields = _Fields.of(page)
        often = Counter(stretch.device for stretch in page.stretches)
        together: list[tuple[DriftDevice, Feed]] = []  # one for each device: what they say of each other is nothing
        for stretch in page.stretches:
            state = self._own_state(stretch)
            if often[stretch.device] == 1 and state is not None and _goes_on(page, stretch, state):
                together.append((state, self._feed(page, stretch, state, fields)))
                continue
            for number in range(stretch.first, stretch.end):
                one = replace(stretch, first=number, end=number + 1, received_ms=page.batches[number].received_ms)
                state = self._batch(page, one, state, fields)
        self._take(page, together)

    def close_idle(self, stored: StreamState) -> None:
        """The windows that are open are over by the wall clock; its device was read."""
        state = self._states.get(stored.device)
        engine = self._engines.find((stored.tenant, DRIFT, stored.device), self._spec, self._spec.fingerprint)
        if state is None or engine is None or state.tenant != stored.tenant:
            self._engines.remove((stored.tenant, DRIFT, stored.device))
            return
        self._over(state, engine.windows.finish())
        self._engines.changed(engine)

    def write(self, tx: Tx, now_ms: int) -> None:
        for effect in self._effects:
            effect(tx)
        store.put_windows(tx, self._windows)
        store.put_devices(tx, self._changed.values())
        self._effects.clear()
        self._windows.clear()
        self._changed.clear()

    def _own_state(self, stretch: Stretch) -> DriftDevice | None:
        state = self._states.get(stretch.device)
        if state is not None and state.tenant != stretch.tenant:
            self._leave(state)
            return None
        return state

    def _batch(self, page: Page, one: Stretch, state: DriftDevice | None, fields: "_Fields") -> DriftDevice | None:
        """A batch that may say that the device runs another version now: the one of its newest reading."""
        span = page.rows(one)
        known = page.usable[span] & (page.version[span] > 0)
        if span.start == span.stop or (state is None and not known.any()):
            return state  # it has never run a model that this hub has
        times = np.where(known, page.readings.at_ms[span], -1)
        newest = int(np.argmax(times))
        current = page.versions[int(page.version[span][newest])] if known[newest] else None
        if state is None:
            assert current is not None
            state = self._states[one.device] = DriftDevice(
                device=one.device, tenant=one.tenant, model=current.name, version=current.version, event_ms=-1, received_ms=0
            )
        runs = current if current is not None and int(times[newest]) >= state.event_ms else None
        if runs is not None and not _runs(state, runs):
            state.model, state.version = runs.name, runs.version
            self._effects.append(_anew(state, int(times[newest]), f"{runs.name}:{runs.version} runs instead"))
        self._take(page, [(state, self._feed(page, one, state, fields))])
        return state

    def _feed(self, page: Page, stretch: Stretch, state: DriftDevice, fields: "_Fields") -> Feed:
        """Count the readings of a stretch."""
        span = page.rows(stretch)
        usable, known = page.usable[span], fields.known[span]
        engine = self._engine(state)
        of_versions = usable & (page.version[span] > 0)
        if of_versions.any():
            state.event_ms = max(state.event_ms, int(page.readings.at_ms[span][of_versions].max()))
        state.received_ms = max(state.received_ms, stretch.received_ms)
        state.future += int(np.count_nonzero(~usable))
        state.unknown += int(np.count_nonzero(usable & ~known))
        self._changed[state.device] = state
        rows = None if bool(known.all()) else np.flatnonzero(known) + span.start
        return Feed(engine, stretch, rows, fields.columns)

    def _take(self, page: Page, fed: Sequence[tuple[DriftDevice, Feed]]) -> None:
        """Of different devices."""
        before = [feed.engine.windows.late for _, feed in fed]
        for (state, feed), late, closed in zip(fed, before, feed_all(page, [feed for _, feed in fed]), strict=True):
            engine = feed.engine
            state.late += engine.windows.late - late
            if engine.windows.newest_ms is not None:
                engine.event_ms = engine.windows.newest_ms
            engine.received_ms = state.received_ms
            self._engines.changed(engine)
            self._over(state, closed)

    def _engine(self, state: DriftDevice) -> Engine:
        key: Key = (state.tenant, DRIFT, state.device)
        engine = self._engines.find(key, self._spec, self._spec.fingerprint)
        if engine is None:
            engine = self._engines.make(key, self._spec, self._spec.fingerprint)
            if state.event_ms >= 0:  # what was judged before is over, though this engine does not know of it
                engine.windows.advance(state.event_ms - self._spec.window.lateness_ms)
        return engine

    def _over(self, state: DriftDevice, closed: Iterable[Closed]) -> None:
        """Judge windows in order; those of the version that the device runs move its episode."""
        self._changed[state.device] = state
        runs = (state.model, state.version)
        self._effects += [partial(self._judge, state=state, closed=one, runs=runs) for one in closed]

    def _judge(self, tx: Tx, state: DriftDevice, closed: Closed, runs: tuple[ModelName, int]) -> None:
        name, _, number = str(closed.key[0][1]).rpartition(":")
        version = self._version(tx, state.tenant, ModelName(name), int(number))
        window = _window(state.device, ModelName(name), int(number), closed, version)
        alike = version is not None and len(version.baseline.confidence_share) == len(window.confidence_counts)
        verdict = judge(window, version.baseline, self._config) if version is not None and alike else Verdict()
        judged = replace(
            window,
            label_psi=verdict.label_psi,
            confidence_psi=verdict.confidence_psi,
            confidence_shift=verdict.confidence_shift,
            drifted=verdict.drifted,
        )
        self._windows.append((state.tenant, judged))
        if verdict.judged and (window.model, window.version) == runs:
            _follow(tx, state, window, verdict, self._config)

    def _leave(self, state: DriftDevice) -> None:
        """The device was deleted, and made again for another tenant: nothing of the old one's goes over."""
        key: Key = (state.tenant, DRIFT, state.device)
        engine = self._engines.find(key, self._spec, self._spec.fingerprint)
        for closed in engine.windows.finish() if engine else ():
            name, _, number = str(closed.key[0][1]).rpartition(":")
            self._windows.append((state.tenant, _window(state.device, ModelName(name), int(number), closed, None)))
        self._engines.remove(key)
        self._states[state.device] = None
        self._changed.pop(state.device, None)
        self._effects.append(_anew(state, max(0, state.event_ms), "the device is another tenant's now"))

    def _version(self, tx: Tx, tenant: TenantId, name: ModelName, number: int) -> ModelVersion | None:
        key = (tenant, name, number)
        found = self._versions.get(key)
        if found is None and (found := registry.find_version(tx, *key)) is not None:
            self._versions[key] = found
        return found


@dataclass(frozen=True, slots=True)
class _Fields:
    """What the built-in spec asks for, of a whole page."""

    columns: Mapping[str, Column]
    known: NDArray[np.bool_]  # (rows,) of a time that can be, of a model and a class that this hub has

    @classmethod
    def of(cls, page: Page) -> "_Fields":
        names = [f"{version.name}:{version.version}" if version else "" for version in page.versions]
        classes = np.array([len(version.baseline.labels) if version else 0 for version in page.versions], dtype=np.int64)
        same = len(names) == 2  # every known reading is of one version
        columns: dict[str, Column] = {
            "version": names[1] if same else np.array(names, dtype=object)[page.version],
            "label": page.readings.label,
            "confidence": page.readings.confidence,
        }
        return cls(columns, page.usable & (page.readings.label < classes[page.version]))


def _anew(state: DriftDevice, at_ms: int, why: str) -> Effect:
    """What was seen until then says nothing of what comes."""

    def effect(tx: Tx) -> None:
        state.streak = Streak()
        episodes.close_all(tx, state.device, from_ms(at_ms), why)

    return effect


def _goes_on(page: Page, stretch: Stretch, state: DriftDevice) -> bool:
    """Whether all readings can be used and are of the version that the device runs."""
    span = page.rows(stretch)
    if span.start == span.stop:
        return False
    version = int(page.version[span.start])
    same = bool((page.version[span] == version).all()) and bool(page.usable[span].all())
    return same and _runs(state, page.versions[version])


def _runs(state: DriftDevice, version: ModelVersion | None) -> bool:
    return version is not None and (state.model, state.version) == (version.name, version.version)


def _follow(tx: Tx, state: DriftDevice, window: DriftWindow, verdict: Verdict, config: DriftConfig) -> None:
    episode = next(iter(episodes.still_open(tx, state.device)), None)
    state.streak, change = follow(state.streak, is_open=episode is not None, drifted=verdict.drifted, config=config)
    if change is Change.OPEN:
        reason = f"{state.drifted} windows in a row, the last of {window.readings} readings: {verdict.reason}"
        opened = episodes.add(tx, state.tenant, state.device, window.model, window.version, window.end, reason)
        log.warning("drift opened", extra={"episode": opened.id, "device": state.device, "reason": reason})
    elif change is Change.CLOSE and episode is not None:
        episodes.close(tx, episode, window.end, f"{state.quiet} quiet windows in a row")
        log.info("drift closed", extra={"episode": episode.id, "device": state.device})


def _window(device: DeviceId, name: ModelName, number: int, closed: Closed, version: ModelVersion | None) -> DriftWindow:
    tally = dict(dict(closed.tallies)["labels"])
    classes = len(version.baseline.labels) if version else max(tally, default=-1) + 1
    bins = dict(closed.counts)["confidence"]
    return DriftWindow(
        device=device,
        model=name,
        version=number,
        start=from_ms(closed.start_ms),
        end=from_ms(closed.end_ms),
        readings=closed.readings,
        label_counts=tuple(tally.get(label, 0) for label in range(classes)),
        confidence_counts=_joined(bins, len(version.baseline.confidence_share)) if version else bins,
        confidence_sum=dict(closed.values).get("confidence_sum", 0.0),
    )


def _joined(counts: tuple[int, ...], bins: int) -> tuple[int, ...]:
    """Over the bins of a baseline that has fewer; as they are where that cannot be."""
    if bins < 1 or len(counts) % bins:
        return counts
    width = len(counts) // bins
    return tuple(sum(counts[start : start + width]) for start in range(0, len(counts), width))


def as_s(seconds: float) -> float:
    """Whole milliseconds, at least one."""
    return max(1, round(seconds * 1000)) / 1000
