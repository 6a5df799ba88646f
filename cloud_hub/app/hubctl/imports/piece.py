"""What every import gives: samples one at a time, and what it could not take, counted."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

MAX_SAMPLE_BYTES = 4 << 20  # the hub's own limit (datasets.proto)
SPLITS = ("train", "val", "test")
_TOLD = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One sample."""

    name: str
    data: bytes  # as the kind of the data set says
    label: str  # as its annotation says; empty: unlabelled
    source: str  # what shares it never parts across splits
    split: str = ""  # "", "train", "val" or "test"
    at_ms: int = 0  # when it was captured; 0: not known


@dataclass(slots=True)
class Refusals:
    """Counted, the first of them with their reasons; ``notes`` are decisions that a user should know of."""

    count: int = 0
    told: list[tuple[str, str]] = field(default_factory=list)  # name, reason
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, reason: str) -> None:
        self.count += 1
        if len(self.told) < _TOLD:
            self.told.append((name, reason))


class Source(Protocol):
    """Samples; memory holds few. Raises Failure for a source that cannot be read at all."""

    refusals: Refusals  # of what was read so far

    def __len__(self) -> int:
        """How many there are, as far as it is known: for a progress bar."""

    def __iter__(self) -> Iterator[Piece]: ...
