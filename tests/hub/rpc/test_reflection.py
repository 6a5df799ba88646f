"""Server reflection: admins with a generic client, and nobody else."""

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2 as pb
from grpc_reflection.v1alpha import reflection_pb2_grpc

from cloud_hub.core.model import Role
from tests.hub.rpc.running import RunningHub
from tests.hub.rpc.test_server import DEADLINE_S

LIST = pb.ServerReflectionRequest(list_services="")


def ask(channel: grpc.Channel, *requests: pb.ServerReflectionRequest) -> list[pb.ServerReflectionResponse]:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[no-untyped-call]
    return list(stub.ServerReflectionInfo(iter(requests), timeout=DEADLINE_S))


def test_an_admin_sees_every_service_and_what_it_looks_like(hub: RunningHub) -> None:
    symbol = pb.ServerReflectionRequest(file_containing_symbol="tideline.v1.Fleet")
    with hub.channel(hub.user) as channel:
        services, file, nothing = ask(channel, LIST, symbol, pb.ServerReflectionRequest(file_by_filename="../etc/passwd"))
    names = {service.name for service in services.list_services_response.service}
    assert {"tideline.v1.Fleet", "tideline.v1.Admin", "grpc.health.v1.Health"} < names
    assert any(b"GetDevice" in one for one in file.file_descriptor_response.file_descriptor_proto)
    assert nothing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.LABELLER, Role.OPERATOR, Role.RELEASER, Role.DEVICE])
def test_it_is_denied_to_everyone_else(hub: RunningHub, role: Role) -> None:
    identity = hub.device("cam-curious") if role is Role.DEVICE else hub.add_user(f"curious {role.value}", role)
    with hub.channel(identity) as channel, pytest.raises(grpc.RpcError) as refused:
        ask(channel, LIST)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_strangers_see_nothing_of_it(hub: RunningHub) -> None:
    with hub.token_channel() as channel, pytest.raises(grpc.RpcError) as refused:
        ask(channel, LIST)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with hub.enroll_channel() as channel, pytest.raises(grpc.RpcError) as absent:
        ask(channel, LIST)
    assert absent.value.code() is grpc.StatusCode.UNIMPLEMENTED
