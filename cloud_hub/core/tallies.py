"""What gates count: readings of one device, in clusters that are little alike, as sums that grow."""

from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from cloud_hub.core.drift import CONFIDENCE_BINS

SLOTS = 16  # spans that follow each other; after the last the first comes again, so a device has so many rows at most
LEAST_SLOT_MS, MOST_SLOT_MS = 5_000, 60_000  # longer than one thing stays in view; than a scene mostly lasts

MANY = 64  # devices on one side: then each is told from the others, and its moments need not be

Array = NDArray[np.float64]


class Side(IntEnum):
    """Which group a device's readings count for; numbers are the store's."""

    BEFORE = 1  # until it was dispatched
    TREATED = 2  # since it committed
    CONTROL = 3  # while its turn has not come


@dataclass(slots=True, kw_only=True)
class Tally:
    """What one device did in one slot under one version."""

    device: str
    slot: int  # 0..SLOTS - 1
    version: str  # "name:version"; empty: of what the device counts itself, whatever it runs
    readings: int = 0
    uncertain: int = 0
    shift: float = 0.0  # confidence less the version's mean at validation, summed
    confidence: Array = field(default_factory=lambda: np.zeros(CONFIDENCE_BINS))  # readings by bin
    latency: Counter[int] = field(default_factory=Counter)  # readings by bucket of ``cloud_hub.archive.histograms``
    labels: Counter[int] = field(default_factory=Counter)  # readings by class
    attempts: int = 0  # inferences, failed ones included, as the device counts them
    errors: int = 0

    @property
    def key(self) -> tuple[str, int, str]:
        return self.device, self.slot, self.version

    def add(self, other: "Tally") -> None:
        """More of the same key."""
        self.readings += other.readings
        self.uncertain += other.uncertain
        self.shift += other.shift
        self.confidence = self.confidence + other.confidence
        self.latency.update(other.latency)
        self.labels.update(other.labels)
        self.attempts += other.attempts
        self.errors += other.errors


def slot_ms(seconds: float) -> int:
    """How long a slot is where ``seconds`` are to be told apart: long ones, for what comes after another is like it."""
    return min(MOST_SLOT_MS, max(LEAST_SLOT_MS, round(seconds * 1000 / SLOTS)))
