"""Every RPC of the contract x every role x tenants: what may be called is written down here a second time, by role."""

import asyncio
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import protos.v1
from cloud_hub.core.call_metrics import CallMetrics
from cloud_hub.core.model import DEFAULT_TENANT, Role
from cloud_hub.rpc.admission import Admission
from cloud_hub.rpc.auth import Certificates, Door, nothing
from cloud_hub.rpc.guard import Guard
from cloud_hub.rpc.policy import POLICY
from cloud_hub.rpc.record import Record
from cloud_hub.rpc.threads import Threads
from cloud_hub.trust.authority import Authority, Issued
from edge_agent.core.clock import SystemClock
from protos.contract.ids import DeviceId, TenantId
from tests.hub.rpc.running import RunningHub, device_identity

# What each kind of caller may call, service by service. Nobody may call anything that is not here.
HEALTH = {"Health": "Check List"}
READS = {
    "Health": "Check List Watch",
    "Admin": "WhoAmI CreateToken ListTokens RevokeToken",
    "Alerts": "GetAlert ListAlerts ListRules ListSilences ListSinks WatchAlerts",
    "Artifacts": "Download Locate",
    "Datasets": "GetDatasetChanges GetDatasheet GetSample ListDatasetVersions ListDatasets ListSamples",
    "Drift": "ListEpisodes ListWindows",
    "Fleet": "GetDevice ListDevices",
    "Packages": "ListPackages",
    "Registry": "GetVersion ListModels ListVersions",
    "Rollouts": "GetRollout ListRolloutDevices ListRollouts WatchRollout",
    "Shadows": "GetShadow ListShadows",
    "Streams": "GetStream ListStreams ListWindows WatchWindows",
    "Telemetry": "Aggregate GetStats ListEvents ListQuarantine QueryReadings TailReadings",
    "Training": "GetJob GetReport GetSpec ListJobs ListTasks ValidateSpec WatchJob",
    "Trust": "GetMetadata GetTrust",
}
LABELS = {"Datasets": "CreateDataset ImportSamples JoinLabels LabelSamples SnapshotDataset"}
STOPS = {"Rollouts": "AbortRollout PauseRollout RollbackRollout", "Shadows": "StopShadow"}
OPERATES = {
    "Alerts": "AckAlert CreateSilence DeleteRule ExpireSilence PutRule ResolveAlert TestSink",
    "Fleet": "CreateDevice DeleteDevice EnrollDevice RevokeDevice RotateDevice UpdateDevice",
    "Streams": "DeleteStream PutStreams",
    "Telemetry": "GetQuarantined ReplayQuarantined",
    "Training": "CancelJob PutSpec RetryJob RunJob",
}
RELEASES = {
    "Packages": "PublishPackage",
    "Registry": "SetAlias",
    "Rollouts": "ApproveRollout CreateRollout ResumeRollout StartRollout",
    "Shadows": "StartShadow",
}
ADMINISTERS = {
    "Admin": "CreateUser ExportAudit GetUser IssueCertificate ListAudit ListUsers RevokeCertificates UpdateUser VerifyAudit",
    "Fleet": "ApproveDevice",
    "ServerReflection": "ServerReflectionInfo",
}
RUNS_THE_HUB = {"Trust": "PrepareKeys PutRoot"}  # admins of the default tenant
MAY: dict[Role, list[dict[str, str]]] = {
    Role.ANONYMOUS: [HEALTH, {"Enrollment": "Enroll Renew"}],
    Role.DEVICE: [
        {
            "Health": "Check List Watch",
            "Artifacts": "Download Locate",
            "Datasets": "UploadSample",
            "Trust": "GetDirector GetMetadata",
        }
    ],
    Role.VIEWER: [READS],
    Role.LABELLER: [READS, LABELS],
    Role.OPERATOR: [READS, OPERATES, STOPS],
    Role.RELEASER: [READS, RELEASES, STOPS],
    Role.ADMIN: [READS, LABELS, OPERATES, STOPS, RELEASES, ADMINISTERS],
}
ACME = TenantId("acme")
REFUSED = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)


def contract() -> Iterator[MethodDescriptor]:
    """Every method of every service in ``protos.v1``, health and reflection."""
    modules = [f"protos.v1.{m.name}" for m in pkgutil.iter_modules(protos.v1.__path__) if m.name.endswith("_pb2")]
    files = [importlib.import_module(name).DESCRIPTOR for name in modules]
    for descriptor in [*files, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR]:
        for service in descriptor.services_by_name.values():
            yield from service.methods


METHODS = {f"/{m.containing_service.full_name}/{m.name}": m for m in contract()}


def expected(role: Role, tenant: TenantId) -> set[str]:
    tables = [*MAY[role], *([RUNS_THE_HUB] if (role, tenant) == (Role.ADMIN, DEFAULT_TENANT) else [])]
    names = {f"{service}/{name}" for table in tables for service, words in table.items() for name in words.split()}
    found = {path for path in METHODS if path.rpartition(".")[2] in names}
    assert len(found) == len(names), f"the contract lacks {names - {path.rpartition('.')[2] for path in found}}"
    return found


def test_every_method_of_the_contract_has_a_rule_and_no_rule_is_left_over() -> None:
    assert set(POLICY) == set(METHODS)


def test_every_method_is_somebodys() -> None:
    assert set.union(*(expected(role, DEFAULT_TENANT) for role in Role)) == set(METHODS)


def test_what_changes_something_stands_in_the_audit_log() -> None:
    """All but what only reads, by the word that its name begins with."""
    reading = (
        "Get",
        "List",
        "Watch",
        "Check",
        "Download",
        "Locate",
        "Query",
        "Tail",
        "Aggregate",
        "WhoAmI",
        "Export",
        "Verify",
        "Validate",
        "Server",
    )
    changing = {path for path in METHODS if not path.rpartition("/")[2].startswith(reading)}
    telemetry = {"/tideline.v1.Datasets/UploadSample"}  # what devices say all day is no decision
    assert {path for path in METHODS if POLICY[path].changes} == changing - telemetry


# -- behind the guard, every method -------------------------------------------------------------------------------------


class Context:
    """As much of gRPC's as the guard uses."""

    def __init__(self, identity: Issued | None) -> None:
        self._auth = {} if identity is None else {"x509_pem_cert": [identity.certificate_pem.encode()]}  # the first one counts
        self.code = grpc.StatusCode.OK

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._auth

    def peer(self) -> str:
        return "ipv4:192.0.2.7:1"

    async def write(self, reply: object) -> None:
        pass

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.code = code
        raise grpc.aio.AbortError


class Reached:
    """A servicer of anything."""

    def __init__(self, service: Any) -> None:
        for method in service.methods:
            setattr(self, method.name, self._stream(method) if method.server_streaming else self._unary(method))

    @staticmethod
    def _unary(method: MethodDescriptor) -> Any:
        async def answer(request: Any, call: object) -> Any:
            if method.client_streaming:
                async for _ in request:
                    pass
            return GetMessageClass(method.output_type)()

        return answer

    @staticmethod
    def _stream(method: MethodDescriptor) -> Any:
        async def answer(request: Any, call: object) -> Any:
            yield GetMessageClass(method.output_type)()

        return answer


async def reached(hub: RunningHub, identity: Issued | None) -> set[str]:
    """The methods that let the caller through to the servicer."""
    clock, threads = SystemClock(), Threads(2)
    admission = Admission(hub.services.access, threads, clock)
    record = Record(hub.services.audit, threads, clock)
    guard = Guard(admission=admission, record=record, clock=clock, metrics=CallMetrics("x", (1.0,)))
    certificates = Certificates().shown
    found = set()
    for path, method in METHODS.items():
        context = Context(identity)
        for door in (Door(certificates, "", strangers=False), Door(certificates if identity else nothing, "", strangers=True)):
            service = method.containing_service
            handler = guard._handler(method, getattr(Reached(service), method.name), door)
            call: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
            incoming = b"" if handler.unary_unary or handler.unary_stream else one()
            try:
                await call(incoming, context)
            except grpc.aio.AbortError:
                assert context.code in REFUSED, f"{path}: {context.code}"
        if context.code is grpc.StatusCode.OK:
            found.add(path)
    await record.settle()
    threads.close()
    return found


async def one() -> Any:
    yield b""


def identity_of(hub: RunningHub, role: Role, tenant: TenantId) -> Issued | None:
    if role is Role.ANONYMOUS:
        return None
    if role is not Role.DEVICE:
        return hub.add_user(f"{role.value} of {tenant}", role, tenant)
    return hub.device(f"cam-policy-{tenant}", tenant=tenant)


@pytest.mark.parametrize("tenant", [DEFAULT_TENANT, ACME])
@pytest.mark.parametrize("role", Role)
def test_a_role_reaches_exactly_what_is_written_here(hub: RunningHub, role: Role, tenant: TenantId) -> None:
    found = asyncio.run(reached(hub, identity_of(hub, role, tenant)))
    assert found == expected(role, tenant)


# -- over the network, some of each service -------------------------------------------------------------------------------


def outcome(channel: grpc.Channel, path: str) -> tuple[grpc.StatusCode, str]:
    """Call with an empty message and take the first reply."""
    method = METHODS[path]
    parse = GetMessageClass(method.output_type).FromString
    request = GetMessageClass(method.input_type)()
    write: Any = type(request).SerializeToString
    try:
        if method.server_streaming and method.client_streaming:
            list(channel.stream_stream(path, write, parse)(iter([request]), timeout=10))
        elif method.server_streaming:
            call = channel.unary_stream(path, write, parse)(request, timeout=10)
            next(call, None)
            call.cancel()
        elif method.client_streaming:
            channel.stream_unary(path, write, parse)(iter([request]), timeout=10)
        else:
            channel.unary_unary(path, write, parse)(request, timeout=10)
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


def refused(channel: grpc.Channel, path: str) -> bool:
    code, details = outcome(channel, path)
    assert code not in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL), f"{path}: {details}"
    return code in REFUSED and (path in details)


SOME = sorted(path for path in METHODS if "Enrollment" not in path)[::3]


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ANONYMOUS])
def test_the_same_holds_over_the_network(hub: RunningHub, role: Role) -> None:
    identity = identity_of(hub, role, TenantId("net"))
    assert identity is not None
    with hub.channel(identity) as channel:
        found = {path for path in SOME if not refused(channel, path)}
    assert found == expected(role, TenantId("net")) & set(SOME)


def test_strangers_reach_enrolment_and_health_and_nothing_else(hub: RunningHub) -> None:
    with hub.token_channel() as channel:
        assert {path for path in SOME if not refused(channel, path)} == expected(Role.ANONYMOUS, DEFAULT_TENANT) & set(SOME)
    with hub.enroll_channel() as channel:
        served = {path for path in METHODS if outcome(channel, path)[0] is not grpc.StatusCode.UNIMPLEMENTED}
    assert {path.rpartition("/")[0] for path in served} == {"/tideline.v1.Enrollment", "/grpc.health.v1.Health"}


@pytest.mark.parametrize("path", ["/tideline.v1.Fleet/ListDevices", "/grpc.health.v1.Health/Check"])
def test_the_hub_port_shakes_no_hands_without_a_certificate(hub: RunningHub, path: str) -> None:
    with hub.channel() as stranger:
        code, _ = outcome(stranger, path)
    assert code is grpc.StatusCode.UNAVAILABLE


def test_a_certificate_of_another_authority_is_refused(hub: RunningHub, tmp_path: Path) -> None:
    foreign = Authority.create(tmp_path / "ca").sign_user("ada")
    with hub.channel(foreign) as channel:
        code, _ = outcome(channel, "/tideline.v1.Fleet/ListDevices")
    assert code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("kind", ["user", "device", "hub", "takeover"])
def test_a_certificate_that_the_hub_signed_and_does_not_know_is_refused(hub: RunningHub, kind: str) -> None:
    """Whoever stole the issuing key can sign any name, but not write into the hub's tables."""
    forged = {
        "user": lambda: hub.authority.sign_user("ada"),
        "device": lambda: device_identity(hub.authority, "cam-policy-default"),
        "hub": lambda: hub.authority.issue_hub_client(),
        "takeover": lambda: hub.authority.takeover(DeviceId("cam-policy-default"), DEFAULT_TENANT),
    }[kind]()
    with hub.channel(forged) as channel:
        code, details = outcome(channel, "/grpc.health.v1.Health/Check")
    assert (code, "not one that this hub issued" in details) == (grpc.StatusCode.UNAUTHENTICATED, True)


def test_a_method_without_a_rule_is_refused_to_everyone(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/tideline.v1.Fleet/ListDevices"
    monkeypatch.delitem(POLICY, path)  # type: ignore[arg-type]
    with hub.channel(hub.user) as channel:
        code, details = outcome(channel, path)
    assert (code, details) == (grpc.StatusCode.PERMISSION_DENIED, f"admin ada may not call {path}")
