"""From what a search likes best down to the whole student: the first whose files pass the gate on the test split."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from cloud_hub.pipeline import gate, networks, replay, verify
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.compress.searched import Candidate, Searched
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.export import Tell
from cloud_hub.pipeline.gate import Champion, Decision
from cloud_hub.pipeline.learn import Learned
from cloud_hub.pipeline.progress import Stages
from cloud_hub.pipeline.replay import Forgotten, Replayed
from cloud_hub.pipeline.task import Task
from cloud_hub.pipeline.verify import Verified


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """One candidate before the gate."""

    name: str
    network: nn.Module
    verified: tuple[Verified, ...]
    decision: Decision
    forgotten: Forgotten | None


def judged(
    task: Task,
    searched: Searched,
    learned: Learned,
    splits: Splits,
    folder: Path,
    stages: Stages,
    *,
    champion: Champion | None,
    replayed: Replayed | None,
) -> tuple[Trial, ...]:
    """Every candidate that was looked at, in turn. The last one counts: all before it were refused.

    A search chooses on the validation split, so the best of its table may fail on the other. To look again at the same test
    split is to give chance another chance: candidates are few, the report names those that were refused, and each must
    beat the champion twice as surely as the one before it.
    """
    trials: list[Trial] = []
    count = len(searched.candidates)
    for number, candidate in enumerate(searched.candidates):

        def tell(fraction: float, line: str, number: int = number) -> None:
            stages.tell((number + fraction) / count, line)

        trials.append(_trial(task, candidate, learned, splits, folder, tell, champion, replayed, before=number))
        decision = trials[-1].decision
        if not decision.reason or (decision.kept and decision.compared is None):  # no other could be compared either
            break
        if count > 1:
            tell(1, f"the network {candidate.name} is refused on the test split: {decision.reason}")
    return tuple(trials)


def verdict(trials: Sequence[Trial]) -> Decision:
    """Of the last; where all were refused, with every reason."""
    last = trials[-1].decision
    if not last.reason or len(trials) == 1:
        return last
    reasons = "; ".join(f"{each.name}: {each.decision.reason}" for each in trials)
    return replace(last, reason=f"none of {len(trials)} networks passes on the test split: {reasons}")


def _trial(
    task: Task,
    candidate: Candidate,
    learned: Learned,
    splits: Splits,
    folder: Path,
    tell: Tell,
    champion: Champion | None,
    replayed: Replayed | None,
    *,
    before: int,
) -> Trial:
    """Every network is held against the student: what cutting cost is to be seen, too."""
    network, reference = candidate.network.to(networks.device()), learned.reference
    if network is not learned.network:
        reference = tasks.predict(network, task.feeder(splits).to(networks.device()), splits.test.inputs)
    verified = verify.verify(task, candidate.artifacts, splits, reference, folder, tell, network)
    decision = gate.decide(task, verified, learned.score, champion, splits, before=before)
    forgotten = replay.forgotten(task, decision, champion, splits, replayed) if replayed is not None else None
    decision = decision if forgotten is None else forgotten.applied(decision)
    for line in decision.lines(champion):
        tell(1, line)
    return Trial(name=candidate.name, network=network, verified=verified, decision=decision, forgotten=forgotten)
