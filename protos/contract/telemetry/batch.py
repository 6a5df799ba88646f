"""The unit of durability and of deduplication, and the licence to forget it."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from protos.contract.errors import InvalidValue
from protos.contract.telemetry.bounds import MAX_ROWS, check_epoch, check_range, check_sequence
from protos.contract.telemetry.records import Event, Gap, Lane, Window
from protos.contract.telemetry.table import NO_INFERENCES, InferenceTable


class BatchHead(NamedTuple):
    """What a store must know of a valid batch without unfolding it; a tuple, because a hub makes tens of thousands a second."""

    epoch: str
    lane: Lane
    first_sequence: int
    last_sequence: int
    records: int  # produced and kept
    dropped: int  # what its gaps stand in for
    first_captured_ms: int | None  # None: no inferences
    last_captured_ms: int | None
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One durable unit of one (epoch, lane) stream. Raises InvalidValue unless every sequence is accounted for once."""

    epoch: str
    lane: Lane
    first_sequence: int
    last_sequence: int
    inferences: InferenceTable = field(default_factory=lambda: NO_INFERENCES)
    events: tuple[Event, ...] = ()
    gaps: tuple[Gap, ...] = ()
    windows: tuple[Window, ...] = ()

    def __post_init__(self) -> None:
        check_epoch(self.epoch)
        check_range(self.first_sequence, self.last_sequence)
        if max(len(self.events), len(self.gaps), len(self.windows)) > MAX_ROWS:
            raise InvalidValue(f"batch holds more than {MAX_ROWS} rows of one kind")
        expected = self.first_sequence
        for first, last in self._spans():
            if first != expected:
                raise InvalidValue(f"batch {self.first_sequence}..{self.last_sequence} does not account for {expected} once")
            expected = last + 1
        if expected != self.last_sequence + 1:
            raise InvalidValue(f"batch {self.first_sequence}..{self.last_sequence} accounts only for what is below {expected}")

    @property
    def records(self) -> int:
        """Records produced and kept: gaps do not count."""
        return len(self.inferences) + len(self.events) + len(self.windows)

    @property
    def dropped(self) -> int:
        """Records the gaps stand in for."""
        return sum(gap.records for gap in self.gaps)

    @property
    def head(self) -> BatchHead:
        times = self.inferences.captured_at_ms
        return BatchHead(
            epoch=self.epoch,
            lane=self.lane,
            first_sequence=self.first_sequence,
            last_sequence=self.last_sequence,
            records=self.records,
            dropped=self.dropped,
            first_captured_ms=int(times.min()) if len(times) else None,
            last_captured_ms=int(times.max()) if len(times) else None,
            events=self.events,
        )

    def _spans(self) -> list[tuple[int, int]]:
        """Sorted (first, last) of everything in the batch, runs of inferences joined."""
        records: tuple[Event | Window, ...] = (*self.events, *self.windows)
        spans = [(record.sequence, record.sequence) for record in records]
        spans += [(gap.first_sequence, gap.last_sequence) for gap in self.gaps]
        sequence = self.inferences.sequence
        if len(sequence):
            breaks = np.flatnonzero(np.diff(sequence) != 1)
            firsts = np.concatenate((sequence[:1], sequence[breaks + 1]))
            lasts = np.concatenate((sequence[breaks], sequence[-1:]))
            spans += [(int(first), int(last)) for first, last in zip(firsts, lasts, strict=True)]
        return sorted(spans)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Every sequence of (epoch, lane) up to ``committed_through`` is in the store: the only licence to forget it."""

    epoch: str
    lane: Lane
    committed_through: int

    def __post_init__(self) -> None:
        check_epoch(self.epoch)
        check_sequence(self.committed_through)
