"""What a camera says in a day."""

from datetime import UTC, datetime, timedelta
from random import Random

from edge_agent.core.model import Outcome
from protos.contract.ids import digest_of

MODEL = digest_of(b"bench")
START = datetime(2025, 1, 1, tzinfo=UTC)


def outcomes(count: int, *, every_s: float, seed: int = 0) -> list[Outcome]:
    """One each ``every_s``, with the jitter of a real clock; nothing in them repeats but the model."""
    dice = Random(seed)
    return [
        Outcome(
            captured_at=START + timedelta(seconds=i * every_s, milliseconds=dice.randrange(5)),
            model=MODEL,
            label=dice.randrange(43),
            confidence=dice.betavariate(8, 1),
            latency_ms=dice.gauss(12.0, 1.0),
            captured=dice.random() < 0.01,
        )
        for i in range(count)
    ]
