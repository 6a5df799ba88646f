"""A revoked certificate lets nobody in, and ends who is in."""

import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from cloud_hub.broker.supervisor import open_broker
from cloud_hub.core.config import BrokerConfig
from cloud_hub.core.model import DEFAULT_TENANT
from cloud_hub.core.ports import Broker, Refusals, TlsFiles
from cloud_hub.services.revocation import VALID_FOR, Revocation
from cloud_hub.store import certificates
from cloud_hub.store.certificates import Certificate
from cloud_hub.store.database import Database
from cloud_hub.trust.authority import Authority
from protos.contract.ids import DeviceId
from tests.hub.mqtt_parts import Identity, MqttClient, client, wait_for

NOW = datetime.now(UTC)
WITHIN_S = 5.0


def serial(tls: TlsFiles) -> int:
    return x509.load_pem_x509_certificate(tls.certificate.read_bytes()).serial_number


def refusals(authority: Authority, *refused: TlsFiles, device: str = "cam-1", now: datetime = NOW) -> Refusals:
    serials = [serial(tls) for tls in refused]
    crl = authority.crl([(f"{one:x}", now, "stolen") for one in serials], number=2, now=now, valid_for=VALID_FOR)
    return Refusals(crl_pem=crl, serials=frozenset(serials), newly=[(DEFAULT_TENANT, DeviceId(device))])


def connects(broker: Broker, tls: TlsFiles, name: str) -> bool:
    try:
        made = MqttClient(broker.address, tls, name)
    except OSError:
        return False
    try:  # with TLS 1.3 a client learns only after the handshake that its certificate is refused
        wait_for(lambda: made.connected.is_set() or made.ended.is_set(), "the broker's answer")
        return made.connected.is_set()
    finally:
        made.close()


def test_an_open_session_ends_and_does_not_come_back(broker: Broker, identity: Identity, authority: Authority) -> None:
    stolen, other = identity.device("cam-1"), identity.device("cam-2")
    with client(broker.address, other, "cam-2") as bystander:
        thief = MqttClient(broker.address, stolen, "cam-1").ready()
        broker.refuse(refusals(authority, stolen))
        assert thief.ended.wait(WITHIN_S), "the session went on"
        thief.close()
        assert not connects(broker, stolen, "cam-1")
        assert not bystander.ended.is_set()


def test_a_device_with_a_newer_certificate_comes_back(broker: Broker, identity: Identity, authority: Authority) -> None:
    old, new = Identity(authority, identity.folder / "old").device("cam-1"), identity.device("cam-1")
    broker.refuse(refusals(authority, old))
    assert connects(broker, new, "cam-1")
    assert not connects(broker, old, "cam-1")


def test_what_was_refused_before_the_start_stays_refused(tmp_path: Path, authority: Authority, identity: Identity) -> None:
    stolen = identity.device("cam-1")
    broker = open_broker(BrokerConfig(kind="mosquitto", port=0), tmp_path, authority)
    broker.refuse(refusals(authority, stolen))
    broker.start()
    try:
        assert not connects(broker, stolen, "cam-1")
        assert connects(broker, identity.device("cam-2"), "cam-2")
    finally:
        broker.stop()


def test_a_list_that_was_left_to_expire_is_replaced_and_everybody_is_let_in_again(
    tmp_path: Path, authority: Authority, identity: Identity
) -> None:
    broker = open_broker(BrokerConfig(kind="mosquitto", port=0), tmp_path, authority)
    broker.start()
    try:
        device = identity.device("cam-1")
        broker.refuse(refusals(authority, now=NOW - VALID_FOR - timedelta(minutes=1)))
        wait_for(lambda: not connects(broker, device, "cam-1"), "nobody is let in: the list has expired")
        broker.refuse(refusals(authority))
        wait_for(lambda: connects(broker, device, "cam-1"), "everybody is let in again")
    finally:
        broker.stop()


def test_new_certificates_of_the_broker_do_not_end_a_session(
    broker: Broker, identity: Identity, tmp_path: Path, authority: Authority
) -> None:
    before = shown(broker, identity.device("cam-2"))
    with client(broker.address, identity.device("cam-1"), "cam-1") as device:
        broker.renew()
        wait_for(lambda: shown(broker, identity.device("cam-2")) != before, "a new certificate")
        assert not device.ended.is_set()


def shown(broker: Broker, tls: TlsFiles) -> int:
    """Serial of what the broker shows."""
    context = ssl.create_default_context(cafile=str(tls.ca))
    context.load_cert_chain(tls.certificate, tls.key)
    with (
        socket.create_connection((broker.address.host, broker.address.port), 5) as plain,
        context.wrap_socket(plain, server_hostname=broker.address.host) as secured,
    ):
        certificate = secured.getpeercert()
        assert certificate is not None
        return int(str(certificate["serialNumber"]), 16)


class Told:
    """A broker that notes what it is told."""

    def __init__(self) -> None:
        self.refusals: list[Refusals] = []
        self.renewals = 0
        self.fail = False

    def refuse(self, refusals: Refusals) -> None:
        if self.fail:
            raise OSError("away")
        self.refusals.append(refusals)

    def renew(self) -> None:
        self.renewals += 1


@pytest.fixture
def told() -> Told:
    return Told()


def issue(db: Database, number: int, device: str) -> None:
    with db.write() as tx:
        certificates.add(
            tx,
            Certificate(
                serial=f"{number:x}",
                tenant=DEFAULT_TENANT,
                role=certificates.DEVICE,
                subject=device,
                key_digest=f"sha256:{number:064x}",
                issued_at=NOW,
                expires_at=NOW + timedelta(days=90),
            ),
        )


def revoke(db: Database, device: str, reason: str = "stolen") -> None:
    with db.write() as tx:
        certificates.revoke(tx, certificates.DEVICE, device, NOW, reason)


def test_a_revocation_reaches_the_broker_at_the_next_tick_and_only_once(db: Database, authority: Authority, told: Told) -> None:
    issue(db, 17, "cam-1")
    issue(db, 18, "cam-2")
    revocation = Revocation(db, authority, told, NOW)  # type: ignore[arg-type]  # the two methods it uses
    revocation.tick(NOW)
    revoke(db, "cam-1")
    for seconds in range(1, 4):
        revocation.tick(NOW + timedelta(seconds=seconds))
    assert [(one.serials, list(one.newly)) for one in told.refusals] == [
        (frozenset(), []),
        (frozenset({17}), [(DEFAULT_TENANT, "cam-1")]),
    ]


def test_a_broker_that_could_not_be_told_is_told_again(db: Database, authority: Authority, told: Told) -> None:
    issue(db, 17, "cam-1")
    revocation = Revocation(db, authority, told, NOW)  # type: ignore[arg-type]
    revocation.tick(NOW)
    revoke(db, "cam-1")
    told.fail = True
    with pytest.raises(OSError, match="away"):
        revocation.tick(NOW + timedelta(seconds=1))
    told.fail = False
    revocation.tick(NOW + timedelta(seconds=2))
    assert told.refusals[-1].newly == [(DEFAULT_TENANT, "cam-1")]


def test_the_list_is_signed_anew_every_hour_long_before_it_expires(db: Database, authority: Authority, told: Told) -> None:
    revocation = Revocation(db, authority, told, NOW)  # type: ignore[arg-type]
    for minutes in range(0, 181, 10):
        revocation.tick(NOW + timedelta(minutes=minutes))
    assert len(told.refusals) == 4
    expires = x509.load_pem_x509_crl(told.refusals[-1].crl_pem.encode()).next_update_utc
    assert expires is not None and expires > NOW + timedelta(hours=3, days=6)


def test_a_certificate_that_has_expired_leaves_the_list(db: Database, authority: Authority, told: Told) -> None:
    issue(db, 17, "cam-1")
    revoke(db, "cam-1")
    revocation = Revocation(db, authority, told, NOW)  # type: ignore[arg-type]
    revocation.tick(NOW)
    revocation.tick(NOW + timedelta(days=91))
    assert [one.serials for one in told.refusals] == [frozenset({17}), frozenset()]


def test_the_broker_gets_new_certificates_long_before_the_old_ones_expire(
    db: Database, authority: Authority, told: Told
) -> None:
    revocation = Revocation(db, authority, told, NOW)  # type: ignore[arg-type]
    for day in range(0, 130, 10):
        revocation.renew(NOW + timedelta(days=day))
    assert told.renewals == 2
