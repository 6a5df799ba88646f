"""Who may call what, and for how long one call may last. A method that is not in the table is refused."""

from collections.abc import Mapping
from dataclasses import dataclass

from cloud_hub.core.model import Role

_SHORT_S = 30.0
_LONG_S = 3600.0  # transfers over slow links, watches; a client that wants more calls again


@dataclass(frozen=True, slots=True)
class Rule:
    roles: frozenset[Role]
    limit_s: float = _SHORT_S  # the server ends the call after this, whatever deadline the client set


_ANYONE = frozenset(Role)
_ANONYMOUS = frozenset({Role.ANONYMOUS})
_DEVICE = frozenset({Role.DEVICE})
_ADMIN = frozenset({Role.ADMIN})

POLICY: Mapping[str, Rule] = {
    "/grpc.health.v1.Health/Check": Rule(_ANYONE),
    "/grpc.health.v1.Health/List": Rule(_ANYONE),
    "/grpc.health.v1.Health/Watch": Rule(_DEVICE | _ADMIN, _LONG_S),  # strangers could hold every place of the enrolment port
    "/tideline.v1.Alerts/AckAlert": Rule(_ADMIN),
    "/tideline.v1.Alerts/CreateSilence": Rule(_ADMIN),
    "/tideline.v1.Alerts/DeleteRule": Rule(_ADMIN),
    "/tideline.v1.Alerts/ExpireSilence": Rule(_ADMIN),
    "/tideline.v1.Alerts/GetAlert": Rule(_ADMIN),
    "/tideline.v1.Alerts/ListAlerts": Rule(_ADMIN),
    "/tideline.v1.Alerts/ListRules": Rule(_ADMIN),
    "/tideline.v1.Alerts/ListSilences": Rule(_ADMIN),
    "/tideline.v1.Alerts/ListSinks": Rule(_ADMIN),
    "/tideline.v1.Alerts/PutRule": Rule(_ADMIN),
    "/tideline.v1.Alerts/ResolveAlert": Rule(_ADMIN),
    "/tideline.v1.Alerts/TestSink": Rule(_ADMIN),
    "/tideline.v1.Alerts/WatchAlerts": Rule(_ADMIN, _LONG_S),
    "/tideline.v1.Artifacts/Download": Rule(_DEVICE | _ADMIN, _LONG_S),
    "/tideline.v1.Datasets/CreateDataset": Rule(_ADMIN),
    "/tideline.v1.Datasets/GetSample": Rule(_ADMIN),
    "/tideline.v1.Datasets/ImportSamples": Rule(_ADMIN, _LONG_S),
    "/tideline.v1.Datasets/LabelSamples": Rule(_ADMIN),
    "/tideline.v1.Datasets/ListDatasets": Rule(_ADMIN),
    "/tideline.v1.Datasets/ListSamples": Rule(_ADMIN),
    "/tideline.v1.Datasets/UploadSample": Rule(_DEVICE),
    "/tideline.v1.Drift/ListEpisodes": Rule(_ADMIN),
    "/tideline.v1.Drift/ListWindows": Rule(_ADMIN),
    "/tideline.v1.Enrollment/Enroll": Rule(_ANONYMOUS),
    "/tideline.v1.Fleet/CreateDevice": Rule(_ADMIN),
    "/tideline.v1.Fleet/DeleteDevice": Rule(_ADMIN),
    "/tideline.v1.Fleet/GetDevice": Rule(_ADMIN),
    "/tideline.v1.Fleet/ListDevices": Rule(_ADMIN),
    "/tideline.v1.Fleet/UpdateDevice": Rule(_ADMIN),
    "/tideline.v1.Registry/GetVersion": Rule(_ADMIN),
    "/tideline.v1.Registry/ListModels": Rule(_ADMIN),
    "/tideline.v1.Registry/ListVersions": Rule(_ADMIN),
    "/tideline.v1.Registry/SetAlias": Rule(_ADMIN),
    "/tideline.v1.Rollouts/AbortRollout": Rule(_ADMIN),
    "/tideline.v1.Rollouts/CreateRollout": Rule(_ADMIN),
    "/tideline.v1.Rollouts/GetRollout": Rule(_ADMIN),
    "/tideline.v1.Rollouts/ListRollouts": Rule(_ADMIN),
    "/tideline.v1.Rollouts/PauseRollout": Rule(_ADMIN),
    "/tideline.v1.Rollouts/ResumeRollout": Rule(_ADMIN),
    "/tideline.v1.Rollouts/RollbackRollout": Rule(_ADMIN),
    "/tideline.v1.Rollouts/WatchRollout": Rule(_ADMIN, _LONG_S),
    "/tideline.v1.Streams/DeleteStream": Rule(_ADMIN),
    "/tideline.v1.Streams/GetStream": Rule(_ADMIN),
    "/tideline.v1.Streams/ListStreams": Rule(_ADMIN),
    "/tideline.v1.Streams/ListWindows": Rule(_ADMIN),
    "/tideline.v1.Streams/PutStreams": Rule(_ADMIN),
    "/tideline.v1.Streams/WatchWindows": Rule(_ADMIN, _LONG_S),
    "/tideline.v1.Telemetry/Aggregate": Rule(_ADMIN, _LONG_S),
    "/tideline.v1.Telemetry/GetQuarantined": Rule(_ADMIN),
    "/tideline.v1.Telemetry/GetStats": Rule(_ADMIN),
    "/tideline.v1.Telemetry/ListEvents": Rule(_ADMIN),
    "/tideline.v1.Telemetry/ListQuarantine": Rule(_ADMIN),
    "/tideline.v1.Telemetry/QueryReadings": Rule(_ADMIN, _LONG_S),
    "/tideline.v1.Telemetry/ReplayQuarantined": Rule(_ADMIN, _LONG_S),
    "/tideline.v1.Telemetry/TailReadings": Rule(_ADMIN, _LONG_S),
    "/tideline.v1.Training/CancelJob": Rule(_ADMIN),
    "/tideline.v1.Training/GetJob": Rule(_ADMIN),
    "/tideline.v1.Training/GetSpec": Rule(_ADMIN),
    "/tideline.v1.Training/ListJobs": Rule(_ADMIN),
    "/tideline.v1.Training/PutSpec": Rule(_ADMIN),
    "/tideline.v1.Training/RunJob": Rule(_ADMIN),
    "/tideline.v1.Training/WatchJob": Rule(_ADMIN, _LONG_S),
}
