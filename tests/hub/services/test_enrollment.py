"""Tokens: what they are bound to, and that each gives one certificate."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from cloud_hub.core.errors import Conflict, Denied, HubError, Invalid, NotFound, NotReady
from cloud_hub.core.pages import FIRST
from cloud_hub.services import redemption
from cloud_hub.services.issuance import Issuer
from cloud_hub.store.certificates import certificates
from cloud_hub.store.schema import metadata
from protos.contract import ids
from protos.contract.ids import Digest
from tests.hub.device_keys import DeviceKey, leaf, serial, show
from tests.hub.fleet_parts import ADMIN, BOARD, STRANGER, Hub

CAM = ids.device_id("cam-1")


@pytest.fixture
def hub(tmp_path: Path, database_url: str) -> Iterator[Hub]:
    hub = Hub(tmp_path, database_url=database_url)
    yield hub
    hub.db.close()


def csr(common_name: str = "whatever") -> str:
    return DeviceKey(common_name).csr


def good(hub: Hub, id: str = "cam-1") -> list[str]:
    """Serials of a device's certificates that nobody revoked."""
    c = certificates.c
    with hub.db.read() as tx:
        return list(tx.execute(select(c.serial).where(c.subject == id, c.revoked_at.is_(None))).scalars())


def test_a_token_and_a_csr_give_a_certificate_with_the_tokens_names(hub: Hub) -> None:
    _, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    enrolled = hub.enrollment.enroll(token, csr("tl:hub"), BOARD)
    assert (enrolled.device_id, enrolled.tenant, enrolled.ca_pem) == ("cam-1", "default", hub.authority.ca_pem)
    assert leaf(enrolled.certificate_pem).subject.rfc4514_string() == "CN=cam-1,OU=device,O=default"
    assert enrolled.certificate_pem.endswith(hub.authority.chain)
    assert hub.fleet.get(ADMIN, enrolled.device_id).enrolled


def test_the_device_tells_of_its_newest_certificate(hub: Hub) -> None:
    device, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    assert hub.fleet.get(ADMIN, device.id).credential is None
    pem = hub.enrollment.enroll(token, csr(), BOARD).certificate_pem
    credential = hub.fleet.get(ADMIN, device.id).credential
    assert credential is not None
    assert (credential.serial, credential.issued_at) == (serial(pem), hub.clock.now())
    assert credential.expires_at == leaf(pem).not_valid_after_utc and credential.revoked_at is None
    (listed,), _ = hub.fleet.list(ADMIN, {}, FIRST)
    assert listed.credential == credential


def test_a_token_works_for_one_key(hub: Hub) -> None:
    _, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    hub.enrollment.enroll(token, csr(), BOARD)
    with pytest.raises(Denied):
        hub.enrollment.enroll(token, csr(), BOARD)


def test_of_a_hundred_that_use_one_token_at_once_one_wins(hub: Hub) -> None:
    _, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    keys = [DeviceKey() for _ in range(100)]
    results: list[str] = []
    at_once = threading.Barrier(len(keys))

    def enroll(key: DeviceKey) -> None:
        at_once.wait(30)
        try:
            results.append(hub.enrollment.enroll(token, key.csr, BOARD).certificate_pem)
        except Denied:
            results.append("denied")

    threads = [threading.Thread(target=enroll, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    won = [result for result in results if result != "denied"]
    assert (len(results), len(won)) == (100, 1)
    assert good(hub) == [serial(won[0])]
    with hub.db.read() as tx:
        assert tx.execute(select(func.count()).select_from(certificates)).scalar_one() == 1


def test_a_device_that_lost_the_answer_gets_the_same_one_again(hub: Hub) -> None:
    _, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {}, 60)
    key = DeviceKey()
    first = hub.enrollment.enroll(token, key.csr, BOARD)
    again = hub.enrollment.enroll(token, DeviceKey("another name", key.key).csr, BOARD)
    assert again == first and good(hub) == [serial(first.certificate_pem)]
    hub.clock.advance(60)
    with pytest.raises(Denied):  # the token's life is over for it too
        hub.enrollment.enroll(token, key.csr, BOARD)


@pytest.mark.parametrize("end", ["shown", "revoked", "deleted"])
def test_an_answer_is_given_again_until_it_arrived_or_is_void(hub: Hub, end: str) -> None:
    device, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    key = DeviceKey()
    answer = hub.enrollment.enroll(token, key.csr, BOARD)
    if end == "shown":
        show(hub.db, hub.clock, answer.certificate_pem)
    elif end == "revoked":
        hub.enrollment.revoke(ADMIN, device.id)
    else:
        hub.fleet.delete(ADMIN, device.id)
    with pytest.raises(Denied):
        hub.enrollment.enroll(token, key.csr, BOARD)


def test_unknown_used_expired_deleted_and_foreign_tokens_are_refused_in_the_same_words(hub: Hub) -> None:
    _, used = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    hub.enrollment.enroll(used, csr(), BOARD)
    _, expired = hub.enrollment.create_device(ADMIN, "cam-2", BOARD, {}, 60)
    gone, deleted = hub.enrollment.create_device(ADMIN, "cam-3", BOARD, {})
    hub.fleet.delete(ADMIN, gone.id)
    revoked, void = hub.enrollment.create_device(ADMIN, "cam-4", BOARD, {})
    hub.enrollment.revoke(ADMIN, revoked.id)
    _, foreign = hub.enrollment.create_device(ADMIN, "cam-5", "vehicle-arm64", {})
    older, replaced = hub.enrollment.create_device(ADMIN, "cam-6", BOARD, {})
    hub.enrollment.enroll_device(ADMIN, older.id)
    hub.clock.advance(60)
    messages = set()
    for token in ("", "guess", "\ud800", used, expired, deleted, void, foreign, replaced):
        with pytest.raises(Denied) as refused:
            hub.enrollment.enroll(token, csr(), BOARD)
        messages.add(str(refused.value))
    assert len(messages) == 1


@pytest.mark.parametrize("board", ["", "vehicle-arm64", "x" * 10_000])
def test_a_refusal_uses_nothing_up(hub: Hub, board: str) -> None:
    _, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    with pytest.raises(Denied) as refused:
        hub.enrollment.enroll(token, csr(), board)
    assert len(str(refused.value)) < 300 and BOARD not in str(refused.value)
    with pytest.raises(Invalid, match="CSR"):
        hub.enrollment.enroll(token, "not a csr", BOARD)
    hub.enrollment.enroll(token, csr(), BOARD)


def test_the_database_never_holds_a_token(hub: Hub) -> None:
    _, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    hub.enrollment.enroll(token, csr(), BOARD)
    with hub.db.read() as tx:
        tables = {table.name: tx.execute(table.select()).all() for table in metadata.sorted_tables}
    assert len(tables["enrollment_tokens"]) == 1
    assert token not in str(tables) and "PRIVATE" not in str(tables)


def test_an_id_is_taken_for_every_tenant(hub: Hub) -> None:
    hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    for who in (ADMIN, STRANGER):
        with pytest.raises(Conflict, match="cam-1"):
            hub.enrollment.create_device(who, "cam-1", BOARD, {})


@pytest.mark.parametrize(
    ("id", "board", "labels", "ttl_s", "named"),
    [
        ("Cam 1", BOARD, {}, None, "device id"),
        ("cam-1", "toaster", {}, None, "camera-x86"),
        ("cam-1", BOARD, {"model": "x"}, None, "model"),
        ("cam-1", BOARD, {}, -1, "token"),
        ("cam-1", BOARD, {}, 10**9, "token"),
    ],
)
def test_a_device_that_cannot_be_made_is_refused_by_name(
    hub: Hub, id: str, board: str, labels: dict[str, str], ttl_s: int | None, named: str
) -> None:
    with pytest.raises(Invalid, match=named):
        hub.enrollment.create_device(ADMIN, id, board, labels, ttl_s)


def test_secrets_do_not_show_in_a_repr_or_a_log(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    _, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    enrolled = hub.enrollment.enroll(token, csr(), BOARD)
    with pytest.raises(HubError):
        hub.enrollment.enroll(token, csr(), BOARD)
    assert "BEGIN" not in repr(enrolled)
    assert token not in caplog.text and token not in "".join(str(record.__dict__) for record in caplog.records)


def test_a_stranger_is_refused_without_waiting_for_whoever_writes(hub: Hub) -> None:
    _, used = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    hub.enrollment.enroll(used, csr(), BOARD)
    _, waits = hub.enrollment.create_device(ADMIN, "cam-2", BOARD, {}, needs_approval=True)
    key = DeviceKey()
    with pytest.raises(NotReady):
        hub.enrollment.enroll(waits, key.csr, BOARD)
    with hub.db.write():
        for token in ("guess", used):
            with pytest.raises(Denied):
                hub.enrollment.enroll(token, csr(), BOARD)
        with pytest.raises(NotReady):
            hub.enrollment.enroll(waits, key.csr, BOARD)


# -- a device that is registered already ----------------------------------------------------------------------------------


def test_what_a_device_has_is_good_until_its_new_token_is_used(hub: Hub) -> None:
    device, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    first = serial(hub.enrollment.enroll(token, csr(), BOARD).certificate_pem)
    _, token = hub.enrollment.enroll_device(ADMIN, device.id)
    assert good(hub) == [first]
    second = serial(hub.enrollment.enroll(token, csr(), BOARD).certificate_pem)
    assert good(hub) == [second]


def test_of_two_tokens_of_a_device_the_newer_one_works(hub: Hub) -> None:
    device, first = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    _, second = hub.enrollment.enroll_device(ADMIN, device.id, 120)
    with pytest.raises(Denied):
        hub.enrollment.enroll(first, csr(), BOARD)
    hub.enrollment.enroll(second, csr(), BOARD)


def test_a_device_that_is_made_again_shows_nothing_of_the_one_before(hub: Hub) -> None:
    device, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    hub.enrollment.enroll(token, csr(), BOARD)
    hub.fleet.delete(ADMIN, device.id)
    assert good(hub) == []
    hub.clock.advance(1)
    hub.enrollment.create_device(STRANGER, "cam-1", BOARD, {})
    assert hub.fleet.get(STRANGER, device.id).credential is None


# -- approval -------------------------------------------------------------------------------------------------------------


def test_a_token_that_needs_approval_gives_a_certificate_to_the_approved_key_alone(hub: Hub) -> None:
    device, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {}, needs_approval=True)
    key = DeviceKey()
    with pytest.raises(NotReady, match=key.fingerprint):
        hub.enrollment.enroll(token, key.csr, BOARD)
    assert hub.fleet.get(ADMIN, device.id).pending_fingerprint == key.fingerprint
    assert good(hub) == []
    with pytest.raises(Denied):  # whoever else has the token
        hub.enrollment.enroll(token, csr(), BOARD)
    approved = hub.enrollment.approve(ADMIN, device.id, f" {key.fingerprint.upper()} ")
    assert approved.pending_fingerprint == ""
    with pytest.raises(Denied):
        hub.enrollment.enroll(token, csr(), BOARD)
    enrolled = hub.enrollment.enroll(token, key.csr, BOARD)
    assert good(hub) == [serial(enrolled.certificate_pem)]


def test_of_keys_that_come_at_once_with_a_token_one_waits(hub: Hub) -> None:
    _, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {}, needs_approval=True)
    first, second = DeviceKey(), DeviceKey()
    with hub.db.write() as tx:  # both came this far before either was written

        def trade(key: DeviceKey) -> redemption.Trade:
            issuer = Issuer(hub.authority, 90)
            return redemption.trade(
                tx, issuer, ids.digest_of(token.encode()), BOARD, key.csr, Digest(key.fingerprint), hub.clock.now()
            )

        assert trade(first).chain is None
        with pytest.raises(Denied):
            trade(second)
    assert hub.fleet.get(ADMIN, CAM).pending_fingerprint == first.fingerprint


def test_a_key_that_came_in_time_may_wait_longer_than_its_token_lives(hub: Hub) -> None:
    device, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {}, 60, needs_approval=True)
    key = DeviceKey()
    with pytest.raises(NotReady):
        hub.enrollment.enroll(token, key.csr, BOARD)
    hub.clock.advance(3600)
    hub.enrollment.approve(ADMIN, device.id, key.fingerprint)
    hub.enrollment.enroll(token, key.csr, BOARD)


def test_a_key_that_nobody_approves_is_forgotten(hub: Hub) -> None:
    device, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {}, needs_approval=True)
    with pytest.raises(NotReady):
        hub.enrollment.enroll(token, csr(), BOARD)
    hub.clock.advance(8 * 86_400)
    assert hub.fleet.get(ADMIN, device.id).pending_fingerprint == ""
    with pytest.raises(NotReady, match="no key"):
        hub.enrollment.approve(ADMIN, device.id, "sha256:" + "0" * 64)


def test_only_the_key_that_waits_can_be_approved(hub: Hub) -> None:
    device, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {}, needs_approval=True)
    other = DeviceKey()
    with pytest.raises(NotReady, match="no key"):
        hub.enrollment.approve(ADMIN, device.id, other.fingerprint)
    with pytest.raises(NotReady):
        hub.enrollment.enroll(token, csr(), BOARD)
    with pytest.raises(Conflict, match="another one"):
        hub.enrollment.approve(ADMIN, device.id, other.fingerprint)
    assert good(hub) == []


def test_another_tenants_devices_can_be_neither_enrolled_nor_approved_nor_revoked_nor_rotated(hub: Hub) -> None:
    device, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {}, needs_approval=True)
    key = DeviceKey()
    with pytest.raises(NotReady):
        hub.enrollment.enroll(token, key.csr, BOARD)
    for verb in (
        lambda: hub.enrollment.enroll_device(STRANGER, device.id),
        lambda: hub.enrollment.approve(STRANGER, device.id, key.fingerprint),
        lambda: hub.enrollment.revoke(STRANGER, device.id),
        lambda: hub.enrollment.rotate(STRANGER, device.id),
    ):
        with pytest.raises(NotFound):
            verb()
    hub.enrollment.approve(ADMIN, device.id, key.fingerprint)
    hub.enrollment.enroll(token, key.csr, BOARD)


def test_tokens_and_certificates_of_no_use_are_forgotten(hub: Hub) -> None:
    device, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    first = serial(hub.enrollment.enroll(token, csr(), BOARD).certificate_pem)
    _, token = hub.enrollment.enroll_device(ADMIN, device.id)
    second = serial(hub.enrollment.enroll(token, csr(), BOARD).certificate_pem)
    kept = {}
    for days in (1, 125, 90 + 731):
        hub.clock.advance(days * 86_400)
        hub.enrollment.tidy()
        with hub.db.read() as tx:
            kept[days] = set(tx.execute(select(certificates.c.serial)).scalars())
    assert kept == {1: {first, second}, 125: {second}, 821: set()}
    with hub.db.read() as tx:
        assert not tx.execute(metadata.tables["enrollment_tokens"].select()).all()
