"""The values of the hub. Times are aware UTC; ids are those of ``protos.contract.ids``."""

from cloud_hub.core.model.challengers import ShadowDevice, ShadowTotals
from cloud_hub.core.model.field import DeviceEvent, DeviceStats, DriftEpisode, DriftWindow, Quarantined, StoredReading
from cloud_hub.core.model.fleet import Credential, Device
from cloud_hub.core.model.jobs import JOB_ENDED, Job, JobLine, JobState, TrainingStep
from cloud_hub.core.model.principals import DEFAULT_TENANT, Principal, Role
from cloud_hub.core.model.registry import Baseline, MeasuredFit, Model, ModelVersion, Variant
from cloud_hub.core.model.rollouts import ROLLOUT_ENDED, ROLLOUT_UNDER_WAY, Rollout, RolloutDevice, RolloutState
from cloud_hub.core.model.samples import Dataset, Sample
from cloud_hub.core.model.windows import StreamWindow, WindowFilter

__all__ = [
    "DEFAULT_TENANT",
    "JOB_ENDED",
    "ROLLOUT_ENDED",
    "ROLLOUT_UNDER_WAY",
    "Baseline",
    "Credential",
    "Dataset",
    "Device",
    "DeviceEvent",
    "DeviceStats",
    "DriftEpisode",
    "DriftWindow",
    "Job",
    "JobLine",
    "JobState",
    "MeasuredFit",
    "Model",
    "ModelVersion",
    "Principal",
    "Quarantined",
    "Role",
    "Rollout",
    "RolloutDevice",
    "RolloutState",
    "Sample",
    "ShadowDevice",
    "ShadowTotals",
    "StoredReading",
    "StreamWindow",
    "TrainingStep",
    "Variant",
    "WindowFilter",
]
