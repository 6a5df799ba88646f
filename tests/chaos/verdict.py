"""Compares what agents owe with what the hub holds. Pure: it knows no process and no file."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from tests.chaos.witness import STREAM, Content, Owed

EXAMPLES = 5
FULL = "disk full"  # the one reason for which a device may drop anything here: no spool is filled by its own records


@dataclass(slots=True, kw_only=True)
class Verdict:
    """Of one agent. Its lists must be empty."""

    produced: int = 0  # sequences given out, all lanes
    stored: int = 0  # of them as records
    in_gaps: int = 0  # of them dropped by the device, and said so
    witnessed: int = 0  # records seen in its spool file
    epochs: int = 0
    kinds: dict[str, int] = field(default_factory=dict)  # stored, by what they are
    lost: list[str] = field(default_factory=list)  # given out, and nowhere in the store
    duplicate: list[str] = field(default_factory=list)  # in the store more than once
    unexplained: list[str] = field(default_factory=list)  # dropped without a reason, or where there was room
    altered: list[str] = field(default_factory=list)  # stored as something else than the spool held
    unearned: list[str] = field(default_factory=list)  # in the store, and never given out
    counted_wrong: list[str] = field(default_factory=list)  # the hub's own counters say something else
    reset: list[str] = field(default_factory=list)  # it began another epoch: what it held then may be gone without a trace
    unproven: list[str] = field(default_factory=list)  # nothing was seen of it that could have been lost
    acted_wrong: list[str] = field(default_factory=list)  # events that took effect more often than they happened, or not yet
    alarms: list[str] = field(default_factory=list)  # the hub says that something is lost, cloned or cannot be used

    @property
    def wrong(self) -> dict[str, list[str]]:
        return {name: value for name, value in asdict(self).items() if isinstance(value, list) and value}


@dataclass(slots=True, kw_only=True)
class Held:
    """What the hub holds of one agent, from wherever it keeps it."""

    sequences: dict[STREAM, list[tuple[int, Content]]] = field(default_factory=dict)
    records_counted: int = 0  # by the hub
    dropped_counted: int = 0
    listed: Counter[Content] = field(default_factory=Counter)  # events in the list that people and alerts look at
    unfolded: list[str] = field(default_factory=list)  # streams whose consumers have not seen all that is stored
    alarms: list[str] = field(default_factory=list)

    def add(self, stream: STREAM, contents: Iterable[tuple[int, Content]]) -> None:
        self.sequences.setdefault(stream, []).extend(contents)


def judge(owed: Owed, held: Held, *, may_drop: bool) -> Verdict:
    """``may_drop``: the device was without room at times, so that it had to drop records."""
    epochs = sorted({epoch for epoch, _ in owed.following.keys() | held.sequences.keys()})
    verdict = Verdict(epochs=len(epochs), alarms=list(held.alarms))
    for stream in sorted(owed.following.keys() | held.sequences.keys() | owed.records.keys()):
        _judge_stream(verdict, stream, owed, held, may_drop)
    verdict.altered += owed.changed
    if len(epochs) > 1:
        verdict.reset.append(f"epochs {', '.join(epochs)}")
    if not verdict.produced or not verdict.witnessed:
        verdict.unproven.append(f"{owed.looks} looks saw {verdict.witnessed} records of {verdict.produced}")
    _judge_effects(verdict, held)
    if (verdict.stored, verdict.in_gaps) != (held.records_counted, held.dropped_counted):
        verdict.counted_wrong.append(
            f"{held.records_counted} records and {held.dropped_counted} in gaps by the hub's count, "
            f"{verdict.stored} and {verdict.in_gaps} in the store"
        )
    return verdict


def _judge_stream(verdict: Verdict, stream: STREAM, owed: Owed, held: Held, may_drop: bool) -> None:
    following = owed.following.get(stream, 0)
    seen = owed.records.get(stream, {})
    found: dict[int, Content] = {}
    for sequence, content in held.sequences.get(stream, []):
        if sequence in found:
            verdict.duplicate.append(f"{stream} {sequence}")
        found[sequence] = content
    verdict.produced += following
    verdict.witnessed += len(seen)
    verdict.lost += [f"{stream} {sequence}" for sequence in range(following) if sequence not in found]
    verdict.unearned += [f"{stream} {sequence}" for sequence in found if sequence >= following]
    for sequence, content in found.items():
        if content[0] == "gap":
            verdict.in_gaps += 1
            if content[1] != FULL or not may_drop:
                verdict.unexplained.append(f"{stream} {sequence}: dropped for {content[1]!r}")
        else:
            verdict.stored += 1
            verdict.kinds[str(content[0])] = verdict.kinds.get(str(content[0]), 0) + 1
            if sequence in seen and seen[sequence] != content:
                verdict.altered.append(f"{stream} {sequence}: {seen[sequence]} became {content}")


def _judge_effects(verdict: Verdict, held: Held) -> None:
    happened = Counter(content for stream in held.sequences.values() for _, content in stream if content[0] == "event")
    verdict.acted_wrong += [
        f"{event}: {held.listed[event]} in the list of events, {number} in the store"
        for event, number in happened.items()
        if held.listed[event] > number
    ]
    verdict.acted_wrong += held.unfolded


def summary(verdicts: Mapping[str, Verdict]) -> dict[str, Any]:
    """Numbers, and a few examples of whatever is wrong."""
    numbers = ("produced", "stored", "in_gaps", "witnessed", "epochs")
    total: dict[str, Any] = {name: sum(getattr(verdict, name) for verdict in verdicts.values()) for name in numbers}
    total["kinds"] = dict(sum((Counter(verdict.kinds) for verdict in verdicts.values()), Counter()))
    for name in [each.name for each in fields(Verdict) if each.name not in total]:
        all_of_it = [f"{device}: {one}" for device, verdict in verdicts.items() for one in getattr(verdict, name)]
        total[name] = len(all_of_it)
        if all_of_it:
            total[f"{name}_examples"] = all_of_it[:EXAMPLES]
    return total
