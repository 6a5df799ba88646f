"""Rollouts and where each device of one stands."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from cloud_hub.core.rollout_plan import Component, RolloutPlan
from cloud_hub.core.waves import WaveStanding
from protos.contract.ids import DeviceId, ModelName
from protos.contract.twin import ModelAssignment, PackageAssignment
from protos.contract.update import UpdateState


class RolloutState(IntEnum):
    """Numbers are the wire's (``rollouts.proto``)."""

    RUNNING = 1
    PAUSED = 2
    SUCCEEDED = 3
    ABORTED = 4
    FAILED = 5  # stopped by itself; devices were sent back as its plan says
    ROLLED_BACK = 6
    SCHEDULED = 7  # its time has not come, or a person starts it
    AWAITING_APPROVAL = 8  # of its next wave


ROLLOUT_ENDED = frozenset({RolloutState.SUCCEEDED, RolloutState.ABORTED, RolloutState.FAILED, RolloutState.ROLLED_BACK})
ROLLOUT_UNDER_WAY = frozenset({RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.AWAITING_APPROVAL})  # it holds devices


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutDevice:
    device: DeviceId
    wave: int  # from 0
    generation: int = 0  # desired generation it was dispatched with; 0: not yet
    state: UpdateState | None = None
    reason: str = ""
    target: str = ""
    previous: ModelAssignment | PackageAssignment | None = None  # what it ran before
    asked_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    id: str
    plan: RolloutPlan
    state: RolloutState
    wave: int  # from 0
    standings: tuple[WaveStanding, ...]
    reason: str
    devices: tuple[RolloutDevice, ...]  # of a large one the first only
    created_by: str
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    breached: bool = False  # it paused by itself
    forgiven: int = 0  # failures that a person has seen, and went on

    @property
    def model(self) -> ModelName:
        """Or package."""
        return ModelName(self.plan.name)

    @property
    def version(self) -> int:
        """Of the model; 0 for a package."""
        return int(self.plan.version) if self.plan.component is Component.MODEL else 0

    @property
    def waves(self) -> int:
        return len(self.plan.waves)
