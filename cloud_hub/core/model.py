"""The values of the hub. Times are aware UTC; ids are those of ``protos.contract.ids``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum

from cloud_hub.core.datasets import LabelOrigin
from cloud_hub.core.rollout_plan import Component, RolloutPlan
from cloud_hub.core.tasks import Annotation
from cloud_hub.core.waves import WaveStanding
from protos.contract.ids import DeviceId, Digest, ModelName, TenantId
from protos.contract.inputs import SampleKind
from protos.contract.twin import DesiredTwin, ModelAssignment, PackageAssignment, Presence, ReportedTwin, ShadowReport
from protos.contract.update import UpdateState

DEFAULT_TENANT = TenantId("default")


class Role(StrEnum):
    """Who may call what: ``cloud_hub.rpc.policy``."""

    ANONYMOUS = "anonymous"  # no certificate and no token: enrolment and health only
    DEVICE = "device"
    VIEWER = "viewer"  # reads
    LABELLER = "labeller"  # reads, and works on data sets
    OPERATOR = "operator"  # reads, and runs devices, streams, alerts and training
    RELEASER = "releaser"  # reads, and decides what devices run
    ADMIN = "admin"  # everything, users and trust included


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who calls, as certificate or token prove and the database confirms."""

    role: Role
    name: str  # device id or user name
    tenant: TenantId = DEFAULT_TENANT
    token_until: datetime | None = field(default=None, compare=False)  # None: no token; it is no part of who this is


# -- fleet --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """The newest certificate of a device."""

    serial: str  # hexadecimal
    issued_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    reason: str = ""  # of the revocation


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    id: DeviceId
    tenant: TenantId
    board: str
    labels: Mapping[str, str]
    enrolled: bool
    presence: Presence | None  # None: never seen
    last_seen: datetime | None
    desired: DesiredTwin  # generation 0: nothing asked yet
    reported: ReportedTwin | None
    created_at: datetime
    credential: Credential | None = None  # None: never enrolled, or not asked for
    pending_fingerprint: str = ""  # of a key that waits for approval


# -- registry -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One file of a version, for one kind of runtime."""

    target: str  # "onnx-int8", "tflite-int8", "onnx-fp32", "tflite-fp32"
    manifest_digest: Digest
    manifest_size_bytes: int
    artifact_digest: Digest
    artifact_size_bytes: int
    golden_digest: Digest
    score: float  # of ``metric``, test split, device's runtime
    metric: str  # "accuracy", "rmse"; what it is and whether more of it is better, the task says
    latency_p50_ms: float
    output_error: float  # |variant - student| / |student|, over the test split
    boards: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredFit:
    """What golden runs on the devices of one board came to: the median over these devices of each figure."""

    target: str
    board: str
    devices: int
    p50_ms: float
    p95_ms: float
    peak_bytes: int  # of the process that ran it
    error: float  # in units of the tolerance: above 1 the device refused it
    agreement: float  # 0..1, of labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What a version did on its validation split: the yardstick of drift."""

    labels: tuple[str, ...]
    label_share: tuple[float, ...]  # (classes,) of predictions, sums to 1
    confidence_share: tuple[float, ...]  # (bins,) equal-width over 0..1, sums to 1
    confidence_mean: float
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """Immutable once published, but for its aliases and for what devices measure."""

    name: ModelName
    version: int
    task: str
    variants: tuple[Variant, ...]
    baseline: Baseline
    report: Mapping[str, object]  # metrics and lineage, JSON
    job_id: str
    created_at: datetime
    aliases: tuple[str, ...] = ()
    fits: tuple[MeasuredFit, ...] = ()  # of its variants, where they were asked for; they grow as devices try it


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    name: ModelName
    task: str
    latest_version: int
    aliases: Mapping[str, int]


# -- datasets -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    name: str
    labels: tuple[str, ...]  # class names in index order, where its annotation has any
    samples: int
    labelled: int
    created_at: datetime
    kind: SampleKind = SampleKind.IMAGE
    annotation: Annotation = Annotation.CLASS
    columns: tuple[str, ...] = ()  # channels or columns that its samples have, as far as they were noted


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    id: str
    dataset: str
    digest: Digest  # of the content
    label: str | None  # as its data set's annotation says; "" where there is none to give
    source: str  # samples that share it never part across splits
    split: str  # "", "train", "val", "test": pinned there
    name: str
    device: DeviceId | None  # None: imported
    reason: str
    predicted: str
    confidence: float
    captured_at: datetime | None
    created_at: datetime
    labelled_at: datetime | None
    origin: LabelOrigin | None = None  # of the label
    labelled_by: str = ""  # a user; of a teacher MODEL:VERSION
    label_confidence: float = 1.0  # 0..1; of a teacher


# -- training -----------------------------------------------------------------------------------------------------------


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


# -- rollouts -----------------------------------------------------------------------------------------------------------


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


# -- challengers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowDevice:
    """A challenger on one device."""

    device: DeviceId
    target: str
    share: float  # of the frames, 0..1
    max_share_of_time: float
    started_by: str
    started_at: datetime
    stopped_at: datetime | None = None
    reported_at: datetime | None = None  # None: nothing was heard of it yet
    report: ShadowReport | None = None  # the last one


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowTotals:
    """A challenger on all of its devices together."""

    name: ModelName
    version: int
    devices: int  # asked, stopped ones too
    active: int  # not stopped
    reporting: int  # that have compared a frame
    troubled: int  # active ones that say why it does not run
    frames: int
    agreed: int
    skipped: int
    errors: int
    captured: int
    champion_confidence: float  # means over all frames
    challenger_confidence: float
    champion_p95_ms: float  # of the slowest device
    challenger_p95_ms: float
    started_at: datetime  # the first


# -- telemetry and drift ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReading:
    device: DeviceId
    epoch: str
    lane: str
    sequence: int
    captured_at: datetime
    model: Digest
    label: int
    label_name: str
    confidence: float
    latency_ms: float
    captured: bool
    uncertain: bool
    frame_key: int
    value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStats:
    device: DeviceId
    batches: int
    records: int
    duplicate_batches: int
    gap_records: int
    payload_bytes: int
    last_captured_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    id: int
    topic: str
    reason: str
    payload: bytes
    count: int
    first_at: datetime
    last_at: datetime
    cut: bool = False  # payload is only the beginning of what came


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEvent:
    device: DeviceId
    at: datetime
    kind: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftWindow:
    """One event-time window of one device under one version; half-open, start inclusive."""

    device: DeviceId
    model: ModelName
    version: int
    start: datetime
    end: datetime
    readings: int
    label_counts: tuple[int, ...]
    confidence_counts: tuple[int, ...]
    confidence_sum: float
    label_psi: float = 0.0
    confidence_psi: float = 0.0
    confidence_shift: float = 0.0
    drifted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftEpisode:
    id: str
    device: DeviceId
    model: ModelName
    version: int
    opened_at: datetime
    reason: str
    tenant: TenantId = DEFAULT_TENANT
    closed_at: datetime | None = None
    job_id: str = ""


# -- streams ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamWindow:
    """One window of a stream that is over; half-open, start inclusive."""

    stream: str
    device: DeviceId | None  # None: of all devices together
    origin: str  # "hub", or "device": made there, before it was sent
    key: str  # what the stream groups by, as "label=7"; empty: all readings together
    start: datetime
    end: datetime
    readings: int
    values: Mapping[str, float]  # by aggregate
    counts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # histograms, by aggregate
    holds: bool | None = None  # whether the stream's condition holds; None: it has none
    complete: bool = True  # False: readings of its beginning were folded, or lost, before the stream was there to count them


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowFilter:
    """Windows that overlap ``since..until``."""

    stream: str = ""  # empty: all
    device: DeviceId | None = None  # None: all
    since: datetime | None = None
    until: datetime | None = None
