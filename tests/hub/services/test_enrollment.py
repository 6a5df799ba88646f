import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cloud_hub.core.errors import Conflict, Denied, HubError, Invalid
from cloud_hub.store.schema import metadata
from tests.hub.fleet_parts import ADMIN, BOARD, STRANGER, Hub


@pytest.fixture
def hub(tmp_path: Path, database_url: str) -> Iterator[Hub]:
    hub = Hub(tmp_path, database_url=database_url)
    yield hub
    hub.db.close()


def csr(common_name: str = "whatever") -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def test_a_token_and_a_csr_give_a_certificate_with_the_tokens_names(hub: Hub) -> None:
    _, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    enrolled = hub.enrollment.enroll(token, csr("tl:hub"), BOARD)
    assert (enrolled.device_id, enrolled.tenant, enrolled.ca_pem) == ("cam-1", "default", hub.authority.ca_pem)
    subject = x509.load_pem_x509_certificate(enrolled.certificate_pem.encode()).subject
    assert subject.rfc4514_string() == "CN=cam-1,OU=device,O=default"
    assert hub.fleet.get(ADMIN, enrolled.device_id).enrolled


def test_a_token_works_once(hub: Hub) -> None:
    _, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    hub.enrollment.enroll(token, csr(), BOARD)
    with pytest.raises(Denied):
        hub.enrollment.enroll(token, csr(), BOARD)


def test_of_many_that_use_one_token_at_once_one_wins(hub: Hub) -> None:
    _, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    results: list[str] = []

    def enroll() -> None:
        try:
            hub.enrollment.enroll(token, csr(), BOARD)
            results.append("enrolled")
        except Denied:
            results.append("denied")

    threads = [threading.Thread(target=enroll) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == ["denied"] * 5 + ["enrolled"]


def test_unknown_used_expired_and_deleted_tokens_are_refused_in_the_same_words(hub: Hub) -> None:
    _, used = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    hub.enrollment.enroll(used, csr(), BOARD)
    _, expired = hub.enrollment.create_device(ADMIN, "cam-2", BOARD, {}, 60)
    gone, deleted = hub.enrollment.create_device(ADMIN, "cam-3", BOARD, {})
    hub.fleet.delete(ADMIN, gone.id)
    hub.clock.advance(60)
    messages = set()
    for token in ("", "guess", used, expired, deleted):
        with pytest.raises(Denied) as refused:
            hub.enrollment.enroll(token, csr(), BOARD)
        messages.add(str(refused.value))
    assert len(messages) == 1


@pytest.mark.parametrize("board", ["", "vehicle-arm64"])
def test_a_token_for_another_board_is_refused_and_not_used_up(hub: Hub, board: str) -> None:
    _, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    with pytest.raises(Invalid, match=BOARD):
        hub.enrollment.enroll(token, csr(), board)
    with pytest.raises(Invalid, match="CSR"):
        hub.enrollment.enroll(token, "not a csr", BOARD)
    hub.enrollment.enroll(token, csr(), BOARD)


def test_the_database_never_holds_a_token(hub: Hub) -> None:
    _, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    with hub.db.read() as tx:
        tables = {table.name: tx.execute(table.select()).all() for table in metadata.sorted_tables}
    assert len(tables["enrollment_tokens"]) == 1
    assert token not in str(tables)


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


def test_only_the_certificate_given_last_is_good_and_none_after_deletion(hub: Hub) -> None:
    device, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    assert not hub.fleet.certified(device.id, 0)
    first = x509.load_pem_x509_certificate(hub.enrollment.enroll(token, csr(), BOARD).certificate_pem.encode())
    assert hub.fleet.certified(device.id, first.serial_number)
    hub.fleet.delete(ADMIN, device.id)
    assert not hub.fleet.certified(device.id, first.serial_number)
    _, token = hub.enrollment.create_device(ADMIN, "cam-1", BOARD, {})
    again = x509.load_pem_x509_certificate(hub.enrollment.enroll(token, csr(), BOARD).certificate_pem.encode())
    assert hub.fleet.certified(device.id, again.serial_number)
    assert not hub.fleet.certified(device.id, first.serial_number)


def test_a_stranger_is_refused_without_waiting_for_whoever_writes(hub: Hub) -> None:
    with hub.db.write(), pytest.raises(Denied):
        hub.enrollment.enroll("guess", csr(), BOARD)
