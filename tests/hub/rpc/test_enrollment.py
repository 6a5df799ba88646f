"""A device's way in: ticket, CSR, certificate, first call."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from cloud_hub.store.certificates import certificates
from cloud_hub.trust.authority import Issued
from protos.v1 import artifacts_pb2, artifacts_pb2_grpc, enrollment_pb2, enrollment_pb2_grpc, fleet_pb2, fleet_pb2_grpc
from tests.hub.device_keys import DeviceKey, serial
from tests.hub.rpc.running import ADMIN, RunningHub, make_csr


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
    assert reply.enroll_address == hub.enroll_address
    assert (reply.broker.host, reply.broker.port, reply.broker.protocol) == ("localhost", 8883, 5)
    assert fleet.GetDevice(fleet_pb2.GetDeviceRequest(id="cam-enroll")).enrolled

    pair = (key.encode(), reply.certificate_pem.encode())
    credentials = grpc.ssl_channel_credentials(reply.ca_pem.encode(), *pair)
    with grpc.secure_channel(reply.hub_address, credentials) as channel, pytest.raises(grpc.RpcError) as refused:
        list(artifacts_pb2_grpc.ArtifactsStub(channel).Download(artifacts_pb2.DownloadRequest(digest="sha256:" + "0" * 64)))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND  # known here, and the blob is not for it


def test_a_token_works_for_one_key_and_a_refusal_does_not_say_why(
    fleet: fleet_pb2_grpc.FleetStub, enrollment: enrollment_pb2_grpc.EnrollmentStub
) -> None:
    token = created(fleet, "cam-once").token
    request = enrollment_pb2.EnrollRequest(token=token, csr_pem=make_csr()[1], board="camera-x86")
    first = enrollment.Enroll(request)
    assert enrollment.Enroll(request) == first  # the answer may have been lost
    details = set()
    for secret in (token, "guess"):
        attempt = enrollment_pb2.EnrollRequest(token=secret, csr_pem=make_csr()[1], board="camera-x86")
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
    assert "revoked" in str(refused.value.details())


def test_a_device_that_is_deleted_during_a_download_does_not_get_the_rest(
    hub: RunningHub, fleet: fleet_pb2_grpc.FleetStub
) -> None:
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


def test_of_a_hundred_that_use_one_token_at_once_over_the_network_one_gets_a_certificate(tmp_path: Path) -> None:
    hub = RunningHub(tmp_path)  # its own: so many refusals close the port to this address for a while
    channels = [hub.enroll_channel() for _ in range(4)]
    try:
        _, token = hub.services.enrollment.create_device(ADMIN, "cam-race", "camera-x86", {})
        requests = [enrollment_pb2.EnrollRequest(token=token, csr_pem=make_csr()[1], board="camera-x86") for _ in range(100)]
        enroll = [channel.unary_unary(ENROLL, _sent, enrollment_pb2.EnrollReply.FromString) for channel in channels]
        calls = [enroll[number % 4].future(request, timeout=60) for number, request in enumerate(requests)]
        outcomes = [_outcome(call) for call in calls]
        with hub.db.read() as tx:
            rows = tx.execute(certificates.select()).all()
    finally:
        for channel in channels:
            channel.close()
        hub.close()
    won = [found for found in outcomes if isinstance(found, str)]
    assert [row.serial for row in rows if row.role == "device"] == [serial(pem) for pem in won]
    refused = [found for found in outcomes if isinstance(found, grpc.StatusCode)]
    assert (len(won), len(refused)) == (1, 99)
    assert set(refused) <= {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert refused.count(grpc.StatusCode.PERMISSION_DENIED) >= 10, "few came far enough to race"


ENROLL = "/tideline.v1.Enrollment/Enroll"


def _sent(request: enrollment_pb2.EnrollRequest) -> bytes:
    return request.SerializeToString()


def _outcome(call: Any) -> str | grpc.StatusCode:
    try:
        return str(call.result().certificate_pem)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code


def artifacts_answer(hub: RunningHub, key: DeviceKey, pem: str) -> grpc.StatusCode:
    """What a device with this certificate is told: NOT_FOUND where it is let in, for the blob is none."""
    request = artifacts_pb2.DownloadRequest(digest="sha256:" + "0" * 64)
    with hub.channel(Issued(certificate_pem=pem, key_pem=key.pem)) as channel, pytest.raises(grpc.RpcError) as refused:
        list(artifacts_pb2_grpc.ArtifactsStub(channel).Download(request, timeout=10))
    code: grpc.StatusCode = refused.value.code()
    return code


def enrolled(
    fleet: fleet_pb2_grpc.FleetStub, enrollment: enrollment_pb2_grpc.EnrollmentStub, name: str
) -> tuple[DeviceKey, str]:
    key = DeviceKey()
    request = enrollment_pb2.EnrollRequest(token=created(fleet, name).token, csr_pem=key.csr, board="camera-x86")
    return key, enrollment.Enroll(request).certificate_pem


def renewal(key: DeviceKey, pem: str, following: DeviceKey) -> enrollment_pb2.RenewRequest:
    return enrollment_pb2.RenewRequest(certificate_pem=pem, csr_pem=following.csr, signature=key.vouch(following))


def test_a_renewed_certificate_works_beside_the_old_one_until_it_is_used(
    hub: RunningHub, fleet: fleet_pb2_grpc.FleetStub, enrollment: enrollment_pb2_grpc.EnrollmentStub
) -> None:
    key, pem = enrolled(fleet, enrollment, "cam-renew")
    following = DeviceKey()
    reply = enrollment.Renew(renewal(key, pem, following))
    assert reply.ca_pem == hub.authority.ca_pem
    assert artifacts_answer(hub, key, pem) is grpc.StatusCode.NOT_FOUND
    assert artifacts_answer(hub, following, reply.certificate_pem) is grpc.StatusCode.NOT_FOUND
    hub.services.access.write_uses()  # as the server does every half minute
    assert artifacts_answer(hub, key, pem) is grpc.StatusCode.UNAUTHENTICATED
    assert artifacts_answer(hub, following, reply.certificate_pem) is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as refused:
        enrollment.Renew(renewal(key, pem, DeviceKey()))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_revoked_device_is_cut_off_and_comes_back_with_a_new_token(
    hub: RunningHub, fleet: fleet_pb2_grpc.FleetStub, enrollment: enrollment_pb2_grpc.EnrollmentStub
) -> None:
    key, pem = enrolled(fleet, enrollment, "cam-revoked")
    assert artifacts_answer(hub, key, pem) is grpc.StatusCode.NOT_FOUND
    device = fleet.RevokeDevice(fleet_pb2.RevokeDeviceRequest(id="cam-revoked", reason="stolen"))
    assert device.credential.revoked_at_ms > 0 and device.credential.reason == "ada: stolen"
    assert artifacts_answer(hub, key, pem) is grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.RpcError) as refused:
        enrollment.Renew(renewal(key, pem, DeviceKey()))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    ticket = fleet.EnrollDevice(fleet_pb2.EnrollDeviceRequest(id="cam-revoked", token_ttl_s=60))
    fresh = DeviceKey()
    request = enrollment_pb2.EnrollRequest(token=ticket.token, csr_pem=fresh.csr, board="camera-x86")
    assert artifacts_answer(hub, fresh, enrollment.Enroll(request).certificate_pem) is grpc.StatusCode.NOT_FOUND


def test_a_key_waits_until_an_admin_approved_it(
    fleet: fleet_pb2_grpc.FleetStub, enrollment: enrollment_pb2_grpc.EnrollmentStub
) -> None:
    create = fleet_pb2.CreateDeviceRequest(id="cam-approve", board="camera-x86", needs_approval=True)
    key = DeviceKey()
    request = enrollment_pb2.EnrollRequest(token=fleet.CreateDevice(create).token, csr_pem=key.csr, board="camera-x86")
    with pytest.raises(grpc.RpcError) as refused:
        enrollment.Enroll(request)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION and key.fingerprint in str(refused.value.details())
    assert fleet.GetDevice(fleet_pb2.GetDeviceRequest(id="cam-approve")).pending_fingerprint == key.fingerprint
    fleet.ApproveDevice(fleet_pb2.ApproveDeviceRequest(id="cam-approve", fingerprint=key.fingerprint))
    assert enrollment.Enroll(request).device_id == "cam-approve"


def test_a_device_is_asked_to_renew_through_its_desired_twin(
    fleet: fleet_pb2_grpc.FleetStub, enrollment: enrollment_pb2_grpc.EnrollmentStub
) -> None:
    enrolled(fleet, enrollment, "cam-rotate")
    before = fleet.GetDevice(fleet_pb2.GetDeviceRequest(id="cam-rotate"))
    asked = fleet.RotateDevice(fleet_pb2.RotateDeviceRequest(id="cam-rotate"))
    assert asked.desired.renew_before_ms >= before.credential.issued_at_ms > 0
    assert asked.desired.generation == before.desired.generation + 1


def test_a_ticket_holds_the_roots_that_a_device_begins_to_trust_with(hub: RunningHub, fleet: fleet_pb2_grpc.FleetStub) -> None:
    ticket = created(fleet, "cam-roots")
    assert (ticket.image_root, ticket.director_root) == hub.services.trust.roots()


@pytest.mark.parametrize("field", ["certificate_pem", "csr_pem", "signature"])
def test_a_renewal_that_is_not_one_is_refused_and_nothing_worse(
    fleet: fleet_pb2_grpc.FleetStub, enrollment: enrollment_pb2_grpc.EnrollmentStub, field: str
) -> None:
    key, pem = enrolled(fleet, enrollment, f"cam-bad-{field.replace('_', '-')}")
    request = renewal(key, pem, DeviceKey())
    bad = enrollment_pb2.RenewRequest()
    bad.CopyFrom(request)
    setattr(bad, field, b"bad" if field == "signature" else "bad")
    with pytest.raises(grpc.RpcError) as refused:
        enrollment.Renew(bad)
    assert refused.value.code() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT)
    enrollment.Renew(request)
