"""Certificates that replace themselves, and what ends them."""

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import firmware_images
from cloud_hub.core.config import HubConfig
from cloud_hub.core.errors import Denied, Exhausted, Invalid, NotReady
from cloud_hub.services.enrollment import EnrollmentService
from cloud_hub.services.fleet import FleetService
from cloud_hub.services.issuance import RENEWALS_A_DAY
from cloud_hub.store import certificates, fleet
from cloud_hub.trust.authority import Authority
from protos.contract import ids
from protos.contract.update import UpdateState
from tests.hub.device_keys import DeviceKey, leaf, serial, show
from tests.hub.fleet_parts import ADMIN, BOARD, Hub
from tests.hub.trust.test_csr import csr_pem

CAM = ids.device_id("cam-1")
DAY_S = 86_400


class Enrolled:
    """A device that holds a key and a certificate."""

    def __init__(self, hub: Hub, id: str = "cam-1") -> None:
        self.id = ids.device_id(id)
        self._hub = hub
        _, token = hub.enrollment.create_device(ADMIN, id, BOARD, {})
        self.key = DeviceKey()
        self.pem = hub.enrollment.enroll(token, self.key.csr, BOARD).certificate_pem

    def renew(self, key: DeviceKey | None = None) -> str:
        following = key or DeviceKey()
        return self._hub.enrollment.renew(self.pem, following.csr, self.key.vouch(following)).certificate_pem

    def take(self, pem: str, key: DeviceKey) -> None:
        self.pem, self.key = pem, key


@pytest.fixture
def hub(tmp_path: Path, database_url: str) -> Iterator[Hub]:
    hub = Hub(tmp_path, database_url=database_url)
    yield hub
    hub.db.close()


@pytest.fixture
def camera(hub: Hub) -> Enrolled:
    return Enrolled(hub)


def good(hub: Hub, *pems: str) -> list[bool]:
    with hub.db.read() as tx:
        found = [certificates.find(tx, serial(pem)) for pem in pems]
    return [one is not None and one.revoked_at is None for one in found]


def reason(hub: Hub, pem: str) -> str:
    with hub.db.read() as tx:
        found = certificates.find(tx, serial(pem))
    assert found is not None
    return found.reason


def test_a_certificate_is_renewed_with_a_new_key_under_the_same_names(hub: Hub, camera: Enrolled) -> None:
    hub.clock.advance(60 * DAY_S)
    following = DeviceKey("tl:hub")
    pem = camera.renew(following)
    assert leaf(pem).subject.rfc4514_string() == "CN=cam-1,OU=device,O=default"
    assert leaf(pem).public_key() == following.key.public_key() and serial(pem) != serial(camera.pem)
    assert leaf(pem).not_valid_after_utc == hub.clock.now() + timedelta(days=90)
    assert pem.endswith(hub.authority.chain)
    credential = hub.fleet.get(ADMIN, CAM).credential
    assert credential is not None and credential.serial == serial(pem)


def test_the_older_certificate_is_good_until_the_new_one_is_shown(hub: Hub, camera: Enrolled) -> None:
    hub.clock.advance(60)
    show(hub.db, hub.clock, camera.pem)
    lost = camera.renew()  # the answer never came
    hub.clock.advance(60)
    assert show(hub.db, hub.clock, camera.pem) == 0
    assert good(hub, camera.pem, lost) == [True, True]
    hub.clock.advance(60)
    new = camera.renew()
    assert show(hub.db, hub.clock, new) == 1, "whoever is connected with the old one is looked at again"
    assert good(hub, camera.pem, lost, new) == [False, False, True]
    assert reason(hub, camera.pem) == "superseded"
    assert show(hub.db, hub.clock, new) == 0
    with pytest.raises(Denied):  # an old key is of no use to whoever finds it
        camera.renew()


def test_what_one_device_shows_supersedes_nothing_of_another(hub: Hub, camera: Enrolled) -> None:
    other = Enrolled(hub, "cam-2")
    hub.clock.advance(60)
    new = camera.renew()
    show(hub.db, hub.clock, new, other.pem)
    assert good(hub, camera.pem, new, other.pem) == [False, True, True]


def test_a_device_that_lost_the_answer_gets_the_same_one_again(hub: Hub, camera: Enrolled) -> None:
    hub.clock.advance(60)
    following = DeviceKey()
    first = camera.renew(following)
    hub.clock.advance(60)
    assert camera.renew(following) == first
    show(hub.db, hub.clock, first)
    camera.take(first, following)
    hub.clock.advance(60)
    assert camera.renew(following) != first


def test_a_device_that_keeps_its_key_gets_a_new_certificate_all_the_same(hub: Hub, camera: Enrolled) -> None:
    hub.clock.advance(60 * DAY_S)
    pem = camera.renew(camera.key)  # a key in hardware may not change, and this one never called the hub
    assert serial(pem) != serial(camera.pem) and leaf(pem).not_valid_after_utc == hub.clock.now() + timedelta(days=90)


def test_a_device_that_is_not_registered_any_more_is_not_renewed(hub: Hub, camera: Enrolled) -> None:
    with hub.db.write() as tx:
        fleet.remove(tx, CAM)  # whatever became of its certificates
    assert good(hub, camera.pem) == [True]
    with pytest.raises(Denied):
        camera.renew()


def test_of_many_at_once_with_one_key_all_get_the_same_certificate(hub: Hub, camera: Enrolled) -> None:
    hub.clock.advance(60)
    following, answers = DeviceKey(), []
    threads = [threading.Thread(target=lambda: answers.append(camera.renew(following))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 20 and len(set(answers)) == 1


@pytest.mark.parametrize("days", [91, 90 + 729])
def test_a_device_that_was_off_for_long_comes_back(hub: Hub, camera: Enrolled, days: int) -> None:
    hub.clock.advance(days * DAY_S)
    hub.enrollment.tidy()
    assert leaf(camera.renew()).not_valid_after_utc > hub.clock.now()


def test_one_that_was_off_for_longer_than_the_grace_does_not(hub: Hub, camera: Enrolled) -> None:
    hub.clock.advance((90 + 730) * DAY_S)
    with pytest.raises(Denied, match="enrol the device again"):
        camera.renew()


@pytest.mark.parametrize("end", ["revoked", "deleted", "made again", "enrolled anew"])
def test_what_was_ended_is_never_renewed(hub: Hub, camera: Enrolled, end: str) -> None:
    hub.clock.advance(60)
    waiting = camera.renew()  # an answer on its way is void with the rest
    if end == "revoked":
        hub.enrollment.revoke(ADMIN, CAM, "stolen")
    elif end == "enrolled anew":
        hub.enrollment.enroll(hub.enrollment.enroll_device(ADMIN, CAM)[1], DeviceKey().csr, BOARD)
    else:
        hub.fleet.delete(ADMIN, CAM)
        if end == "made again":
            hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    assert good(hub, camera.pem, waiting) == [False, False]
    with pytest.raises(Denied):
        camera.renew()


def test_nobody_renews_without_the_key_of_the_certificate(hub: Hub, camera: Enrolled) -> None:
    other, following, thief = Enrolled(hub, "cam-2"), DeviceKey(), DeviceKey()
    renew = hub.enrollment.renew
    asked = {
        "another's signature": (camera.pem, following.csr, other.key.vouch(following)),
        "another's certificate": (other.pem, following.csr, camera.key.vouch(following)),
        "signed by the new key": (camera.pem, following.csr, following.vouch(following)),
        "over another CSR": (camera.pem, thief.csr, camera.key.vouch(following)),
        "for another purpose": (camera.pem, following.csr, camera.key.vouch(following, context=b"")),
        "no signature": (camera.pem, following.csr, b""),
        "garbage": (camera.pem, following.csr, b"\x30\x06\x02\x01\x00\x02\x01\x00"),
        "a long one": (camera.pem, following.csr, bytes(100_000)),
        "no certificate": ("", following.csr, camera.key.vouch(following)),
        "a huge one": (camera.pem + "x" * 100_000, following.csr, camera.key.vouch(following)),
        "the authority's": (hub.authority.ca_pem, following.csr, camera.key.vouch(following)),
    }
    messages = set()
    for what, request in asked.items():
        with pytest.raises(Denied) as refused:
            renew(*request)
        messages.add(str(refused.value))
        assert good(hub, camera.pem) == [True], what
    assert len(messages) == 1


def test_a_certificate_that_this_hub_has_no_record_of_is_not_renewed(hub: Hub, camera: Enrolled, tmp_path: Path) -> None:
    key, following = DeviceKey(), DeviceKey()
    foreign = Authority.create(tmp_path / "foreign", clock=hub.clock)
    for authority in (foreign, hub.authority):  # the second one is validly signed, and was never given out
        pem = authority.sign_device(key.csr, tenant=ADMIN.tenant, device_id=CAM, days=90)
        with pytest.raises(Denied):
            hub.enrollment.renew(pem, following.csr, key.vouch(following))


def test_a_users_certificate_is_not_renewed_here(hub: Hub, camera: Enrolled) -> None:
    key, following = DeviceKey(), DeviceKey()
    pem = hub.authority.sign_user_csr(key.csr, camera.id)  # a user may be named like a device
    now = hub.clock.now()
    with hub.db.write() as tx:
        row = certificates.Certificate(
            serial=serial(pem),
            tenant=ADMIN.tenant,
            role=certificates.USER,
            subject=camera.id,
            key_digest=key.fingerprint,
            issued_at=now,
            expires_at=now + timedelta(days=1),
        )
        certificates.add(tx, row)
    with pytest.raises(Denied):
        hub.enrollment.renew(pem, following.csr, key.vouch(following))


def test_a_serial_of_ours_on_another_key_is_not_renewed(hub: Hub, camera: Enrolled) -> None:
    """As the holder of a stolen issuing key would make it."""
    key, following = DeviceKey(), DeviceKey()
    forged = _with_serial(hub.authority, key, leaf(camera.pem).serial_number)
    assert serial(forged) == serial(camera.pem)
    with pytest.raises(Denied):
        hub.enrollment.renew(forged, following.csr, key.vouch(following))


def _with_serial(authority: Authority, key: DeviceKey, number: int) -> str:
    real = leaf(authority.sign_device(key.csr, tenant=ADMIN.tenant, device_id=CAM, days=1))
    return (
        x509.CertificateBuilder()
        .subject_name(real.subject)
        .issuer_name(real.issuer)
        .public_key(key.key.public_key())
        .serial_number(number)
        .not_valid_before(real.not_valid_before_utc)
        .not_valid_after(real.not_valid_after_utc)
        .sign(key.key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


def test_a_csr_that_cannot_be_used_renews_nothing(hub: Hub, camera: Enrolled) -> None:
    for csr in (
        "",
        "x" * 100_000,
        csr_pem(ec.generate_private_key(ec.SECP384R1())),
        csr_pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
    ):
        with pytest.raises(Invalid, match="CSR"):
            hub.enrollment.renew(camera.pem, csr, b"signature")


def test_a_device_that_asks_without_end_is_given_a_bounded_number(hub: Hub, camera: Enrolled) -> None:
    for _ in range(RENEWALS_A_DAY - 1):  # the enrolment was one
        hub.clock.advance(1)
        camera.renew()
    with pytest.raises(Exhausted, match="later"):
        camera.renew()
    Enrolled(hub, "cam-2").renew()  # the others are not held up
    hub.clock.advance(DAY_S)
    camera.renew()


# -- revocation and rotation ----------------------------------------------------------------------------------------------


def test_a_revoked_device_has_no_good_certificate_and_no_token_and_stays(hub: Hub, camera: Enrolled) -> None:
    hub.clock.advance(60)
    second = camera.renew()
    _, token = hub.enrollment.enroll_device(ADMIN, CAM)
    device = hub.enrollment.revoke(ADMIN, CAM, "stolen from the pole")
    assert good(hub, camera.pem, second) == [False, False]
    with pytest.raises(Denied):
        hub.enrollment.enroll(token, DeviceKey().csr, BOARD)
    assert device.credential is not None
    assert (device.credential.revoked_at, device.credential.reason) == (hub.clock.now(), "ada: stolen from the pole")
    assert hub.fleet.get(ADMIN, CAM) == device
    with pytest.raises(Invalid, match="reason"):
        hub.enrollment.revoke(ADMIN, CAM, "x" * 1000)


def test_a_key_that_was_revoked_is_not_certified_again_with_a_new_token(hub: Hub, camera: Enrolled) -> None:
    hub.enrollment.revoke(ADMIN, CAM)
    _, token = hub.enrollment.enroll_device(ADMIN, CAM)
    with pytest.raises(Denied):
        hub.enrollment.enroll(token, camera.key.csr, BOARD)
    fresh = DeviceKey()
    pem = hub.enrollment.enroll(token, fresh.csr, BOARD).certificate_pem
    with pytest.raises(Denied):  # nor by renewing into it
        hub.enrollment.renew(pem, camera.key.csr, fresh.vouch(camera.key))


def test_a_key_that_was_merely_replaced_may_come_back(hub: Hub, camera: Enrolled) -> None:
    for _ in range(3):
        hub.clock.advance(60)
        hub.enrollment.enroll(hub.enrollment.enroll_device(ADMIN, CAM)[1], camera.key.csr, BOARD)


def test_others_are_told_after_the_change_can_be_read(tmp_path: Path) -> None:
    hub = Hub(tmp_path)
    seen: list[datetime | None] = []

    def look() -> None:
        credential = hub.fleet.get(ADMIN, CAM).credential
        seen.append(credential.revoked_at if credential else None)

    hub.enrollment = EnrollmentService(hub.db, hub.authority, hub.clock, HubConfig(), on_revoked=look)
    Enrolled(hub)
    assert seen == [], "a first certificate makes none void"
    hub.enrollment.revoke(ADMIN, CAM)
    assert seen == [hub.clock.now()]
    deleted: list[None] = []
    FleetService(hub.db, hub.clock, on_revoked=lambda: deleted.append(None)).delete(ADMIN, CAM)
    assert len(deleted) == 1
    hub.db.close()


def test_every_revocation_changes_the_mark_by_which_others_see_it(hub: Hub, camera: Enrolled) -> None:
    marks = []
    for _ in range(4):
        hub.clock.advance(0.001)
        hub.enrollment.revoke(ADMIN, CAM)
        with hub.db.read() as tx:
            marks.append(certificates.revocations(tx))
        hub.enrollment.enroll(hub.enrollment.enroll_device(ADMIN, CAM)[1], DeviceKey().csr, BOARD)
    assert len(set(marks)) == 4
    hub.clock.advance(121 * DAY_S)
    hub.enrollment.tidy()
    hub.enrollment.revoke(ADMIN, CAM)
    with hub.db.read() as tx:
        assert certificates.revocations(tx) not in marks


def test_a_revocation_list_holds_what_is_void_until_it_expires(hub: Hub, camera: Enrolled) -> None:
    hub.enrollment.revoke(ADMIN, CAM)
    for days, listed in ((0, [serial(camera.pem)]), (89, [serial(camera.pem)]), (91, [])):
        with hub.db.read() as tx:
            now = hub.clock.now() + timedelta(days=days)
            assert [one.serial for one in certificates.revoked(tx, now)] == listed


def test_rotation_asks_the_device_in_a_new_generation_that_keeps_what_it_runs(hub: Hub) -> None:
    device = hub.device("cam-1")
    with pytest.raises(NotReady, match="device enroll"):
        hub.enrollment.rotate(ADMIN, CAM)
    hub.enrollment.enroll(device.token, DeviceKey().csr, BOARD)
    version = hub.publish()
    _, assignment = hub.registry.assignment(version, firmware_images.board(BOARD), ())
    with hub.db.write() as tx:
        before = hub.fleet.set_desired(tx, CAM, assignment, "r1")
    hub.clock.advance(60)
    asked = hub.enrollment.rotate(ADMIN, CAM).desired
    assert (asked.generation, asked.model, asked.rollout_id) == (before.generation + 1, assignment, "r1")
    assert asked.renew_before == hub.clock.now()
    assert hub.fleet.undelivered() == [(ADMIN.tenant, CAM, asked)]
    with hub.db.write() as tx:  # it is asked until it has done it, whatever else it is asked
        assert hub.fleet.set_desired(tx, CAM, None).renew_before == asked.renew_before


def test_rotation_does_not_make_a_device_try_again_what_it_gave_up(hub: Hub) -> None:
    device = hub.device("cam-1")
    hub.enrollment.enroll(device.token, DeviceKey().csr, BOARD)
    _, assignment = hub.registry.assignment(hub.publish(), firmware_images.board(BOARD), ())
    with hub.db.write() as tx:
        hub.fleet.set_desired(tx, CAM, assignment)
    device.report(UpdateState.FAILED)
    assert hub.enrollment.rotate(ADMIN, CAM).desired.model is None


def test_a_revoked_device_cannot_be_asked_to_renew(hub: Hub, camera: Enrolled) -> None:
    hub.enrollment.revoke(ADMIN, CAM)
    with pytest.raises(NotReady):
        hub.enrollment.rotate(ADMIN, CAM)
