"""Old samples beside new ones, so that what they taught is not forgotten; and whether it was.

Of the old ones that would train a bounded share is taken, evenly over labels; those that validate and test are all kept, where
they always were: an item's split depends on nothing but its source.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import TrainingSpec
from cloud_hub.pipeline import gate
from cloud_hub.pipeline.clean import RawSample
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.gate import Champion, Decision
from cloud_hub.pipeline.split import TRAIN, place
from cloud_hub.pipeline.stored import Stored, stored
from cloud_hub.pipeline.task import SMALL_GROUP, Outputs, Task
from edge_agent.core.errors import AgentError


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """The samples of a job, and which of them the older data set holds."""

    parts: tuple[Stored, ...]  # oldest first
    old: frozenset[str]  # their ids
    taken: int  # of the old ones that would train
    given: int
    held: int  # of the old ones: kept to validate and test

    @property
    def samples(self) -> Iterator[RawSample]:
        """Each read when its turn comes."""
        return chain.from_iterable(self.parts)

    def line(self) -> str:
        return f"{self.taken} of {self.given} older samples train again, {self.held} show what is forgotten"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """The metric on the older data set's test samples."""

    samples: int
    before: float | None  # of the champion; None: there is none, or it could not be run
    after: float  # of the file that is compared with it
    problem: str  # why it must not be published; empty: it may

    def applied(self, decision: Decision) -> Decision:
        """With a reason to refuse where there is one."""
        return replace(decision, reason=self.problem) if self.problem and not decision.reason else decision

    def as_json(self) -> dict[str, object]:
        before = None if self.before is None else round(self.before, 5)
        return {"samples": self.samples, "before": before, "after": round(self.after, 5), "problem": self.problem}


def mixed(new: Iterable[RawSample], old: Iterable[RawSample], spec: TrainingSpec) -> Replayed:
    """At most ``replay.share`` of what trains is old. What is in both counts as new, and tells of forgetting all the same.

    Of samples that are ``Stored`` no content is read.
    """
    newer, older = stored(new), stored(old)
    fresh, seen = newer.listed, {sample.digest for sample in older.listed}
    present = {sample.digest for sample in fresh}
    known = [sample for sample in older.listed if sample.digest not in present]
    train = [sample for sample in known if _trains(sample, spec)]
    held = [sample for sample in known if not _trains(sample, spec)]
    share = spec.train.replay.share
    bound = int(sum(_trains(sample, spec) for sample in fresh) * share / (1 - share))
    taken = _evenly(train, bound)
    both = [sample.id for sample in fresh if sample.digest in seen]
    return Replayed(
        parts=(older.only([*held, *taken]), newer),
        old=frozenset([*both, *(sample.id for sample in (*held, *taken))]),
        taken=len(taken),
        given=len(train),
        held=len(held),
    )


def forgotten(
    task: Task, decision: Decision, champion: Champion | None, splits: Splits, replayed: Replayed
) -> Forgotten | None:
    """None where no file was kept, or the test split has too few old samples to tell."""
    rows = rows_of(splits.test, replayed.old)
    if len(rows) < SMALL_GROUP or not decision.kept:
        return None
    target = champion.target if champion is not None else ""
    item = next((each for each in decision.kept if each.artifact.target == target), decision.kept[0])
    part = splits.test.take(rows)
    after = task.value(item.outputs[rows], part, splits)
    before = _before(task, champion, part, splits)
    problem = ""
    bound = task.spec.train.replay.max_drop
    if before is not None and task.metric.gain(after, before) < -max(bound, 1 / len(rows)) - 1e-9:
        what = f"{task.metric.name} on {len(rows)} older test samples went from the champion's {before:.4f} to {after:.4f}"
        problem = f"it forgets: {what}, train.replay.max_drop is {bound}"
    return Forgotten(samples=len(rows), before=before, after=after, problem=problem)


def rows_of(split: Split, ids: frozenset[str]) -> NDArray[np.int64]:
    """Of samples with such an id."""
    return np.array([row for row, origin in enumerate(split.origins) if origin.id in ids], dtype=np.int64)


def _before(task: Task, champion: Champion | None, part: Split, splits: Splits) -> float | None:
    if champion is None:
        return None
    try:
        outputs: Outputs = gate.champion_outputs(task, champion, replace(splits, test=part))
    except (AgentError, Invalid):
        return None  # the gate has said why
    return task.value(outputs, part, splits)


def _trains(sample: RawSample, spec: TrainingSpec) -> bool:
    """As ``split.assign`` will decide, but for rare classes and borders of time."""
    if sample.split or spec.data.split_by == "time":
        return sample.split in ("", TRAIN)
    unit = sample.digest if spec.data.split_by == "sample" else sample.source or sample.digest
    return place(unit, spec.data) == TRAIN


def _evenly(samples: Sequence[RawSample], count: int) -> list[RawSample]:
    """One of each label in turn, in an order that does not change as data grows; in their own order."""
    turns: Counter[str] = Counter()
    order = []
    for row in sorted(range(len(samples)), key=lambda i: hashlib.sha256(samples[i].digest.encode()).digest()):
        order.append((turns[samples[row].label], row))
        turns[samples[row].label] += 1
    return [samples[row] for row in sorted(row for _, row in sorted(order)[:count])]
