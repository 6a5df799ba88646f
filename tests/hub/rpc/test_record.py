"""What stands in the audit log of calls."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from cloud_hub.core.audit import AuditFilter, Entry
from cloud_hub.core.errors import Unavailable
from cloud_hub.core.model import Role
from cloud_hub.core.pages import Page
from cloud_hub.rpc.subjects import subject_of
from protos.v1 import admin_pb2, alerts_pb2, datasets_pb2, enrollment_pb2, fleet_pb2, fleet_pb2_grpc, rollouts_pb2, trust_pb2
from tests.hub.mqtt_parts import wait_for
from tests.hub.rpc.running import ADMIN, RunningHub, make_csr
from tests.hub.rpc.test_server import DEADLINE_S

UPDATE, DELETE = "/tideline.v1.Fleet/UpdateDevice", "/tideline.v1.Fleet/DeleteDevice"


def entries(hub: RunningHub, **wanted: Any) -> list[Entry]:
    """Oldest first."""
    return hub.services.audit.list(ADMIN, AuditFilter(**wanted), Page(size=500))[0][::-1]


@pytest.fixture
def stub(hub: RunningHub) -> Iterator[fleet_pb2_grpc.FleetStub]:
    with hub.channel(hub.user) as channel:
        yield fleet_pb2_grpc.FleetStub(channel)


def test_a_change_is_written_down_before_and_after(hub: RunningHub, stub: fleet_pb2_grpc.FleetStub) -> None:
    hub.device("cam-written")
    stub.UpdateDevice(fleet_pb2.UpdateDeviceRequest(id="cam-written", labels={"site": "north"}), timeout=DEADLINE_S)
    begun, ended = entries(hub, action=UPDATE)
    assert (begun.result, ended.result) == ("BEGUN", "OK")
    for entry in (begun, ended):
        assert (entry.who, entry.role, entry.source) == ("ada", "admin", "127.0.0.1")
        assert entry.subject == "id=cam-written labels=site:north"


def test_a_change_that_fails_is_written_down_with_what_the_caller_was_told(
    hub: RunningHub, stub: fleet_pb2_grpc.FleetStub
) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        stub.DeleteDevice(fleet_pb2.DeleteDeviceRequest(id="cam-missing"), timeout=DEADLINE_S)
    begun, ended = entries(hub, action=DELETE)
    assert (begun.result, ended.result, ended.detail) == ("BEGUN", "NOT_FOUND", failed.value.details())


def test_what_cannot_be_written_down_does_not_happen(
    hub: RunningHub, stub: fleet_pb2_grpc.FleetStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.device("cam-kept")

    def full(*_: object) -> None:
        raise Unavailable("the audit log cannot be written: the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(hub.services.audit, "begin", full)
        with pytest.raises(grpc.RpcError) as refused:
            stub.DeleteDevice(fleet_pb2.DeleteDeviceRequest(id="cam-kept"), timeout=DEADLINE_S)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    stub.GetDevice(fleet_pb2.GetDeviceRequest(id="cam-kept"), timeout=DEADLINE_S)


def test_a_denied_call_is_written_down_though_it_changes_nothing(hub: RunningHub) -> None:
    with hub.channel(hub.add_user("tries", Role.VIEWER)) as channel, pytest.raises(grpc.RpcError):
        fleet_pb2_grpc.FleetStub(channel).DeleteDevice(fleet_pb2.DeleteDeviceRequest(id="cam-x"), timeout=DEADLINE_S)
    (entry,) = entries(hub, who="tries")
    assert (entry.action, entry.result, entry.role) == (DELETE, "PERMISSION_DENIED", "viewer")


def test_a_revoked_certificate_is_written_down_as_whose_it_was(hub: RunningHub) -> None:
    identity = hub.add_user("was here", Role.OPERATOR)
    hub.services.users.revoke_certificates(ADMIN, "was here", "stolen")
    with hub.channel(identity) as channel, pytest.raises(grpc.RpcError):
        fleet_pb2_grpc.FleetStub(channel).ListDevices(fleet_pb2.ListDevicesRequest(), timeout=DEADLINE_S)
    (entry,) = entries(hub, who="was here")
    assert (entry.result, "revoked" in entry.detail) == ("UNAUTHENTICATED", True)


def test_a_caller_that_hangs_up_leaves_an_entry_with_an_end(
    hub: RunningHub, stub: fleet_pb2_grpc.FleetStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        began.set()
        go_on.wait(DEADLINE_S)

    monkeypatch.setattr(hub.services.fleet, "delete", slow)
    call = stub.DeleteDevice.future(fleet_pb2.DeleteDeviceRequest(id="cam-left"), timeout=DEADLINE_S)
    assert began.wait(DEADLINE_S)
    call.cancel()
    wait_for(lambda: len([one for one in entries(hub, action=DELETE) if "cam-left" in one.subject]) == 2, "the end")
    go_on.set()
    begun, ended = [one for one in entries(hub, action=DELETE) if "cam-left" in one.subject]
    assert (begun.result, ended.result) == ("BEGUN", "CANCELLED")


def test_a_stream_of_requests_is_one_change(hub: RunningHub) -> None:
    path = "/tideline.v1.Datasets/ImportSamples"
    with hub.channel(hub.user) as channel:
        call = channel.stream_unary(path, datasets_pb2.ImportSample.SerializeToString, datasets_pb2.ImportReply.FromString)
        samples = (datasets_pb2.ImportSample(dataset="none-such", content=b"x", name=f"{n}.png") for n in range(3))
        with contextlib.suppress(grpc.RpcError):
            call(samples, timeout=DEADLINE_S)
    found = entries(hub, action=path)
    assert len(found) == 2 and found[0].result == "BEGUN" and "dataset=none-such" in found[0].subject


def test_a_subject_names_things_and_no_secrets() -> None:
    secret = "s3cret-s3cret"
    requests: list[Any] = [
        enrollment_pb2.EnrollRequest(token=secret, csr_pem=make_csr()[1], board="camera-x86"),
        admin_pb2.IssueCertificateRequest(name="vi", csr_pem=secret),
        admin_pb2.CreateTokenRequest(user="vi", scope="viewer", note=secret),
        alerts_pb2.PutRuleRequest(yaml=f"password: {secret}"),
        alerts_pb2.AckAlertRequest(id="a1", comment=secret),
        datasets_pb2.ImportSample(dataset="d", content=secret.encode()),
        trust_pb2.PutRootRequest(image_root=secret.encode()),
    ]
    told = [subject_of(request) for request in requests]
    assert not [text for text in told if "s3cret" in text or "BEGIN" in text]
    assert told[:3] == ["board=camera-x86", "name=vi", "user=vi scope=viewer"]
    assert told[3].startswith("yaml=sha256:") and told[6].startswith("image_root=sha256:")


def test_a_subject_is_short_whatever_the_request_holds() -> None:
    many = fleet_pb2.UpdateDeviceRequest(id="cam", labels={f"key{n}": "v" * 500 for n in range(500)})
    assert len(subject_of(many)) <= 480
    chosen = rollouts_pb2.CreateRolloutRequest(model="m", version=2, selector=fleet_pb2.Selector(match={"site": "north"}))
    assert subject_of(chosen) == "model=m version=2 selector=site:north"
