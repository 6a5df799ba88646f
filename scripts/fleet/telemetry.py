"""What a simulated device tells: readings drawn by chance, in real batches, kept until the hub's watermark covers them.

Simulated: the spool is memory that outlives the device's restarts, as the agent's file would. Real: numbering, batches that are
never cut again, sending all that is not covered again after every connect, and forgetting by watermark alone.
"""

import secrets
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from protos.contract import codec
from protos.contract.ids import Digest
from protos.contract.telemetry import Batch, Event, InferenceTable, Lane, Mark, to_ms
from scripts.fleet.conditions import Behaviour

STALLED_S = 20.0  # without a watermark, all of it goes again
_SPREAD = 0.1  # of confidences


class Told:
    """All that a device has to tell, in the lanes of an agent. For one thread."""

    def __init__(self, dice: np.random.Generator) -> None:
        self._dice = dice
        self.epoch = secrets.token_hex(8)
        self.errors = 0  # inferences that failed: they are no reading
        self._lanes = {lane: _Lane() for lane in (Lane.CRITICAL, Lane.NORMAL)}
        self._moved_at = 0.0  # monotonic: when there last was progress

    @property
    def produced(self) -> int:
        """Records."""
        return sum(lane.produced for lane in self._lanes.values())

    @property
    def waiting(self) -> int:
        """Batches that the hub has not confirmed."""
        return sum(len(lane.batches) for lane in self._lanes.values())

    def readings(
        self, count: int, model: Digest, labels: int, threshold: float, does: Behaviour, at: datetime, over_s: float
    ) -> tuple[Lane, bytes]:
        """Make ``count`` readings of the last ``over_s`` seconds and the batch that holds them."""
        failed = int(self._dice.binomial(count, does.errors)) if does.errors else 0
        self.errors += failed
        good = max(count - failed, 1)  # a batch is never empty
        first = self._lanes[Lane.NORMAL].produced
        table = self._table(first, good, model, labels, threshold, does, to_ms(at), over_s)
        return self._cut(Lane.NORMAL, good, inferences=table)

    def event(self, kind: str, detail: str, at: datetime) -> tuple[Lane, bytes]:
        """At once, as the agent does with what is critical."""
        event = Event(sequence=self._lanes[Lane.CRITICAL].produced, at=at, kind=kind, detail=detail)
        return self._cut(Lane.CRITICAL, 1, events=(event,))

    def again(self, now: float) -> list[tuple[Lane, bytes]]:
        """All that is not covered, in order."""
        self._moved_at = now
        return [(number, payload) for number, lane in self._lanes.items() for _, payload in lane.batches]

    def stalled(self, now: float) -> bool:
        if not self.waiting:
            self._moved_at = now
        return now - self._moved_at > STALLED_S

    def forget(self, marks: tuple[Mark, ...], now: float) -> None:
        for mark in marks:
            lane = self._lanes.get(mark.lane)
            if lane is None or mark.epoch != self.epoch:
                continue
            while lane.batches and lane.batches[0][0] <= mark.committed_through:
                lane.batches.popleft()
                self._moved_at = now

    def _cut(self, number: Lane, records: int, **rows: Any) -> tuple[Lane, bytes]:
        lane = self._lanes[number]
        first, lane.produced = lane.produced, lane.produced + records
        batch = Batch(epoch=self.epoch, lane=number, first_sequence=first, last_sequence=lane.produced - 1, **rows)
        payload = codec.encode_batch(batch)
        lane.batches.append((batch.last_sequence, payload))
        return number, payload

    def _table(
        self, first: int, rows: int, model: Digest, labels: int, threshold: float, does: Behaviour, now_ms: int, over_s: float
    ) -> InferenceTable:
        dice: Any = self._dice
        confidence = np.clip(dice.normal(does.confidence, _SPREAD, rows), 0.0, 1.0).astype("<f4")
        return InferenceTable(
            sequence=np.arange(first, first + rows, dtype="<u8"),
            captured_at_ms=(now_ms - np.linspace(over_s * 1000, 0, rows, endpoint=False)).astype("<i8"),
            label=dice.integers(0, max(labels, 1), rows).astype("<u2"),
            confidence=confidence,
            latency_ms=np.clip(dice.lognormal(np.log(does.latency_ms), 0.15, rows), 0.01, 1e6).astype("<f4"),
            flags=(2 * (confidence < threshold)).astype("u1"),
            frame_key=np.zeros(rows, dtype="<u8"),
            model=np.zeros(rows, dtype="u1"),
            models=(model,),
        )


@dataclass(slots=True)
class _Lane:
    produced: int = 0  # records
    batches: deque[tuple[int, bytes]] = field(default_factory=deque)  # last sequence, payload
