"""When a rollout goes on, ends or stops: rules only, no clock and no store of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Devices of one wave; those that another rollout took over are in none of the numbers."""

    pending: int = 0  # not dispatched, or on the way
    committed: int = 0
    failed: int = 0  # refused it, or rolled back
    last_commit: datetime | None = None


class Step(Enum):
    WAIT = auto()
    NEXT = auto()  # the wave passed
    SUCCEED = auto()  # the last wave passed
    FAIL = auto()
    EMPTY = auto()  # no device is left to take it


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    step: Step
    reason: str = ""


def judge(tallies: Sequence[Tally], wave: int, *, max_failures: int, soak_s: int, now: datetime) -> Verdict:
    """A wave passes when none of its devices is pending and ``soak_s`` have passed since its last commit.

    Failures count over all waves. However many are tolerated, a version that nobody took goes nowhere.
    """
    current = tallies[wave]
    failed = sum(tally.failed for tally in tallies)
    committed = sum(tally.committed for tally in tallies)
    if failed > max_failures:
        return Verdict(step=Step.FAIL, reason=f"{failed} devices failed, more than {max_failures}")
    if current.pending:
        return Verdict(step=Step.WAIT)
    if failed and not committed:
        return Verdict(step=Step.FAIL, reason=f"none of the {failed} devices tried took it")
    if current.last_commit is not None and now < current.last_commit + timedelta(seconds=soak_s):
        return Verdict(step=Step.WAIT)
    if wave + 1 < len(tallies):
        return Verdict(step=Step.NEXT)
    return Verdict(step=Step.SUCCEED) if committed else Verdict(step=Step.EMPTY, reason="no device is left to take it")
