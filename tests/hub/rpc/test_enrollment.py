"""A device's way in: ticket, CSR, certificate, first call."""

from collections.abc import Iterator

import grpc
import pytest

from protos.v1 import artifacts_pb2, artifacts_pb2_grpc, enrollment_pb2, enrollment_pb2_grpc, fleet_pb2, fleet_pb2_grpc
from tests.hub.rpc.running import RunningHub, make_csr


@pytest.fixture
def fleet(hub: RunningHub) -> Iterator[fleet_pb2_grpc.FleetStub]:
    with hub.channel(hub.user) as channel:
        yield fleet_pb2_grpc.FleetStub(channel)


@pytest.fixture
def enrollment(hub: RunningHub) -> Iterator[enrollment_pb2_grpc.EnrollmentStub]:
    with hub.enroll_channel() as channel:
        yield enrollment_pb2_grpc.EnrollmentStub(channel)


def created(fleet: fleet_pb2_grpc.FleetStub, name: str) -> fleet_pb2.CreateDeviceReply:
    return fleet.CreateDevice(fleet_pb2.CreateDeviceRequest(id=name, board="camera-x86", labels={"site": "north"}))


def test_a_token_and_a_csr_become_an_identity_that_works(
    hub: RunningHub, fleet: fleet_pb2_grpc.FleetStub, enrollment: enrollment_pb2_grpc.EnrollmentStub
) -> None:
    ticket = created(fleet, "cam-enroll")
    assert ticket.enroll_address == hub.enroll_address
    assert ticket.ca_pem == hub.authority.ca_pem
    assert not ticket.device.enrolled

    key, csr = make_csr("root")  # whatever a CSR calls itself
    reply = enrollment.Enroll(enrollment_pb2.EnrollRequest(token=ticket.token, csr_pem=csr, board="camera-x86"))
    assert (reply.device_id, reply.tenant, reply.hub_address) == ("cam-enroll", "default", hub.address)
    assert (reply.broker.host, reply.broker.port, reply.broker.protocol) == ("localhost", 8883, 5)
    assert fleet.GetDevice(fleet_pb2.GetDeviceRequest(id="cam-enroll")).enrolled

    pair = (key.encode(), reply.certificate_pem.encode())
    credentials = grpc.ssl_channel_credentials(reply.ca_pem.encode(), *pair)
    with grpc.secure_channel(reply.hub_address, credentials) as channel, pytest.raises(grpc.RpcError) as refused:
        list(artifacts_pb2_grpc.ArtifactsStub(channel).Download(artifacts_pb2.DownloadRequest(digest="sha256:" + "0" * 64)))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND  # known here, and the blob is not for it


def test_a_token_works_once_and_a_refusal_does_not_say_why(
    fleet: fleet_pb2_grpc.FleetStub, enrollment: enrollment_pb2_grpc.EnrollmentStub
) -> None:
    token = created(fleet, "cam-once").token
    request = enrollment_pb2.EnrollRequest(token=token, csr_pem=make_csr()[1], board="camera-x86")
    enrollment.Enroll(request)
    details = set()
    for attempt in (request, enrollment_pb2.EnrollRequest(token="guess", csr_pem=make_csr()[1], board="camera-x86")):
        with pytest.raises(grpc.RpcError) as refused:
            enrollment.Enroll(attempt)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        details.add(refused.value.details())
    assert len(details) == 1


def test_a_csr_that_is_none_is_told_so_and_uses_no_token_up(
    fleet: fleet_pb2_grpc.FleetStub, enrollment: enrollment_pb2_grpc.EnrollmentStub
) -> None:
    token = created(fleet, "cam-csr").token
    with pytest.raises(grpc.RpcError) as refused:
        enrollment.Enroll(enrollment_pb2.EnrollRequest(token=token, csr_pem="no csr", board="camera-x86"))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    enrollment.Enroll(enrollment_pb2.EnrollRequest(token=token, csr_pem=make_csr()[1], board="camera-x86"))


def test_a_stranger_cannot_send_much(enrollment: enrollment_pb2_grpc.EnrollmentStub) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        enrollment.Enroll(enrollment_pb2.EnrollRequest(token="t" * (1 << 20)))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_deleted_devices_certificate_is_refused_on_an_open_connection(
    hub: RunningHub, fleet: fleet_pb2_grpc.FleetStub
) -> None:
    identity = hub.device("cam-gone")
    request = artifacts_pb2.DownloadRequest(digest="sha256:" + "0" * 64)
    with hub.channel(identity) as channel:
        artifacts = artifacts_pb2_grpc.ArtifactsStub(channel)
        with pytest.raises(grpc.RpcError) as unknown_blob:
            list(artifacts.Download(request))
        assert unknown_blob.value.code() is grpc.StatusCode.NOT_FOUND
        fleet.DeleteDevice(fleet_pb2.DeleteDeviceRequest(id="cam-gone"))
        with pytest.raises(grpc.RpcError) as refused:
            list(artifacts.Download(request))
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "cam-gone" in refused.value.details()


def test_a_device_that_is_deleted_during_a_download_does_not_get_the_rest(
    hub: RunningHub, fleet: fleet_pb2_grpc.FleetStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_hub.rpc.guard._READMIT_S", -1.0)  # ask before every chunk
    identity, version = hub.device("cam-half"), hub.publish("half", artifact=bytes(32 << 20))
    hub.assign("cam-half", version)
    with hub.channel(identity) as channel:
        request = artifacts_pb2.DownloadRequest(digest=version.variants[0].artifact_digest)
        chunks = artifacts_pb2_grpc.ArtifactsStub(channel).Download(request)
        next(chunks)
        fleet.DeleteDevice(fleet_pb2.DeleteDeviceRequest(id="cam-half"))
        with pytest.raises(grpc.RpcError) as refused:
            for _ in chunks:
                pass
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
