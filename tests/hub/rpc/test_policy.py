"""Every RPC of the contract x every role, over real TLS: exactly what the table says."""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

import protos.v1
from cloud_hub.core.model import Role
from cloud_hub.rpc.policy import POLICY
from cloud_hub.trust.authority import Authority
from tests.hub.rpc.running import RunningHub

ENROLL = "/tideline.v1.Enrollment/Enroll"
NAMES = {Role.DEVICE: "device cam-policy", Role.ADMIN: "admin ada"}
HEALTH = "grpc.health.v1.Health"


def contract() -> Iterator[MethodDescriptor]:
    """Every method of every service in ``protos.v1``, and health."""
    modules = [f"protos.v1.{m.name}" for m in pkgutil.iter_modules(protos.v1.__path__) if m.name.endswith("_pb2")]
    for descriptor in [*(importlib.import_module(name).DESCRIPTOR for name in modules), health_pb2.DESCRIPTOR]:
        for service in descriptor.services_by_name.values():
            yield from service.methods


METHODS = {f"/{m.containing_service.full_name}/{m.name}": m for m in contract()}


@pytest.fixture(scope="module")
def channels(hub: RunningHub) -> Iterator[dict[Role, grpc.Channel]]:
    """Strangers can only speak to the enrolment port; the other one does not shake hands with them."""
    opened = {
        Role.ANONYMOUS: hub.enroll_channel(),
        Role.DEVICE: hub.channel(hub.device("cam-policy")),
        Role.ADMIN: hub.channel(hub.user),
    }
    yield opened
    for channel in opened.values():
        channel.close()


def outcome(channel: grpc.Channel, path: str) -> tuple[grpc.StatusCode, str]:
    """Call with an empty message and take the first reply."""
    method = METHODS[path]
    parse = GetMessageClass(method.output_type).FromString
    request = GetMessageClass(method.input_type)()
    try:
        if method.server_streaming:
            call = channel.unary_stream(path, type(request).SerializeToString, parse)(request, timeout=10)
            next(call, None)
            call.cancel()
        elif method.client_streaming:
            channel.stream_unary(path, type(request).SerializeToString, parse)(iter([request]), timeout=10)
        else:
            channel.unary_unary(path, type(request).SerializeToString, parse)(request, timeout=10)
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


def test_every_method_of_the_contract_has_a_rule_and_no_rule_is_left_over() -> None:
    assert set(POLICY) == set(METHODS)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("path", sorted(METHODS))
def test_a_role_reaches_a_method_only_where_the_table_says_so(
    channels: dict[Role, grpc.Channel], path: str, role: Role
) -> None:
    code, details = outcome(channels[role], path)
    served = (path == ENROLL or HEALTH in path) if role is Role.ANONYMOUS else path != ENROLL
    if not served:
        assert code is grpc.StatusCode.UNIMPLEMENTED, details  # not on that port at all
        assert role not in POLICY[path].roles or path == ENROLL
    elif role is Role.ANONYMOUS and role not in POLICY[path].roles:
        assert (code, details) == (grpc.StatusCode.UNAUTHENTICATED, f"{path} needs a client certificate")
    elif role in POLICY[path].roles:
        refusal = f"may not call {path}" in details or f"{path} needs a client certificate" in details
        assert not refusal and code not in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL), details
    else:
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert details == f"{NAMES[role]} may not call {path}"


@pytest.mark.parametrize("path", sorted(set(METHODS) - {ENROLL}))
def test_the_hub_port_shakes_no_hands_without_a_certificate(hub: RunningHub, path: str) -> None:
    with hub.channel() as stranger:
        code, _ = outcome(stranger, path)
    assert code is grpc.StatusCode.UNAVAILABLE


def test_a_certificate_of_another_authority_is_refused(hub: RunningHub, tmp_path: Path) -> None:
    foreign = Authority.create(tmp_path / "ca").sign_user("ada")
    with hub.channel(foreign) as channel:
        code, _ = outcome(channel, "/tideline.v1.Fleet/ListDevices")
    assert code is grpc.StatusCode.UNAVAILABLE


def test_a_method_without_a_rule_is_refused_to_everyone(
    channels: dict[Role, grpc.Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/tideline.v1.Fleet/ListDevices"
    monkeypatch.delitem(POLICY, path)  # type: ignore[arg-type]
    code, details = outcome(channels[Role.ADMIN], path)
    assert (code, details) == (grpc.StatusCode.PERMISSION_DENIED, f"admin ada may not call {path}")
