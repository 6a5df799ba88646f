"""Training jobs."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from cloud_hub.core.model.principals import DEFAULT_TENANT
from protos.contract.ids import ModelName, TenantId


class JobState(IntEnum):
    """Numbers are the wire's (``training.proto``)."""

    QUEUED = 1
    RUNNING = 2
    PUBLISHED = 3
    REJECTED = 4
    FAILED = 5
    CANCELLED = 6


JOB_ENDED = frozenset({JobState.PUBLISHED, JobState.REJECTED, JobState.FAILED, JobState.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStep:
    """Where the training of one network stands."""

    epoch: int  # from 1
    epochs: int  # at most: it may stop early
    step: int  # of this epoch, from 1
    steps: int
    loss: float  # of this step
    eta_s: float = 0.0  # until this network is trained, at most; 0: not known yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    id: str
    model: ModelName
    state: JobState
    trigger: str  # "manual", "drift", "cron", "labels"
    trigger_detail: str
    spec_yaml: str  # as it was when the job was made
    tenant: TenantId = DEFAULT_TENANT
    stage: str = ""
    progress: float = 0.0  # 0..1
    step: TrainingStep | None = None  # the last that was told; None: no network is being trained
    attempts: int = 0
    reason: str = ""
    published_version: int = 0
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLine:
    number: int  # grows by one per job
    at: datetime
    text: str
