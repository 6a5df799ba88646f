"""What callers are told when it goes wrong."""

import logging
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from cloud_hub.core import errors
from cloud_hub.rpc.errors import MAX_DETAILS, status_of
from cloud_hub.rpc.policy import POLICY, Rule
from protos.v1 import fleet_pb2, fleet_pb2_grpc, registry_pb2, registry_pb2_grpc, rollouts_pb2, rollouts_pb2_grpc
from tests.hub.rpc.running import RunningHub

GET = "/tideline.v1.Fleet/GetDevice"


@pytest.fixture
def channel(hub: RunningHub) -> Iterator[grpc.Channel]:
    with hub.channel(hub.user) as opened:
        yield opened


def refusal(call: Any, request: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as refused:
        call(request, timeout=10)
    return refused.value


@pytest.mark.parametrize("id", ["", "UPPER", "a/b", "x" * 64, "-cam", "cam\n", "../cam", "ünïcode"])
def test_a_malformed_id_is_an_invalid_argument_that_says_what_an_id_is(channel: grpc.Channel, id: str) -> None:
    error = refusal(fleet_pb2_grpc.FleetStub(channel).GetDevice, fleet_pb2.GetDeviceRequest(id=id))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "device id must be 1 to 63 of a-z" in error.details()


def test_what_does_not_exist_is_not_found(channel: grpc.Channel) -> None:
    errors_seen = [
        refusal(fleet_pb2_grpc.FleetStub(channel).GetDevice, fleet_pb2.GetDeviceRequest(id="nobody")),
        refusal(registry_pb2_grpc.RegistryStub(channel).GetVersion, registry_pb2.GetVersionRequest(name="none", version=1)),
        refusal(rollouts_pb2_grpc.RolloutsStub(channel).PauseRollout, rollouts_pb2.RolloutActionRequest(id="none")),
    ]
    assert {error.code() for error in errors_seen} == {grpc.StatusCode.NOT_FOUND}
    assert "nobody" in errors_seen[0].details()


def test_a_message_over_the_limit_is_refused_and_the_connection_lives_on(channel: grpc.Channel) -> None:
    fleet = fleet_pb2_grpc.FleetStub(channel)
    error = refusal(fleet.UpdateDevice, fleet_pb2.UpdateDeviceRequest(id="cam", labels={"k": "v" * (9 << 20)}))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert list(fleet.ListDevices(fleet_pb2.ListDevicesRequest(), timeout=10).devices) is not None


def test_a_bug_is_an_incident_number_for_the_caller_and_a_trace_in_the_log(
    hub: RunningHub, channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(hub.services.fleet, "get", broken)
    error = refusal(fleet_pb2_grpc.FleetStub(channel).GetDevice, fleet_pb2.GetDeviceRequest(id="cam"))
    assert error.code() is grpc.StatusCode.INTERNAL
    word, incident = error.details().split()
    assert word == "incident" and len(incident) == 12
    (record,) = [record for record in caplog.records if getattr(record, "incident", "") == incident]
    assert record.levelno == logging.ERROR and record.exc_info and "secret detail" in str(record.exc_info[1])


def test_a_call_ends_at_the_hubs_own_limit_whatever_the_client_allows(
    hub: RunningHub, channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = threading.Event()
    monkeypatch.setitem(POLICY, GET, Rule(roles=POLICY[GET].roles, limit_s=0.05))  # type: ignore[arg-type]
    monkeypatch.setattr(hub.services.fleet, "get", lambda *_: told.wait(10))
    try:
        error = refusal(fleet_pb2_grpc.FleetStub(channel).GetDevice, fleet_pb2.GetDeviceRequest(id="cam"))
    finally:
        told.set()
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert GET in error.details()  # the hub's, not the client's own


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotFound("x"), grpc.StatusCode.NOT_FOUND),
        (errors.Conflict("x"), grpc.StatusCode.ALREADY_EXISTS),
        (errors.Invalid("x"), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.NotReady("x"), grpc.StatusCode.FAILED_PRECONDITION),
        (errors.Denied("x"), grpc.StatusCode.PERMISSION_DENIED),
        (errors.Exhausted("x"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.BadArtifact("x"), grpc.StatusCode.DATA_LOSS),
    ],
)
def test_every_domain_error_has_its_status(error: errors.HubError, code: grpc.StatusCode) -> None:
    assert status_of(error, "/m") == (code, "x")


def test_no_domain_error_is_left_without_a_status() -> None:
    assert all(status_of(kind("x"), "/m")[0] is not grpc.StatusCode.INTERNAL for kind in errors.HubError.__subclasses__())


def test_details_fit_into_trailers() -> None:
    _, details = status_of(errors.Invalid("long " * 10_000), "/m")
    assert len(details) == MAX_DETAILS


@pytest.mark.parametrize("data", [b"\xff" * 10, b"\x0a\x05ab", b"\x0a\x02\xff\xfe"])  # a broken tag, a cut field, no UTF-8
def test_bytes_that_are_no_message_are_an_invalid_argument(channel: grpc.Channel, data: bytes) -> None:
    error = refusal(channel.unary_unary(GET), data)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "the request is not a tideline.v1.GetDeviceRequest"
    streamed = channel.stream_unary("/tideline.v1.Datasets/ImportSamples")
    assert refusal(streamed, iter([data])).code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_stranger_hears_nothing_about_its_bytes(hub: RunningHub) -> None:
    with hub.channel(hub.device("cam-fuzz")) as channel:
        assert refusal(channel.unary_unary(GET), b"\xff" * 10).code() is grpc.StatusCode.PERMISSION_DENIED
