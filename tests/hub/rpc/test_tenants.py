"""Every RPC, called by another tenant's users against rows of the first one: nothing is read, and nothing is changed.

Whatever the first tenant has carries the word zebra, so that it is found wherever it leaks to.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from sqlalchemy import select

from cloud_hub.core.model import DEFAULT_TENANT, Role
from cloud_hub.store import episodes, events, quarantine, schema
from edge_agent.core.clock import SystemClock
from protos.contract import ids
from protos.contract.ids import DeviceId, ModelName, TenantId
from protos.contract.telemetry import Event, to_ms
from protos.v1 import (
    admin_pb2,
    alerts_pb2,
    artifacts_pb2,
    datasets_pb2,
    drift_pb2,
    fleet_pb2,
    packages_pb2,
    registry_pb2,
    rollouts_pb2,
    shadows_pb2,
    streams_pb2,
    telemetry_service_pb2,
    training_pb2,
    trust_pb2,
)
from tests.hub.rpc.running import ADMIN, RunningHub, make_csr
from tests.hub.rpc.test_datasets import png
from tests.hub.rpc.test_policy import METHODS
from tests.hub.rpc.test_streams import SPEC, close
from tests.hub.rpc.test_telemetry import land

ACME = TenantId("acme")
MARK = "zebra"
CAM, MODEL = DeviceId("cam-zebra"), ModelName("model-cam-zebra")
WATCH_S = 1.0

A, AL, D, F, R, S, T, TR = (
    admin_pb2, alerts_pb2, datasets_pb2, fleet_pb2, rollouts_pb2, streams_pb2, telemetry_service_pb2, training_pb2,
)  # fmt: skip
G, P, SH, U = registry_pb2, packages_pb2, shadows_pb2, trust_pb2
HOUR = 3600

NOT_FOUND, DENIED = {StatusCode.NOT_FOUND}, {StatusCode.PERMISSION_DENIED}
NOTHING = {StatusCode.OK}  # an answer, and none of the first tenant's rows in it
WATCHED = {StatusCode.DEADLINE_EXCEEDED}  # an open stream that tells nothing
TAKEN = {StatusCode.ALREADY_EXISTS}  # ids of devices are the hub's: they are certificates' names and topics
ANY = set(StatusCode) - {StatusCode.INTERNAL, StatusCode.UNIMPLEMENTED, StatusCode.UNKNOWN}


@dataclass
class Rows:
    """What the first tenant has, as far as requests name it."""

    hub: RunningHub
    ids: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        hub, now = self.hub, SystemClock().now()
        hub.services.alerts.tick()
        hub.device(CAM)
        hub.services.fleet.set_labels(ADMIN, CAM, {"site": MARK})
        land(hub, CAM, 20)
        version = hub.services.registry.get(ADMIN, MODEL, 1)
        hub.assign(CAM, version)
        variant = version.variants[0]
        self.ids |= {"artifact": variant.artifact_digest, "manifest": variant.manifest_digest}
        with hub.db.write() as tx:
            cloned = Event(sequence=1, at=now, kind="telemetry.cloned", detail=MARK)
            events.add(tx, [(DEFAULT_TENANT, CAM, cloned, to_ms(now))])
            quarantine.add(tx, DEFAULT_TENANT, f"tl/v1/default/{CAM}/up/telemetry/normal", b"zebra", MARK, to_ms(now))
            episodes.add(tx, DEFAULT_TENANT, CAM, MODEL, 1, now, MARK)
            self.ids["quarantined"] = str(quarantine.all_ids(tx, DEFAULT_TENANT)[0])
        hub.services.alerts.tick()
        close(hub, MARK, 3, CAM)
        hub.add_user(MARK, Role.VIEWER)
        with hub.channel(hub.user) as channel:
            self._say(lambda name, request: _call(channel, name, request))

    def _say(self, call: Callable[[str, Message], Any]) -> None:
        call("Registry/SetAlias", G.SetAliasRequest(name=MODEL, alias="champion", version=1))
        call("Datasets/CreateDataset", D.CreateDatasetRequest(name=MARK, labels=["cat", "dog"]))
        call("Datasets/ImportSamples", D.ImportSample(dataset=MARK, content=png(1), label="cat", name=f"{MARK}.png"))
        call("Datasets/SnapshotDataset", D.SnapshotDatasetRequest(dataset=MARK, reason=MARK))
        self.ids["sample"] = call("Datasets/ListSamples", D.ListSamplesRequest(dataset=MARK)).samples[0].id
        call("Training/PutSpec", TR.PutSpecRequest(yaml=f"name: {MODEL}\ndata: {{dataset: {MARK}}}\n"))
        self.ids["job"] = call("Training/RunJob", TR.RunJobRequest(model=MODEL)).id
        challenger = self.hub.publish(MODEL).version
        assert call("Shadows/StartShadow", SH.StartShadowRequest(model=MODEL, version=challenger)).devices == 1
        self.ids["rollout"] = call("Rollouts/CreateRollout", R.CreateRolloutRequest(model=MODEL, version=1)).id
        call("Streams/PutStreams", S.PutStreamsRequest(yaml=SPEC.format(name=MARK)))
        call("Alerts/PutRule", AL.PutRuleRequest(yaml=f"{{name: {MARK}, event: camera.*, severity: info}}"))
        self.ids["alert"] = call("Alerts/ListAlerts", AL.ListAlertsRequest(device_id=CAM)).alerts[0].id
        silence = AL.CreateSilenceRequest(rule=MARK, duration_s=HOUR, reason=MARK)
        self.ids["silence"] = call("Alerts/CreateSilence", silence).id
        self.ids["token"] = call("Admin/CreateToken", A.CreateTokenRequest(user=MARK, note=MARK)).token.id

    def something_happens(self) -> None:
        """New rows of every kind that can be watched."""
        now = SystemClock().now()
        close(self.hub, MARK, 4, CAM)
        land(self.hub, CAM, 5, first=100)
        with self.hub.db.write() as tx:
            moved = Event(sequence=2, at=now, kind="camera.moved", detail=MARK)
            events.add(tx, [(DEFAULT_TENANT, CAM, moved, to_ms(now))])
        self.hub.services.alerts.tick()


def _call(channel: grpc.Channel, name: str, request: Message) -> Any:
    path = f"/tideline.v1.{name}"
    write: Any = type(request).SerializeToString
    parse = GetMessageClass(METHODS[path].output_type).FromString
    if METHODS[path].client_streaming:
        return channel.stream_unary(path, write, parse)(iter([request]), timeout=30)
    return channel.unary_unary(path, write, parse)(request, timeout=30)


@dataclass(frozen=True)
class Case:
    answer: set[StatusCode]
    request: Callable[[dict[str, str]], Message]
    device: bool = False  # called by another tenant's device
    mark: bytes = MARK.encode()  # what must not be told; empty: the answer repeats what the caller made


def user(answer: set[StatusCode], message: type[Message], **fields: Any) -> Case:
    return Case(answer, lambda known: message(**{key: _filled(value, known) for key, value in fields.items()}))


def device(answer: set[StatusCode], message: type[Message], **fields: Any) -> Case:
    return Case(answer, user(answer, message, **fields).request, device=True)


def _filled(value: Any, known: dict[str, str]) -> Any:
    return value(known) if callable(value) else value


def marked(case: Case, mark: bytes) -> Case:
    return replace(case, mark=mark)


def known(name: str) -> Callable[[dict[str, str]], str]:
    return lambda rows: rows[name]


def number(name: str) -> Callable[[dict[str, str]], int]:
    return lambda rows: int(rows[name])


CASES: dict[str, list[Case]] = {
    "Admin/WhoAmI": [user(NOTHING, A.WhoAmIRequest)],
    "Admin/CreateUser": [user(NOTHING, A.CreateUserRequest, name="ada", role="admin")],  # the same name in another tenant
    "Admin/GetUser": [user(NOT_FOUND, A.GetUserRequest, name=MARK)],
    "Admin/ListUsers": [user(NOTHING, A.ListUsersRequest)],
    "Admin/UpdateUser": [
        user(NOT_FOUND, A.UpdateUserRequest, name=MARK, role="admin"),
        user(NOT_FOUND, A.UpdateUserRequest, name=MARK, disabled=True),
    ],
    "Admin/IssueCertificate": [user(NOT_FOUND, A.IssueCertificateRequest, name=MARK, csr_pem=make_csr()[1])],
    "Admin/RevokeCertificates": [user(NOT_FOUND, A.RevokeCertificatesRequest, name=MARK)],
    "Admin/CreateToken": [user(NOT_FOUND, A.CreateTokenRequest, user=MARK)],
    "Admin/ListTokens": [user(NOTHING, A.ListTokensRequest), user(NOT_FOUND, A.ListTokensRequest, user=MARK)],
    "Admin/RevokeToken": [user(NOT_FOUND, A.RevokeTokenRequest, id=known("token"))],
    "Admin/ListAudit": [
        marked(user(NOTHING, A.ListAuditRequest, page_size=500), b"default"),  # its own refused calls name zebras
        marked(user(NOTHING, A.ListAuditRequest, who="ada"), b"default"),
    ],
    "Admin/ExportAudit": [marked(user(NOTHING, A.ExportAuditRequest), b"default")],
    "Admin/VerifyAudit": [user(NOTHING, A.VerifyAuditRequest)],
    "Alerts/AckAlert": [user(NOT_FOUND, AL.AckAlertRequest, id=known("alert"))],
    "Alerts/CreateSilence": [user(ANY, AL.CreateSilenceRequest, device_id=CAM, duration_s=HOUR)],
    "Alerts/DeleteRule": [user(NOT_FOUND, AL.DeleteRuleRequest, name=MARK)],
    "Alerts/ExpireSilence": [user(NOT_FOUND, AL.ExpireSilenceRequest, id=known("silence"))],
    "Alerts/GetAlert": [user(NOT_FOUND, AL.GetAlertRequest, id=known("alert"))],
    "Alerts/ListAlerts": [user(NOTHING, AL.ListAlertsRequest), user(NOTHING, AL.ListAlertsRequest, device_id=CAM)],
    "Alerts/ListRules": [user(NOTHING, AL.ListRulesRequest)],
    "Alerts/ListSilences": [user(NOTHING, AL.ListSilencesRequest)],
    "Alerts/ListSinks": [user(NOTHING, AL.ListSinksRequest)],
    "Alerts/PutRule": [marked(user(ANY, AL.PutRuleRequest, yaml="{name: zebra, event: camera.*, severity: critical}"), b"")],
    "Alerts/ResolveAlert": [user(NOT_FOUND, AL.ResolveAlertRequest, id=known("alert"))],
    "Alerts/TestSink": [user(ANY, AL.TestSinkRequest, name="log")],
    "Alerts/WatchAlerts": [user(WATCHED, AL.WatchAlertsRequest)],
    "Artifacts/Download": [
        user(NOT_FOUND, artifacts_pb2.DownloadRequest, digest=known("artifact")),
        user(NOT_FOUND, artifacts_pb2.DownloadRequest, digest=known("manifest")),
        device(NOT_FOUND, artifacts_pb2.DownloadRequest, digest=known("artifact")),
        device(NOT_FOUND, artifacts_pb2.DownloadRequest, digest=known("manifest")),
    ],
    "Artifacts/Locate": [
        user(NOT_FOUND, artifacts_pb2.LocateRequest, digest=known("artifact")),
        device(NOT_FOUND, artifacts_pb2.LocateRequest, digest=known("artifact")),
    ],
    "Datasets/CreateDataset": [user(NOTHING, D.CreateDatasetRequest, name="stripes", labels=["cat", "dog"])],
    "Datasets/GetSample": [user(NOT_FOUND, D.GetSampleRequest, id=known("sample"))],
    "Datasets/ImportSamples": [user(ANY, D.ImportSample, dataset=MARK, content=png(2), label="dog", name="x.png")],
    "Datasets/LabelSamples": [
        Case(
            NOT_FOUND,
            lambda rows: D.LabelSamplesRequest(labels=[D.LabelSamplesRequest.Label(sample_id=rows["sample"], label="dog")]),
        )
    ],
    "Datasets/GetDatasetChanges": [user(NOT_FOUND, D.GetDatasetChangesRequest, dataset=MARK, to=1, **{"from": 1})],
    "Datasets/GetDatasheet": [user(NOT_FOUND, D.GetDatasheetRequest, dataset=MARK, json=True)],
    "Datasets/JoinLabels": [
        Case(
            NOT_FOUND,
            lambda rows: D.JoinLabelsRequest(
                dataset=MARK, truths=[D.JoinLabelsRequest.Truth(sample_id=rows["sample"], label="dog")]
            ),
        )
    ],
    "Datasets/ListDatasetVersions": [user(NOT_FOUND, D.ListDatasetVersionsRequest, dataset=MARK)],
    "Datasets/SnapshotDataset": [user(NOT_FOUND, D.SnapshotDatasetRequest, dataset=MARK, reason="x")],
    "Datasets/ListDatasets": [user(NOTHING, D.ListDatasetsRequest)],
    "Datasets/ListSamples": [
        user(NOT_FOUND | NOTHING, D.ListSamplesRequest, dataset=MARK),
        user(ANY, D.ListSamplesRequest, device_id=CAM),
    ],
    "Datasets/UploadSample": [
        device(
            ANY,
            D.UploadSampleRequest,
            digest=ids.digest_of(png(3)),
            content=png(3),
            captured_at_ms=1_700_000_000_000,
            name="x.png",
            model_manifest=known("manifest"),
        )
    ],
    "Drift/ListEpisodes": [
        user(NOTHING, drift_pb2.ListEpisodesRequest),
        user(NOTHING, drift_pb2.ListEpisodesRequest, model=MODEL),
    ],
    "Drift/ListWindows": [
        user(NOTHING, drift_pb2.ListWindowsRequest),
        user(NOTHING, drift_pb2.ListWindowsRequest, device_id=CAM),
    ],
    "Fleet/ApproveDevice": [user(NOT_FOUND, F.ApproveDeviceRequest, id=CAM, fingerprint="sha256:" + "0" * 64)],
    "Fleet/CreateDevice": [user(TAKEN, F.CreateDeviceRequest, id=CAM, board="camera-x86")],
    "Fleet/DeleteDevice": [user(NOT_FOUND, F.DeleteDeviceRequest, id=CAM)],
    "Fleet/EnrollDevice": [user(NOT_FOUND, F.EnrollDeviceRequest, id=CAM)],
    "Fleet/GetDevice": [user(NOT_FOUND, F.GetDeviceRequest, id=CAM)],
    "Fleet/ListDevices": [
        user(NOTHING, F.ListDevicesRequest),
        user(NOTHING, F.ListDevicesRequest, selector=F.Selector(match={"id": CAM})),
        user(NOTHING, F.ListDevicesRequest, selector=F.Selector(match={"site": MARK})),
        user(NOTHING, F.ListDevicesRequest, selector=F.Selector(match={"model": MODEL})),
    ],
    "Fleet/RevokeDevice": [user(NOT_FOUND, F.RevokeDeviceRequest, id=CAM)],
    "Fleet/RotateDevice": [user(NOT_FOUND, F.RotateDeviceRequest, id=CAM)],
    "Fleet/UpdateDevice": [user(NOT_FOUND, F.UpdateDeviceRequest, id=CAM, labels={"site": "acme"})],
    "Packages/ListPackages": [user(NOTHING, P.ListPackagesRequest)],
    "Packages/PublishPackage": [
        user(ANY, P.PackageChunk, kind=2, name="stripes", version="1", digest=known("artifact"), size_bytes=4000)
    ],
    "Registry/GetVersion": [
        user(NOT_FOUND, G.GetVersionRequest, name=MODEL, version=1),
        user(NOT_FOUND, G.GetVersionRequest, name=MODEL, alias="champion"),
    ],
    "Registry/ListModels": [user(NOTHING, G.ListModelsRequest)],
    "Registry/ListVersions": [user(NOT_FOUND | NOTHING, G.ListVersionsRequest, name=MODEL)],
    "Registry/SetAlias": [user(NOT_FOUND, G.SetAliasRequest, name=MODEL, alias="champion", version=1)],
    "Rollouts/AbortRollout": [user(NOT_FOUND, R.RolloutActionRequest, id=known("rollout"))],
    "Rollouts/ApproveRollout": [user(NOT_FOUND, R.RolloutActionRequest, id=known("rollout"))],
    "Rollouts/CreateRollout": [user(NOT_FOUND, R.CreateRolloutRequest, model=MODEL, version=1)],
    "Rollouts/GetRollout": [user(NOT_FOUND, R.GetRolloutRequest, id=known("rollout"))],
    "Rollouts/ListRolloutDevices": [user(NOT_FOUND, R.ListRolloutDevicesRequest, id=known("rollout"))],
    "Rollouts/ListRollouts": [user(NOTHING, R.ListRolloutsRequest)],
    "Rollouts/PauseRollout": [user(NOT_FOUND, R.RolloutActionRequest, id=known("rollout"))],
    "Rollouts/ResumeRollout": [user(NOT_FOUND, R.RolloutActionRequest, id=known("rollout"))],
    "Rollouts/RollbackRollout": [user(NOT_FOUND, R.RolloutActionRequest, id=known("rollout"))],
    "Rollouts/StartRollout": [user(NOT_FOUND, R.RolloutActionRequest, id=known("rollout"))],
    "Rollouts/WatchRollout": [user(NOT_FOUND, R.GetRolloutRequest, id=known("rollout"))],
    "Shadows/GetShadow": [user(NOT_FOUND, SH.GetShadowRequest, model=MODEL, version=1)],
    "Shadows/ListShadows": [user(NOTHING, SH.ListShadowsRequest)],
    "Shadows/StartShadow": [user(NOT_FOUND, SH.StartShadowRequest, model=MODEL, version=1)],
    "Shadows/StopShadow": [user(NOTHING, SH.StopShadowRequest, model=MODEL)],
    "Streams/DeleteStream": [user(NOT_FOUND, S.GetStreamRequest, name=MARK)],
    "Streams/GetStream": [user(NOT_FOUND, S.GetStreamRequest, name=MARK)],
    "Streams/ListStreams": [user(NOTHING, S.ListStreamsRequest)],
    "Streams/ListWindows": [
        user(NOTHING, S.ListStreamWindowsRequest),
        user(ANY, S.ListStreamWindowsRequest, stream=MARK, device_id=CAM),
    ],
    "Streams/PutStreams": [user(NOTHING, S.PutStreamsRequest, yaml=SPEC.format(name="stripes"))],
    "Streams/WatchWindows": [user(WATCHED, S.WatchStreamWindowsRequest, after_number=0)],
    "Telemetry/Aggregate": [user(NOTHING, T.AggregateRequest), user(ANY, T.AggregateRequest, device_id=CAM)],
    "Telemetry/GetQuarantined": [user(NOT_FOUND, T.GetQuarantinedRequest, id=number("quarantined"))],
    "Telemetry/GetStats": [user(NOTHING, T.GetStatsRequest), user(ANY, T.GetStatsRequest, device_id=CAM)],
    "Telemetry/ListEvents": [user(NOTHING, T.ListEventsRequest), user(ANY, T.ListEventsRequest, device_id=CAM)],
    "Telemetry/ListQuarantine": [user(NOTHING, T.ListQuarantineRequest)],
    "Telemetry/QueryReadings": [
        user(NOTHING, T.QueryReadingsRequest),
        user(ANY, T.QueryReadingsRequest, device_id=CAM),
        user(ANY, T.QueryReadingsRequest, model=MODEL),
        user(ANY, T.QueryReadingsRequest, model=known("manifest")),
        user(ANY, T.QueryReadingsRequest, selector={"site": MARK}),
    ],
    "Telemetry/ReplayQuarantined": [
        Case(ANY, lambda rows: T.ReplayQuarantinedRequest(ids=[int(rows["quarantined"])])),
        user(ANY, T.ReplayQuarantinedRequest),
    ],
    "Telemetry/TailReadings": [
        user(WATCHED, T.TailReadingsRequest, last=1000),
        user(ANY, T.TailReadingsRequest, device_id=CAM),
    ],
    "Training/CancelJob": [user(NOT_FOUND, TR.GetJobRequest, id=known("job"))],
    "Training/GetJob": [user(NOT_FOUND, TR.GetJobRequest, id=known("job"))],
    "Training/GetReport": [
        user(NOT_FOUND, TR.GetReportRequest, job_id=known("job")),
        user(NOT_FOUND, TR.GetReportRequest, model=MODEL, version=1, json=True),
    ],
    "Training/GetSpec": [user(NOT_FOUND, TR.GetSpecRequest, model=MODEL)],
    "Training/ListJobs": [user(NOTHING, TR.ListJobsRequest), user(NOTHING, TR.ListJobsRequest, model=MODEL)],
    "Training/PutSpec": [marked(user(ANY, TR.PutSpecRequest, yaml=f"name: {MODEL}\ndata: {{dataset: {MARK}}}\n"), b"")],
    "Training/ListTasks": [user(NOTHING, TR.ListTasksRequest)],
    "Training/RetryJob": [user(NOT_FOUND, TR.GetJobRequest, id=known("job"))],
    "Training/ValidateSpec": [
        marked(user(ANY, TR.ValidateSpecRequest, yaml=f"name: {MODEL}\ndata: {{dataset: {MARK}}}\n", dataset_check=True), b"")
    ],
    "Training/RunJob": [user(ANY, TR.RunJobRequest, model=MODEL)],
    "Training/WatchJob": [user(NOT_FOUND, TR.GetJobRequest, id=known("job"))],
    "Trust/GetDirector": [device(ANY, U.GetDirectorRequest, nonce=b"n" * 16)],
    # the image repository is one for all, as its clients need it whole
    "Trust/GetMetadata": [user(NOTHING, U.GetMetadataRequest, repository=1, name="timestamp.json")],
    "Trust/GetTrust": [user(NOTHING, U.GetTrustRequest)],
    "Trust/PrepareKeys": [user(DENIED, U.PrepareKeysRequest)],
    "Trust/PutRoot": [user(DENIED, U.PutRootRequest, image_root=b"{}")],
}
ABOUT_NOBODY = {
    "/tideline.v1.Enrollment/Enroll",  # a stranger's: the tenant is the token's
    "/tideline.v1.Enrollment/Renew",  # a stranger's: the tenant is the certificate's
    *(f"/grpc.health.v1.Health/{name}" for name in health_pb2.DESCRIPTOR.services_by_name["Health"].methods_by_name),
    *(
        f"/grpc.reflection.v1alpha.ServerReflection/{name}"
        for name in reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].methods_by_name
    ),
}


def test_every_method_of_the_contract_has_a_case() -> None:
    assert {f"/tideline.v1.{name}" for name in CASES} | ABOUT_NOBODY == set(METHODS)


@pytest.fixture(scope="module")
def rows(hub: RunningHub) -> Rows:
    return Rows(hub)


@pytest.fixture(scope="module")
def others(hub: RunningHub) -> Iterator[dict[bool, grpc.Channel]]:
    """The other tenant's admin, and (True) its device."""
    admin, camera = hub.add_user("eve", Role.ADMIN, ACME), hub.device("cam-acme", ACME)
    opened = {False: hub.channel(admin), True: hub.channel(camera)}
    yield opened
    for channel in opened.values():
        channel.close()


def contents(hub: RunningHub) -> dict[str, list[Any]]:
    """All rows but those of the other tenant."""
    found = {}
    with hub.db.read() as tx:
        for name, table in schema.metadata.tables.items():
            query = select(table)
            if "tenant" in table.c:
                query = query.where(table.c.tenant != ACME)
            found[name] = sorted(map(repr, tx.execute(query)))
    return found


def answered(
    channel: grpc.Channel, path: str, request: Message, happen: Callable[[], None] | None, limit: float
) -> tuple[StatusCode, bytes]:
    """The code, and all bytes of all replies within ``limit`` seconds; ``happen`` is called once a watch has begun."""
    method, write = METHODS[path], type(request).SerializeToString
    data = b""
    try:
        if method.server_streaming:
            replies = channel.unary_stream(path, write, None)(request, timeout=limit)
            replies.initial_metadata() if happen is None else happen()
            data = b"".join(replies)
        elif method.client_streaming:
            data = channel.stream_unary(path, write, None)(iter([request]), timeout=limit)
        else:
            data = channel.unary_unary(path, write, None)(request, timeout=limit)
    except grpc.RpcError as error:
        return error.code(), data + (error.details() or "").encode()
    return StatusCode.OK, data


@pytest.mark.parametrize("name", sorted(CASES))
def test_another_tenant_reads_nothing_and_changes_nothing(
    hub: RunningHub, rows: Rows, others: dict[bool, grpc.Channel], name: str
) -> None:
    path = f"/tideline.v1.{name}"
    for case in CASES[name]:
        request = case.request(rows.ids)
        watched = "/Watch" in path or "/Tail" in path
        before = contents(hub)
        lasts = StatusCode.DEADLINE_EXCEEDED in case.answer  # a watch that is let in ends by the test alone
        happen = rows.something_happens if watched else None
        code, data = answered(others[case.device], path, request, happen, WATCH_S if lasts else 30.0)
        assert code in case.answer, f"{name}: {code} {data[:200]!r}"
        if case.mark and (
            code is StatusCode.OK or case.mark not in request.SerializeToString()
        ):  # an error may quote the request
            assert case.mark not in data, f"{name} told of the first tenant: {data[:300]!r}"
        if watched:
            continue
        after = contents(hub)
        for table, kept in before.items():
            if "tenant" in schema.metadata.tables[table].c:
                assert after[table] == kept, f"{name} changed the first tenant's rows of {table}"
            else:
                assert set(kept) <= set(after[table]), f"{name} changed rows of {table}"


SEEN = (
    "Fleet/ListDevices Datasets/ListDatasets Registry/ListModels Training/ListJobs Rollouts/ListRollouts Streams/ListWindows "
    "Shadows/ListShadows "
    "Alerts/ListAlerts Alerts/ListRules Alerts/ListSilences Drift/ListEpisodes Telemetry/ListEvents Telemetry/ListQuarantine "
    "Telemetry/GetStats Telemetry/QueryReadings Admin/ListUsers Admin/ListTokens Admin/ListAudit Admin/ExportAudit"
)


def test_the_first_tenant_sees_all_of_it(hub: RunningHub, rows: Rows) -> None:
    """Otherwise the test above would prove little."""
    with hub.channel(hub.user) as channel:
        for name in SEEN.split():
            path = f"/tideline.v1.{name}"
            code, data = answered(channel, path, GetMessageClass(METHODS[path].input_type)(), None, 30.0)
            assert (code, MARK.encode() in data) == (StatusCode.OK, True), f"{name}: {code} {data[:100]!r}"
