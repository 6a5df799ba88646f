"""Readings for the gates of rollouts, counted as they are folded: each once, and only those of devices that a gate looks at."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cloud_hub.archive.histograms import latency_buckets
from cloud_hub.core.drift import confidence_histogram
from cloud_hub.core.model import ModelVersion
from cloud_hub.core.tallies import SLOTS, Side, Tally
from cloud_hub.services.unfolding import Page, Stretch
from cloud_hub.store import gate_counts
from cloud_hub.store import gates as store
from cloud_hub.store.database import Tx
from cloud_hub.store.gates import Gated, Watch
from cloud_hub.store.stream_states import StreamState
from protos.contract.ids import DeviceId
from protos.contract.telemetry import FLAG_UNCERTAIN, to_ms


class GateFold:
    """A consumer of the fold (``services.folding.Consumer``)."""

    def __init__(self) -> None:
        self._watched: dict[DeviceId, list[Watch]] = {}
        self._more: dict[tuple[str, Side], list[Tally]] = {}

    def read(self, tx: Tx, devices: Iterable[DeviceId]) -> None:
        gated = store.every(tx)
        self._watched = store.watches(tx, gated, set(devices)) if gated else {}

    def fold(self, page: Page) -> None:
        for stretch in page.stretches:
            for watch in self._watched.get(stretch.device, ()):
                if watch.gated.tenant == stretch.tenant:
                    self._more.setdefault((watch.gated.rollout, watch.side), []).extend(_counted(page, stretch, watch))

    def close_idle(self, stored: StreamState) -> None:
        """Nothing here waits for a window to close."""

    def write(self, tx: Tx, now_ms: int) -> None:
        for (rollout, side), more in self._more.items():
            gate_counts.add_tallies(tx, rollout, side, more)
        self._more.clear()

    def forget(self) -> None:
        self._more.clear()


def counts_for(gated: Gated, side: Side, version: ModelVersion) -> bool:
    """Whether what is read under ``version`` says anything about this side of a rollout."""
    if gated.model is None:
        return True
    name, number = gated.model
    return version.name == name and (version.version == number) == (side is Side.TREATED)


def _counted(page: Page, stretch: Stretch, watch: Watch) -> list[Tally]:
    span = page.rows(stretch)
    told = np.array([one is not None and counts_for(watch.gated, watch.side, one) for one in page.versions])
    counted = page.usable[span] & told[page.version[span]] & (page.readings.at_ms[span] >= to_ms(watch.since))
    rows = np.flatnonzero(counted) + span.start
    slots = 0 if watch.side in watch.gated.coarse else page.readings.at_ms[rows] // watch.gated.slot_ms % SLOTS
    keys = page.version[rows] * SLOTS + slots
    return [_tally(page, stretch.device, int(key), rows[keys == key]) for key in np.unique(keys)]


def _tally(page: Page, device: DeviceId, key: int, rows: NDArray[np.int64]) -> Tally:
    version = page.versions[key // SLOTS]
    assert version is not None  # None counts for nothing
    readings = page.readings
    confidence = readings.confidence[rows].astype(np.float64)
    return Tally(
        device=device,
        slot=key % SLOTS,
        version=f"{version.name}:{version.version}",
        readings=len(rows),
        uncertain=int(np.count_nonzero(readings.flags[rows] & FLAG_UNCERTAIN)),
        shift=float(confidence.sum()) - len(rows) * version.baseline.confidence_mean,
        confidence=np.array(confidence_histogram(confidence), dtype=np.float64),
        latency=Counter(latency_buckets(readings.latency_ms[rows]).tolist()),
        labels=Counter(readings.label[rows].tolist()),
    )
