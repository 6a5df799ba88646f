"""Who may call what, and for how long one call may last. A method that is not in the table is refused."""

from collections.abc import Mapping
from dataclasses import dataclass

from cloud_hub.core.model import Role

_SHORT_S = 30.0
_LONG_S = 3600.0  # transfers over slow links, watches; a client that wants more calls again


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Every rule holds within the caller's own tenant; services show nobody another one's rows."""

    roles: frozenset[Role]
    changes: bool = False  # it changes something a person decides: it stands in the audit log, whatever comes of it
    hub_wide: bool = False  # it is about all tenants: only for users of the default tenant, who run the hub
    on_itself: bool = False  # its caller may lose by it what it was admitted by, and is told the outcome all the same
    limit_s: float = _SHORT_S  # the server ends the call half a second after this at most, whatever deadline the client set


_STRANGER = frozenset({Role.ANONYMOUS})
_DEVICE = frozenset({Role.DEVICE})
_ADMIN = frozenset({Role.ADMIN})
_LABELLER = _ADMIN | {Role.LABELLER}
_OPERATOR = _ADMIN | {Role.OPERATOR}
_RELEASER = _ADMIN | {Role.RELEASER}
_ANY_USER = _LABELLER | _OPERATOR | _RELEASER | {Role.VIEWER}


def _reads(roles: frozenset[Role] = _ANY_USER, limit_s: float = _SHORT_S, *, hub_wide: bool = False) -> Rule:
    return Rule(roles=roles, limit_s=limit_s, hub_wide=hub_wide)


def _changes(roles: frozenset[Role], limit_s: float = _SHORT_S, *, hub_wide: bool = False, on_itself: bool = False) -> Rule:
    return Rule(roles=roles, changes=True, limit_s=limit_s, hub_wide=hub_wide, on_itself=on_itself)


POLICY: Mapping[str, Rule] = {
    "/grpc.health.v1.Health/Check": _reads(frozenset(Role)),
    "/grpc.health.v1.Health/List": _reads(frozenset(Role)),
    "/grpc.health.v1.Health/Watch": _reads(
        _DEVICE | _ANY_USER, _LONG_S
    ),  # strangers could hold every place of the enrolment port
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _reads(_ADMIN, _LONG_S),
    "/tideline.v1.Admin/CreateToken": _changes(_ANY_USER),  # for others: admins only
    "/tideline.v1.Admin/CreateUser": _changes(_ADMIN),
    "/tideline.v1.Admin/ExportAudit": _reads(_ADMIN, _LONG_S),
    "/tideline.v1.Admin/GetUser": _reads(_ADMIN),
    "/tideline.v1.Admin/IssueCertificate": _changes(_ADMIN),
    "/tideline.v1.Admin/ListAudit": _reads(_ADMIN),
    "/tideline.v1.Admin/ListTokens": _reads(),  # of others: admins only
    "/tideline.v1.Admin/ListUsers": _reads(_ADMIN),
    "/tideline.v1.Admin/RevokeCertificates": _changes(_ADMIN, on_itself=True),
    "/tideline.v1.Admin/RevokeToken": _changes(_ANY_USER, on_itself=True),  # of others: admins only
    "/tideline.v1.Admin/UpdateUser": _changes(_ADMIN, on_itself=True),
    "/tideline.v1.Admin/VerifyAudit": _reads(_ADMIN, _LONG_S),
    "/tideline.v1.Admin/WhoAmI": _reads(),
    "/tideline.v1.Alerts/AckAlert": _changes(_OPERATOR),
    "/tideline.v1.Alerts/CreateSilence": _changes(_OPERATOR),
    "/tideline.v1.Alerts/DeleteRule": _changes(_OPERATOR),
    "/tideline.v1.Alerts/ExpireSilence": _changes(_OPERATOR),
    "/tideline.v1.Alerts/GetAlert": _reads(),
    "/tideline.v1.Alerts/ListAlerts": _reads(),
    "/tideline.v1.Alerts/ListRules": _reads(),
    "/tideline.v1.Alerts/ListSilences": _reads(),
    "/tideline.v1.Alerts/ListSinks": _reads(),
    "/tideline.v1.Alerts/PutRule": _changes(_OPERATOR),
    "/tideline.v1.Alerts/ResolveAlert": _changes(_OPERATOR),
    "/tideline.v1.Alerts/TestSink": _changes(_OPERATOR),
    "/tideline.v1.Alerts/WatchAlerts": _reads(limit_s=_LONG_S),
    "/tideline.v1.Artifacts/Download": _reads(_DEVICE | _ANY_USER, _LONG_S),
    "/tideline.v1.Artifacts/Locate": _reads(_DEVICE | _ANY_USER),
    "/tideline.v1.Datasets/CreateDataset": _changes(_LABELLER),
    "/tideline.v1.Datasets/GetDatasetChanges": _reads(),
    "/tideline.v1.Datasets/GetDatasheet": _reads(limit_s=_LONG_S),
    "/tideline.v1.Datasets/GetSample": _reads(),
    "/tideline.v1.Datasets/ImportSamples": _changes(_LABELLER, _LONG_S),
    "/tideline.v1.Datasets/JoinLabels": _changes(_LABELLER),
    "/tideline.v1.Datasets/LabelSamples": _changes(_LABELLER),
    "/tideline.v1.Datasets/ListDatasetVersions": _reads(),
    "/tideline.v1.Datasets/ListDatasets": _reads(),
    "/tideline.v1.Datasets/ListSamples": _reads(),
    "/tideline.v1.Datasets/SnapshotDataset": _changes(_LABELLER),
    "/tideline.v1.Datasets/UploadSample": _reads(_DEVICE),  # telemetry, not a decision
    "/tideline.v1.Drift/ListEpisodes": _reads(),
    "/tideline.v1.Drift/ListWindows": _reads(),
    "/tideline.v1.Enrollment/Enroll": _changes(_STRANGER),
    "/tideline.v1.Enrollment/Renew": _changes(_STRANGER),
    "/tideline.v1.Fleet/ApproveDevice": _changes(_ADMIN),
    "/tideline.v1.Fleet/CreateDevice": _changes(_OPERATOR),
    "/tideline.v1.Fleet/DeleteDevice": _changes(_OPERATOR),
    "/tideline.v1.Fleet/EnrollDevice": _changes(_OPERATOR),
    "/tideline.v1.Fleet/GetDevice": _reads(),
    "/tideline.v1.Fleet/ListDevices": _reads(),
    "/tideline.v1.Fleet/RevokeDevice": _changes(_OPERATOR),
    "/tideline.v1.Fleet/RotateDevice": _changes(_OPERATOR),
    "/tideline.v1.Fleet/UpdateDevice": _changes(_OPERATOR),
    "/tideline.v1.Packages/ListPackages": _reads(),
    "/tideline.v1.Packages/PublishPackage": _changes(_RELEASER, _LONG_S),
    "/tideline.v1.Registry/GetVersion": _reads(),
    "/tideline.v1.Registry/ListModels": _reads(),
    "/tideline.v1.Registry/ListVersions": _reads(),
    "/tideline.v1.Registry/SetAlias": _changes(_RELEASER),
    "/tideline.v1.Rollouts/AbortRollout": _changes(_RELEASER | _OPERATOR),  # whoever sees harm may stop it
    "/tideline.v1.Rollouts/ApproveRollout": _changes(_RELEASER),
    "/tideline.v1.Rollouts/CreateRollout": _changes(_RELEASER),
    "/tideline.v1.Rollouts/GetRollout": _reads(),
    "/tideline.v1.Rollouts/ListRolloutDevices": _reads(),
    "/tideline.v1.Rollouts/ListRollouts": _reads(),
    "/tideline.v1.Rollouts/PauseRollout": _changes(_RELEASER | _OPERATOR),
    "/tideline.v1.Rollouts/ResumeRollout": _changes(_RELEASER),
    "/tideline.v1.Rollouts/RollbackRollout": _changes(_RELEASER | _OPERATOR),
    "/tideline.v1.Rollouts/StartRollout": _changes(_RELEASER),
    "/tideline.v1.Rollouts/WatchRollout": _reads(limit_s=_LONG_S),
    "/tideline.v1.Shadows/GetShadow": _reads(),
    "/tideline.v1.Shadows/ListShadows": _reads(),
    "/tideline.v1.Shadows/StartShadow": _changes(_RELEASER, _LONG_S),
    "/tideline.v1.Shadows/StopShadow": _changes(_RELEASER | _OPERATOR, _LONG_S),  # as a rollout's
    "/tideline.v1.Streams/DeleteStream": _changes(_OPERATOR),
    "/tideline.v1.Streams/GetStream": _reads(),
    "/tideline.v1.Streams/ListStreams": _reads(),
    "/tideline.v1.Streams/ListWindows": _reads(),
    "/tideline.v1.Streams/PutStreams": _changes(_OPERATOR),
    "/tideline.v1.Streams/WatchWindows": _reads(limit_s=_LONG_S),
    "/tideline.v1.Telemetry/Aggregate": _reads(limit_s=_LONG_S),
    "/tideline.v1.Telemetry/GetQuarantined": _reads(_OPERATOR),
    "/tideline.v1.Telemetry/GetStats": _reads(),
    "/tideline.v1.Telemetry/ListEvents": _reads(),
    "/tideline.v1.Telemetry/ListQuarantine": _reads(),
    "/tideline.v1.Telemetry/QueryReadings": _reads(limit_s=_LONG_S),
    "/tideline.v1.Telemetry/ReplayQuarantined": _changes(_OPERATOR, _LONG_S),
    "/tideline.v1.Telemetry/TailReadings": _reads(limit_s=_LONG_S),
    "/tideline.v1.Training/CancelJob": _changes(_OPERATOR),
    "/tideline.v1.Training/GetJob": _reads(),
    "/tideline.v1.Training/GetReport": _reads(limit_s=_LONG_S),
    "/tideline.v1.Training/GetSpec": _reads(),
    "/tideline.v1.Training/ListJobs": _reads(),
    "/tideline.v1.Training/ListTasks": _reads(),
    "/tideline.v1.Training/PutSpec": _changes(_OPERATOR),
    "/tideline.v1.Training/RetryJob": _changes(_OPERATOR),
    "/tideline.v1.Training/RunJob": _changes(_OPERATOR),
    "/tideline.v1.Training/ValidateSpec": _reads(),
    "/tideline.v1.Training/WatchJob": _reads(limit_s=_LONG_S),
    "/tideline.v1.Trust/GetDirector": _reads(_DEVICE),
    "/tideline.v1.Trust/GetMetadata": _reads(_DEVICE | _ANY_USER),
    "/tideline.v1.Trust/GetTrust": _reads(),
    "/tideline.v1.Trust/PrepareKeys": _changes(_ADMIN, hub_wide=True),
    "/tideline.v1.Trust/PutRoot": _changes(_ADMIN, hub_wide=True),
}
