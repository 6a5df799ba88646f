"""Drift: landed readings -> event-time windows -> verdicts -> episodes -> a request to train again.

Batches are folded in the order they landed, and the windows, the verdicts and the place in that order are written in one
transaction: a crash folds nothing twice and leaves nothing out.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from cloud_hub.core.config import DriftConfig
from cloud_hub.core.drift import Change, Streak, Verdict, confidence_histogram, follow, judge, label_histogram
from cloud_hub.core.errors import HubError
from cloud_hub.core.model import DriftEpisode, DriftWindow, ModelVersion, Principal
from cloud_hub.services.versions import Versions
from cloud_hub.store import drift as store
from cloud_hub.store import landing, registry
from cloud_hub.store.database import Database, Tx
from cloud_hub.store.drift import DriftDevice
from edge_agent.core.clock import Clock
from protos.contract import codec
from protos.contract.errors import InvalidMessage
from protos.contract.ids import DeviceId, ModelName, TenantId
from protos.contract.telemetry import InferenceTable, from_ms, to_ms

log = logging.getLogger(__name__)

PAGE_BATCHES = 200  # folded in one transaction: a fifth of a second
TICK_PAGES = 50  # folded in one tick, so that closing idle windows is not put off for ever
IDLE_DEVICES = 500  # closed in one transaction
MAX_AHEAD_MS = 300_000  # a reading from further ahead of its arrival would make all honest ones after it late
MAX_EPISODES = 1000  # of a listing

WindowKey = tuple[ModelName, int, datetime]  # version and start


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unfolded:
    """A landed batch with what is needed to fold it."""

    landed: landing.Landed
    table: InferenceTable
    versions: tuple[ModelVersion | None, ...]  # by the table's model index; None: unknown here


class DriftService:
    """``tick`` may run in one thread at a time per hub; a second one finds its work done."""

    def __init__(self, db: Database, config: DriftConfig, on_open: Callable[[DriftEpisode], str], clock: Clock) -> None:
        """``on_open`` asks for a retraining and returns its job id, or "" where there is none yet.

        It is called outside of any transaction, again after a crash in between, and never again once it has returned.
        """
        self._db = db
        self._config = config
        self._on_open = on_open
        self._clock = clock
        self._versions = Versions()

    def tick(self, now: datetime | None = None) -> None:
        """Fold what has landed, judge what is over, tell what has opened."""
        now = now or self._clock.now()
        for _ in range(TICK_PAGES):
            if self._fold_page() < PAGE_BATCHES:
                self._close_idle(now)  # only once all that landed is folded: a backlog is old and still comes in order
                break
        self._tell()

    def episodes(self, who: Principal, model: ModelName | None = None, open_only: bool = False) -> list[DriftEpisode]:
        """Newest first."""
        with self._db.read() as tx:
            return store.episodes(tx, who.tenant, model, open_only, MAX_EPISODES)

    def windows(
        self, who: Principal, model: ModelName | None = None, device: DeviceId | None = None, limit: int = 100
    ) -> list[DriftWindow]:
        """Closed windows, newest first."""
        with self._db.read() as tx:
            return store.closed_windows(tx, who.tenant, model, device, limit)

    def _fold_page(self) -> int:
        """Batches folded; decoding happens outside the write transaction, which others wait for."""
        with self._db.read() as tx:
            cursor = store.cursor(tx)
            page = [self._unfold(tx, landed) for landed in landing.landed_after(tx, cursor, PAGE_BATCHES)]
        if not page:
            return 0
        with self._db.write() as tx:
            if store.cursor(tx) != cursor:
                return 0  # another process has folded it
            fold = _Fold(tx, self._config, {batch.landed.device for batch in page})
            for batch in page:
                fold.add(batch)
            fold.finish()
            store.put_cursor(tx, page[-1].landed.id)
        return len(page)

    def _unfold(self, tx: Tx, landed: landing.Landed) -> _Unfolded:
        try:
            table = codec.decode_batch(landed.payload).inferences
        except InvalidMessage as error:  # it could be decoded when it landed
            log.error("landed batch cannot be read", extra={"landing": landed.id, "reason": str(error)})
            table = InferenceTable.of(())
        versions = tuple(self._versions.find(tx, landed.tenant, digest) for digest in table.models)
        return _Unfolded(landed=landed, table=table, versions=versions)

    def _close_idle(self, now: datetime) -> None:
        """Windows of devices that say nothing more: when one more window has passed on the wall clock."""
        before_ms = to_ms(now) - _ms(self._config.lateness_s) - _ms(self._config.window_s)
        with self._db.read() as tx:
            idle = store.idle_devices(tx, before_ms, IDLE_DEVICES)
        if not idle:
            return
        with self._db.write() as tx:
            _Fold(tx, self._config, store.idle_devices(tx, before_ms, IDLE_DEVICES)).finish(before_ms)

    def _tell(self) -> None:
        with self._db.read() as tx:
            waiting = store.untold(tx)
        for episode in waiting:
            try:
                job_id = self._on_open(episode)
            except HubError as error:
                log.warning("drift not told, trying again", extra={"episode": episode.id, "reason": str(error)})
                continue
            with self._db.write() as tx:
                store.told(tx, episode.id, job_id)


class _Fold:
    """Folds batches into windows and judges those that are over, within one transaction."""

    def __init__(self, tx: Tx, config: DriftConfig, devices: Collection[DeviceId]) -> None:
        """``devices``: all that will be seen to."""
        self._tx = tx
        self._config = config
        self._window_ms, self._lateness_ms = _ms(config.window_s), _ms(config.lateness_s)
        self._states = store.find_devices(tx, devices)
        self._open: dict[DeviceId, dict[WindowKey, DriftWindow]] = {device: {} for device in devices}
        for window in store.open_windows(tx, devices):
            self._open[window.device][window.model, window.version, window.start] = window
        self._closed: list[DriftWindow] = []
        self._versions: dict[tuple[TenantId, ModelName, int], ModelVersion | None] = {}

    def add(self, batch: _Unfolded) -> None:
        table, landed = batch.table, batch.landed
        if not len(table):
            return
        times = table.captured_at_ms
        usable = times <= landed.received_ms + MAX_AHEAD_MS
        known = usable & np.array([version is not None for version in batch.versions])[table.model]
        newest = int(np.argmax(np.where(known, times, -1)))
        current = batch.versions[int(table.model[newest])] if known[newest] else None
        state = self._device(landed, current)
        if state is None:
            return  # it has never run a model that this hub has
        state.received_ms = max(state.received_ms, landed.received_ms)
        state.future += int(np.count_nonzero(~usable))
        on_time = (times // self._window_ms + 1) * self._window_ms + self._lateness_ms > state.event_ms
        state.late += int(np.count_nonzero(usable & ~on_time))
        for index, version in enumerate(batch.versions):
            rows = usable & on_time & (table.model == index)
            if version is None:
                state.unknown += int(np.count_nonzero(rows))
            else:
                self._add_version(state, version, table, rows)
        if current is not None and int(times[newest]) >= state.event_ms:
            state.event_ms = int(times[newest])
            self._runs(state, current)

    def finish(self, end_ms: int | None = None) -> None:
        """Judge what is over for each device, or what ended by ``end_ms``, and write everything."""
        for state in self._states.values():
            self._close(state, from_ms(max(0, state.event_ms - self._lateness_ms) if end_ms is None else end_ms))
        still = (window for windows in self._open.values() for window in windows.values())
        written = [(window, False) for window in still] + [(window, True) for window in self._closed]
        store.put_windows(self._tx, ((self._states[window.device].tenant, window, closed) for window, closed in written))
        store.put_devices(self._tx, self._states.values())

    def _device(self, landed: landing.Landed, current: ModelVersion | None) -> DriftDevice | None:
        state = self._states.get(landed.device)
        if state is None and current is not None:
            state = self._states[landed.device] = DriftDevice(
                device=landed.device,
                tenant=landed.tenant,
                model=current.name,
                version=current.version,
                event_ms=-1,
                received_ms=landed.received_ms,
            )
        return state

    def _add_version(self, state: DriftDevice, version: ModelVersion, table: InferenceTable, rows: NDArray[np.bool_]) -> None:
        known = rows & (table.label < len(version.baseline.labels))
        state.unknown += int(np.count_nonzero(rows & ~known))
        starts = table.captured_at_ms // self._window_ms * self._window_ms
        for start in np.unique(starts[known]).tolist():
            self._add_rows(state, version, start, table, known & (starts == start))

    def _add_rows(
        self, state: DriftDevice, version: ModelVersion, start: int, table: InferenceTable, rows: NDArray[np.bool_]
    ) -> None:
        window = self._window(state.device, version, from_ms(start))
        readings = int(np.count_nonzero(rows))
        if window is None:
            state.late += readings
            return
        confidence = table.confidence[rows]
        labels = label_histogram(table.label[rows], len(window.label_counts))
        bins = confidence_histogram(confidence, len(window.confidence_counts))
        self._open[state.device][version.name, version.version, window.start] = replace(
            window,
            readings=window.readings + readings,
            label_counts=_sum(window.label_counts, labels),
            confidence_counts=_sum(window.confidence_counts, bins),
            confidence_sum=window.confidence_sum + float(confidence.sum(dtype=np.float64)),
        )

    def _window(self, device: DeviceId, version: ModelVersion, start: datetime) -> DriftWindow | None:
        """None: it is closed."""
        found = self._open[device].get((version.name, version.version, start))
        if found is None and not store.is_closed(self._tx, device, version.name, version.version, start):
            found = _empty(device, version, start, self._window_ms)
        return found

    def _close(self, state: DriftDevice, end: datetime) -> None:
        """Judge every window of the device that ended by ``end``; those of the version it runs move its episode."""
        windows = self._open[state.device]
        for key in sorted(key for key, window in windows.items() if window.end <= end):
            window = windows.pop(key)
            version = self._version(state, window)
            verdict = judge(window, version.baseline, self._config) if version else Verdict()
            self._closed.append(
                replace(
                    window,
                    label_psi=verdict.label_psi,
                    confidence_psi=verdict.confidence_psi,
                    confidence_shift=verdict.confidence_shift,
                    drifted=verdict.drifted,
                )
            )
            if verdict.judged and (window.model, window.version) == (state.model, state.version):
                _follow(self._tx, state, window, verdict, self._config)

    def _version(self, state: DriftDevice, window: DriftWindow) -> ModelVersion | None:
        key = (state.tenant, window.model, window.version)
        if key not in self._versions:
            self._versions[key] = registry.find_version(self._tx, state.tenant, window.model, window.version)
        return self._versions[key]

    def _runs(self, state: DriftDevice, version: ModelVersion) -> None:
        """A device that runs another version now starts anew."""
        if (state.model, state.version) == (version.name, version.version):
            return
        state.model, state.version, state.streak = version.name, version.version, Streak()
        for episode in store.open_episodes(self._tx, state.device):
            why = f"{version.name}:{version.version} runs instead"
            store.close_episode(self._tx, episode, from_ms(state.event_ms), why)
            log.info("drift closed", extra={"episode": episode.id, "device": state.device, "why": why})


def _follow(tx: Tx, state: DriftDevice, window: DriftWindow, verdict: Verdict, config: DriftConfig) -> None:
    episode = next(iter(store.open_episodes(tx, state.device)), None)
    state.streak, change = follow(state.streak, is_open=episode is not None, drifted=verdict.drifted, config=config)
    if change is Change.OPEN:
        reason = f"{state.drifted} windows in a row, the last of {window.readings} readings: {verdict.reason}"
        opened = store.open_episode(tx, state.tenant, state.device, window.model, window.version, window.end, reason)
        log.warning("drift opened", extra={"episode": opened.id, "device": state.device, "reason": reason})
    elif change is Change.CLOSE and episode is not None:
        store.close_episode(tx, episode, window.end, f"{state.quiet} quiet windows in a row")
        log.info("drift closed", extra={"episode": episode.id, "device": state.device})


def _empty(device: DeviceId, version: ModelVersion, start: datetime, window_ms: int) -> DriftWindow:
    return DriftWindow(
        device=device,
        model=version.name,
        version=version.version,
        start=start,
        end=start + timedelta(milliseconds=window_ms),
        readings=0,
        label_counts=(0,) * len(version.baseline.labels),
        confidence_counts=(0,) * len(version.baseline.confidence_share),
        confidence_sum=0.0,
    )


def _sum(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(left, right, strict=True))


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
