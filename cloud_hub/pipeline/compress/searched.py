"""What a search hands to the gate: networks with their files, the one it likes best first, and the table they are from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from cloud_hub.pipeline.compress.points import Point
from cloud_hub.pipeline.export import Artifact
from cloud_hub.pipeline.gate import Decision
from cloud_hub.pipeline.task import Task


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """One network that may be published."""

    name: str  # "cut by 50%, distilled"; empty: nothing was searched
    network: nn.Module
    artifacts: tuple[Artifact, ...]  # fp32 and int8 of every format that the targets name, as ``export`` makes them
    chosen: tuple[Point, ...] = ()  # of the table: those that the targets name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Searched:
    """Without a search: the student alone, and no table."""

    candidates: tuple[Candidate, ...]  # one at least, in the order in which they go to the gate
    table: tuple[Point, ...] = ()
    notes: tuple[str, ...] = ()

    def marked(self, decisions: Sequence[Decision] = ()) -> list[Point]:
        """The table, with what is picked and what the test split refused.

        ``decisions``: of the first candidates, one at most of them a yes, and that the last; none: before the test split.
        """
        said = {
            id(point.artifact): f"on the test split: {why}"
            for candidate, decision in zip(self.candidates, decisions, strict=False)
            for point in candidate.chosen
            if (why := decision.refused.get(point.artifact.target) or decision.reason)
        }
        last = {id(point.artifact) for point in self.candidates[max(len(decisions), 1) - 1].chosen}
        return [
            replace(point, picked=key in last - said.keys(), refused=said.get(key, point.refused))
            for key, point in ((id(point.artifact), point) for point in self.table)
        ]

    def as_json(self, task: Task, decisions: Sequence[Decision]) -> dict[str, object] | None:
        """For the report; None where nothing was searched."""
        if not self.table:
            return None
        rows = self.marked(decisions)
        return {
            "objective": task.spec.compress.objective,
            "picked": [each.as_json(task.metric) for each in rows if each.picked],
            "judged": [
                {"network": candidate.name, "refused": decision.reason}
                for candidate, decision in zip(self.candidates, decisions, strict=False)
            ],
            "notes": list(self.notes),
            "table": [each.as_json(task.metric) for each in rows],
        }
