"""Outcomes and batches to spool, and what a spool accounts for."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from edge_agent.core.model import Happening, Outcome, Summary
from edge_agent.core.ports import Spool
from protos.contract.ids import digest_of
from protos.contract.telemetry import Batch, Lane, Mark

MODEL = digest_of(b"manifest")
NOW = datetime(2025, 1, 1, 12, tzinfo=UTC)


def outcome(label: int = 0) -> Outcome:
    return Outcome(captured_at=NOW, model=MODEL, label=label, confidence=0.75, latency_ms=1.5, frame_key=(1 << 64) - 1)


def happening(kind: str = "test.happened", detail: str = "x") -> Happening:
    return Happening(at=NOW, kind=kind, detail=detail)


def held(spool: Spool, lane: Lane = Lane.NORMAL) -> list[Batch]:
    """Every batch, asked for a few at a time."""
    found: list[Batch] = []
    mark: Mark | None = None
    while page := spool.batches(after=mark, lane=lane, limit=3):
        found += [batch for batch, _ in page]
        mark = Mark(epoch=spool.epoch, lane=lane, committed_through=found[-1].last_sequence)
    return found


def accounted(batches: Sequence[Batch]) -> list[int]:
    """Every sequence the batches stand for; each batch has checked its own inside."""
    return [n for batch in batches for n in range(batch.first_sequence, batch.last_sequence + 1)]


def summary(stream: str = "unsure", *, key: str = "label=7", values: int = 3, complete: bool = True) -> Summary:
    return Summary(
        stream=stream,
        start=NOW,
        end=NOW + timedelta(seconds=10),
        readings=100,
        values=tuple((f"value{i:02}", i / 3) for i in range(values)),
        key=key,
        complete=complete,
    )
