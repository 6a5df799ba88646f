"""Folds landed batches into windows of event time, judges those that are over, and moves their episodes."""

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from cloud_hub.core.config import DriftConfig
from cloud_hub.core.drift import Change, Streak, Verdict, confidence_histogram, follow, judge, label_histogram
from cloud_hub.core.model import DriftWindow, ModelVersion
from cloud_hub.store import drift as store
from cloud_hub.store import episodes, landing, registry
from cloud_hub.store.database import Tx
from cloud_hub.store.drift import DriftDevice
from protos.contract.ids import DeviceId, ModelName, TenantId
from protos.contract.telemetry import InferenceTable, from_ms

log = logging.getLogger(__name__)

MAX_AHEAD_MS = 300_000  # a reading from further ahead of its arrival would make all honest ones after it late

WindowKey = tuple[ModelName, int, datetime]  # version and start


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfolded:
    """A landed batch with what is needed to fold it."""

    landed: landing.Landed
    table: InferenceTable
    versions: tuple[ModelVersion | None, ...]  # by the table's model index; None: unknown here


class Fold:
    """Folds batches into windows and judges those that are over, within one transaction."""

    def __init__(self, tx: Tx, config: DriftConfig, devices: Collection[DeviceId]) -> None:
        """``devices``: all that will be seen to."""
        self._tx = tx
        self._config = config
        self._window_ms, self._lateness_ms = as_ms(config.window_s), as_ms(config.lateness_s)
        self._states = store.find_devices(tx, devices)
        self._open: dict[DeviceId, dict[WindowKey, DriftWindow]] = {device: {} for device in devices}
        for window in store.open_windows(tx, devices):
            self._open[window.device][window.model, window.version, window.start] = window
        self._closed: list[DriftWindow] = []
        self._versions: dict[tuple[TenantId, ModelName, int], ModelVersion | None] = {}

    def add(self, batch: Unfolded) -> None:
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
        if state is not None and state.tenant != landed.tenant:
            self._leave(state)
            state = None
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

    def _leave(self, state: DriftDevice) -> None:
        """The device was deleted, and made again for another tenant: nothing of the old one's goes over."""
        windows = self._open[state.device]
        store.put_windows(self._tx, ((state.tenant, window, True) for window in windows.values()))
        windows.clear()
        episodes.close_all(self._tx, state.device, from_ms(max(0, state.event_ms)), "the device is another tenant's now")
        del self._states[state.device]

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
        why = f"{version.name}:{version.version} runs instead"
        episodes.close_all(self._tx, state.device, from_ms(state.event_ms), why)


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


def as_ms(seconds: float) -> int:
    """At least 1."""
    return max(1, round(seconds * 1000))
