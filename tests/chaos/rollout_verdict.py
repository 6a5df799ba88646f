"""What must be so of rollouts whatever happened to the hub, judged by what the devices saw. No files, no clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One rollout, as the hub's database has it in the end."""

    id: str
    version: int
    state: str
    soak_s: float
    waves: Mapping[str, int]  # by device


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """One device. Times are of one monotonic clock."""

    asked: Sequence[tuple[float, int, str]] = ()  # when a generation first came, which, of which rollout
    started: Sequence[tuple[float, int]] = ()  # when a version was activated
    committed: Mapping[int, float] = field(default_factory=dict)  # versions, when they passed their trial
    runs: int = 0
    generation: int = 0  # that the hub desires
    produced: int = 0  # records
    stored: int = 0  # of them, at the hub


def wrong(runs: Sequence[Run], witnesses: Mapping[str, Witness]) -> list[str]:
    """In words; empty: nothing was lost, skipped or done twice."""
    found = [f"rollout {run.id} ended {run.state}" for run in runs if run.state != "SUCCEEDED"]
    for run in runs:
        found += _of_run(run, witnesses)
    for name, one in witnesses.items():
        if one.produced != one.stored:
            found.append(f"{name}: {one.produced} records produced, {one.stored} stored")
        if one.generation != len(runs):
            found.append(f"{name}: the hub is at generation {one.generation} after {len(runs)} rollouts")
        if runs and one.runs != runs[-1].version:
            found.append(f"{name}: runs version {one.runs}, not {runs[-1].version}")
    return found


def _of_run(run: Run, witnesses: Mapping[str, Witness]) -> list[str]:
    found = [] if set(run.waves) == set(witnesses) else [f"rollout {run.id} has other devices than the fleet"]
    for name, one in witnesses.items():
        asked = [generation for _, generation, rollout in one.asked if rollout == run.id]
        if len(asked) != 1:
            found.append(f"{name}: asked {len(asked)} times by rollout {run.id}: generations {asked}")
        if (starts := sum(version == run.version for _, version in one.started)) != 1:
            found.append(f"{name}: version {run.version} started {starts} times")
    return found + _too_early(run, witnesses)


def _too_early(run: Run, witnesses: Mapping[str, Witness]) -> list[str]:
    """Devices that were asked before the wave before theirs had passed and soaked."""
    found = []
    for wave in sorted(set(run.waves.values()) - {min(run.waves.values(), default=0)}):
        before = [
            witnesses[name].committed.get(run.version) for name, its in run.waves.items() if its < wave and name in witnesses
        ]
        passed = max((at for at in before if at is not None), default=0.0) + run.soak_s
        for name in (name for name, its in run.waves.items() if its == wave and name in witnesses):
            for at, _, rollout in witnesses[name].asked:
                if rollout == run.id and (None in before or at < passed):
                    found.append(f"{name}: of wave {wave} of rollout {run.id}, asked before wave {wave - 1} had passed")
    return found
