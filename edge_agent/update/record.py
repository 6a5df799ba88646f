"""What an update is, whichever part of the device it replaces."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum

from protos.contract.twin import (
    DesiredTwin,
    Fit,
    MaintenanceWindow,
    ModelAssignment,
    PackageAssignment,
    PackageKind,
    PackageStatus,
    UpdateStatus,
)
from protos.contract.update import FINAL, UpdateState

Assignment = ModelAssignment | PackageAssignment


class Component(Enum):
    """What can be replaced on a device. Each has a line of updates of its own; the values stand in the journal."""

    MODEL = "model"
    CONFIG = "config"
    AGENT = "agent"
    FIRMWARE = "firmware"


KINDS = {Component.CONFIG: PackageKind.CONFIG, Component.AGENT: PackageKind.AGENT, Component.FIRMWARE: PackageKind.FIRMWARE}


class Effect(Enum):
    """When a change of what runs takes effect."""

    NOW = "now"  # on return it runs
    RESTART = "restart"  # once this process has ended and was started again
    REBOOT = "reboot"  # once the board has


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """When the hub lets an update become active."""

    windows: tuple[MaintenanceWindow, ...] = ()  # none: at any time
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a desired twin asks of one component."""

    generation: int
    assignment: Assignment
    rollout_id: str = ""
    conditions: Conditions = field(default_factory=Conditions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One row of the journal: where one generation of one component stands."""

    component: Component
    generation: int
    assignment: Assignment
    rollout_id: str
    state: UpdateState
    at: datetime  # of the last change of its state
    attempts: int = 0  # at the risky act of this state, each counted before it is made
    reason: str = ""  # while on trial: the decision to roll back
    place: str = ""  # where it is put, by the name its installer gave; empty: nowhere yet
    verified: bool = False  # its trial run has passed
    fit: Fit | None = None  # what that run measured; None: nothing
    waited_s: float = 0.0  # for its conditions, in earlier runs of the agent
    conditions: Conditions = field(default_factory=Conditions)

    @property
    def done(self) -> bool:
        return self.state in FINAL

    @property
    def named(self) -> str:
        """For people."""
        kind = "" if self.component is Component.MODEL else f"{self.component.value} "
        return f"{kind}{self.assignment.name}:{self.assignment.version}"

    def asks_the_same(self, wanted: Wanted) -> bool:
        return (self.assignment, self.rollout_id) == (wanted.assignment, wanted.rollout_id)

    def status(self, waits: str = "") -> UpdateStatus | PackageStatus:
        """``waits``: why it does not go on, told where it has no other reason."""
        if isinstance(self.assignment, ModelAssignment):
            return UpdateStatus(
                generation=self.generation,
                state=self.state,
                model=self.assignment,
                rollout_id=self.rollout_id,
                attempts=self.attempts,
                reason=self.reason or waits,
                at=self.at,
                fit=self.fit,
            )
        return PackageStatus(
            generation=self.generation,
            state=self.state,
            package=replace(self.assignment, rollout_id=self.rollout_id),
            attempts=self.attempts,
            reason=self.reason or waits,
            at=self.at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What runs by the word of its own place, for a journal that has lost it."""

    component: Component
    generation: int
    assignment: Assignment
    place: str
    good: bool  # it was committed
    rollout_id: str = ""


def package_of(update: Update) -> PackageAssignment:
    """Of a component that is no model."""
    assert isinstance(update.assignment, PackageAssignment)  # the journal's rows of these components hold nothing else
    return update.assignment


def wanted_by(twin: DesiredTwin, component: Component) -> Wanted | None:
    """None: what ``component`` runs is to stay, and what is under way is called off."""
    conditions = Conditions(windows=twin.windows, not_before=twin.not_before)
    if component is Component.MODEL:
        if twin.model is None:
            return None
        return Wanted(generation=twin.generation, assignment=twin.model, rollout_id=twin.rollout_id, conditions=conditions)
    for package in _of_kind(twin, component):
        return Wanted(generation=twin.generation, assignment=package, rollout_id=package.rollout_id, conditions=conditions)
    return None


def _of_kind(twin: DesiredTwin, component: Component) -> Iterator[PackageAssignment]:
    return (package for package in twin.packages if package.kind is KINDS[component])
