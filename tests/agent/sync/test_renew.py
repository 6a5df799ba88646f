"""When a certificate is renewed, and how: against the enrolment service of a throw-away authority."""

import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from edge_agent.core.clock import SystemClock
from edge_agent.core.config import SyncConfig
from edge_agent.core.errors import Corrupt, DiskFull, LinkDown, Refused
from edge_agent.core.model import Happening
from edge_agent.sync import certificate
from edge_agent.sync import identity as identities
from edge_agent.sync.certificate import Certificate
from edge_agent.sync.identity import Broker, Identity, Receipt
from edge_agent.sync.keys import FileKeys
from edge_agent.sync.renew import due_in_s, renew
from edge_agent.sync.renewer import Renewer
from protos.contract import ids
from protos.v1 import enrollment_pb2 as pb
from protos.v1 import enrollment_pb2_grpc
from tests.agent.sync.authority import Authority
from tests.agent.sync.registrar import Registrar

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
HELD = Certificate(serial="1", not_before=START, not_after=START + 90 * DAY, pem=b"")
CONFIG = SyncConfig(backoff_min_s=1.0, backoff_max_s=60.0)
DEVICES = [ids.device_id(f"cam-{i}") for i in range(200)]


def days(received_at: datetime | None, now: datetime, device: str = "cam-1") -> float:
    return due_in_s(HELD, received_at, ids.device_id(device), now) / 86400


# -- when -----------------------------------------------------------------------------------------------------------------


def test_it_is_due_after_two_thirds_of_its_life_and_devices_do_not_come_together() -> None:
    due = [days(START, START, device) for device in DEVICES]
    assert all(60 <= one <= 67.5 for one in due)
    assert max(due) - min(due) > 7
    assert due == [days(START, START, device) for device in DEVICES], "the same after a restart"


def test_an_expired_one_is_due() -> None:
    assert days(START, START + 400 * DAY) < 0


def test_one_that_is_not_valid_yet_is_renewed_though_no_more_often_than_each_tenth_of_its_life() -> None:
    behind = START - 40 * DAY
    assert days(None, behind) <= 0
    assert days(behind, behind) == pytest.approx(9)
    assert days(behind, behind + 9 * DAY) <= 0


def test_a_clock_that_is_far_ahead_cannot_make_it_renew_in_a_loop() -> None:
    ahead = START + 70 * DAY
    assert days(ahead, ahead) == pytest.approx(9)
    beyond = START + 4000 * DAY
    assert days(beyond, beyond) == pytest.approx(9)


@pytest.mark.parametrize("off_days", [-300.0, -40.0, -1.0, -0.01, 0.0, 0.01, 1.0, 20.0, 59.0, 80.0, 300.0])
def test_however_wrong_a_clock_is_it_is_renewed_before_it_expires_and_at_most_ten_times_as_often(off_days: float) -> None:
    """A device through two years of a clock that is wrong by the same amount all the time."""
    real, received = START, START + off_days * DAY
    held, renewals, end = HELD, 0, START + 730 * DAY
    while real < end:
        left = due_in_s(held, received, ids.device_id("cam-1"), real + off_days * DAY)
        if left > 0:
            real += timedelta(seconds=max(left, 3600))
            continue
        assert real < held.not_after, "expired where time is right: a gap in service"
        renewals += 1
        held = Certificate(serial="n", not_before=real, not_after=real + 90 * DAY, pem=b"")
        received = real + off_days * DAY
    assert 10 <= renewals <= 82


# -- how ------------------------------------------------------------------------------------------------------------------


@dataclass
class Service:
    registrar: Registrar
    authority: Authority
    address: str

    def enrol(self, data_dir: Path, *, age: timedelta = timedelta(0), life: timedelta = DAY) -> Identity:
        key, chain = self.registrar.issue("cam-1", age=age, life=life)
        return identities.save(
            Identity(
                device_id=ids.device_id("cam-1"),
                tenant=ids.tenant_id("default"),
                board="camera-x86",
                hub_address="localhost:1",
                broker=Broker(host="localhost", port=1),
                folder=data_dir / identities.FOLDER,
                enroll_address=self.address,
            ),
            key_pem=key,
            certificate_pem=chain,
            ca_pem=self.authority.pem,
            image_root=b"image",
            director_root=b"director",
            receipt=Receipt(at=datetime.now(UTC) - age),
        )


class Spoiling(Registrar):
    """Answers with somebody else's words, if it is to."""

    spoiled: pb.RenewReply | None = None

    def Renew(self, request: pb.RenewRequest, context: grpc.ServicerContext) -> pb.RenewReply:
        reply = super().Renew(request, context)
        return reply if self.spoiled is None else self.spoiled


@pytest.fixture
def service(authority: Authority) -> Iterator[Service]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    registrar = Spoiling(authority)
    enrollment_pb2_grpc.add_EnrollmentServicer_to_server(registrar, server)  # type: ignore[no-untyped-call]  # generated
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([authority.issue("localhost")]))
    server.start()
    yield Service(registrar, authority, f"localhost:{port}")
    server.stop(None).wait(10)


def renewed(data_dir: Path, **arguments: Any) -> Certificate:
    made = renew(data_dir, FileKeys(data_dir), SystemClock(), timeout_s=10, **arguments)
    assert made is not None
    return made


def test_renewal_brings_a_new_key_and_keeps_everything_else(tmp_path: Path, service: Service) -> None:
    identity = service.enrol(tmp_path)
    old = identity.credential()
    made = renewed(tmp_path)
    assert identities.load(tmp_path) == identity
    assert identity.key_path.read_bytes() != old.key_pem
    assert identity.key_path.stat().st_mode & 0o777 == 0o600
    assert certificate.read(identity.credential().certificate_pem) == made
    assert (identity.image_root_path.read_bytes(), identity.director_root_path.read_bytes()) == (b"image", b"director")
    assert identity.previous() == old
    identity.tls()
    assert list((tmp_path / "pending-keys").iterdir()) == []
    renewed(tmp_path)
    assert len(set(service.registrar.asked)) == 2, "a new key each time"
    assert len(list((tmp_path / "identities").iterdir())) == 2, "and only the one before is kept"


def test_an_expired_certificate_is_renewed(tmp_path: Path, service: Service) -> None:
    service.enrol(tmp_path, age=400 * DAY, life=90 * DAY)
    assert renewed(tmp_path).not_after > datetime.now(UTC)


def test_a_lost_answer_is_asked_for_again_with_the_same_key(tmp_path: Path, service: Service) -> None:
    identity = service.enrol(tmp_path)
    old = identity.credential()
    service.registrar.lost = 1
    with pytest.raises(LinkDown):
        renewed(tmp_path)
    assert identity.credential() == old
    renewed(tmp_path)
    assert len(service.registrar.asked) == 2 and len(set(service.registrar.asked)) == 1


def test_a_hub_restored_from_an_older_backup_is_asked_with_the_certificate_it_knows(tmp_path: Path, service: Service) -> None:
    identity = service.enrol(tmp_path)
    first = identity.credential()
    renewed(tmp_path)
    service.registrar.unknown.add(service.registrar.issued["cam-1"][-1])
    renewed(tmp_path)
    assert service.registrar.good(certificate.read(identity.credential().certificate_pem).serial)
    assert identity.previous() == first, "the one that was taken, not the one that nobody knows"


def test_a_revoked_device_is_refused_and_keeps_what_it_has(tmp_path: Path, service: Service) -> None:
    identity = service.enrol(tmp_path)
    renewed(tmp_path)
    held = identity.credential()
    service.registrar.revoked.update(service.registrar.issued["cam-1"])
    with pytest.raises(Refused, match="revoked"):
        renewed(tmp_path)
    assert identity.credential() == held


def test_an_answer_for_another_key_device_or_root_is_not_kept(tmp_path: Path, service: Service, authority: Authority) -> None:
    identity = service.enrol(tmp_path)
    held, other = identity.credential(), Authority()
    chain = authority.issue("cam-1")[1].decode()
    spoils = [
        pb.RenewReply(certificate_pem=chain, ca_pem=authority.pem.decode()),
        pb.RenewReply(certificate_pem=other.issue("cam-1")[1].decode(), ca_pem=other.pem.decode()),
        pb.RenewReply(certificate_pem=chain, ca_pem=other.pem.decode()),
        pb.RenewReply(certificate_pem="nonsense", ca_pem=authority.pem.decode()),
        pb.RenewReply(certificate_pem=chain + "#" * 70_000, ca_pem=authority.pem.decode()),
        pb.RenewReply(),
    ]
    assert isinstance(service.registrar, Spoiling)
    for spoiled in spoils:
        service.registrar.spoiled = spoiled
        with pytest.raises(Corrupt):
            renewed(tmp_path)
        assert identity.credential() == held


def test_a_certificate_for_our_key_and_another_name_is_not_kept(tmp_path: Path, service: Service, authority: Authority) -> None:
    identity = service.enrol(tmp_path)
    key = FileKeys(tmp_path).pending("renew", certificate.read(identity.credential().certificate_pem).serial)
    public = serialization.load_der_public_key(key.public_der())
    chain = authority.certify("cam-2", public)  # type: ignore[arg-type]  # it is an EC key
    assert isinstance(service.registrar, Spoiling)
    service.registrar.spoiled = pb.RenewReply(certificate_pem=chain.decode(), ca_pem=authority.pem.decode())
    with pytest.raises(Corrupt, match="cam-2"):
        renewed(tmp_path)


def test_a_disk_that_takes_nothing_leaves_the_old_certificate(tmp_path: Path, service: Service) -> None:
    identity = service.enrol(tmp_path)
    held = identity.credential()
    (tmp_path / ".identity.new").mkdir()  # where the link is made: no step after the hub's answer can end
    (tmp_path / ".identity.new" / "x").touch()
    with pytest.raises(DiskFull):
        renewed(tmp_path)
    assert identity.credential() == held


def test_whoever_was_slower_does_not_renew_again(tmp_path: Path, service: Service) -> None:
    version = service.enrol(tmp_path).version()
    renewed(tmp_path)
    assert renew(tmp_path, FileKeys(tmp_path), SystemClock(), unless=version) is None
    assert len(service.registrar.asked) == 1


# -- power cuts -----------------------------------------------------------------------------------------------------------

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload([__name__])
STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.symlink", "os.rmdir", "shutil.rmtree", "fcntl.flock"}


def renew_and_die(data_dir: Path, step: int) -> None:
    """End as by a power cut just before the ``step``-th change of a file; exit status 9."""
    left = step
    inside = str(data_dir)

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in STEPS or (event == "open" and not (isinstance(arguments[2], int) and arguments[2] & os.O_WRONLY)):
            return
        if event == "open" and inside not in str(arguments[0]):
            return
        left -= 1
        if left == 0:
            os._exit(9)

    sys.addaudithook(count)
    renewed(data_dir)
    os._exit(0)


def test_a_power_cut_at_any_step_leaves_the_old_identity_or_the_new_one(tmp_path: Path, service: Service) -> None:
    identity = service.enrol(tmp_path)
    kept = old = identity.credential()
    step, replaced = 0, 0
    while True:
        step += 1
        process = FORK.Process(target=renew_and_die, args=(tmp_path, step))
        process.start()
        process.join(60)
        loaded = identities.load(tmp_path)
        assert loaded == identity
        loaded.tls()  # raises where key and certificate do not belong together
        held = loaded.credential()
        assert certificate.read(held.certificate_pem).serial in service.registrar.issued["cam-1"]
        assert loaded.image_root_path.read_bytes() == b"image"
        if held != kept:
            replaced += 1
            assert loaded.previous() == kept
        kept = held
        if process.exitcode == 0:
            break
        assert process.exitcode == 9
    assert step > 20, "it has far more steps than that"
    assert replaced >= 2 and kept != old, "some were cut before it was replaced and some after"
    assert len(list((tmp_path / "identities").iterdir())) == 2, "nothing piles up"
    assert list((tmp_path / "pending-keys").iterdir()) == []
    assert len(set(service.registrar.asked)) == replaced, "a key that was cut off is asked for again"


# -- beside the agent -----------------------------------------------------------------------------------------------------


class RealDays:
    """The real time, and a monotonic clock that moves when told to; ``shift`` moves both, ``leap`` the time only."""

    def __init__(self) -> None:
        self._shift = self._leapt = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._shift + self._leapt

    def leap(self, by: timedelta) -> None:
        self._leapt += by

    def monotonic(self) -> float:
        return self._shift.total_seconds()

    def shift(self, by: timedelta) -> None:
        self._shift += by


class Watched:
    def __init__(self, identity: Identity) -> None:
        self.clock, self.replacements, self.told = RealDays(), 0, list[Happening]()
        keys = FileKeys(identity.folder.parent)
        self.renewer = Renewer(identity, keys, CONFIG, self.clock, replaced=self._count, tell=self.told.append)

    def _count(self) -> None:
        self.replacements += 1

    def through(self, span: timedelta, *, steps: int = 10_000) -> int:
        """Steps taken in that time."""
        end = self.clock.monotonic() + span.total_seconds()
        for taken in range(steps):
            pause = self.renewer.step()
            left = end - self.clock.monotonic()
            if pause >= left:
                self.clock.shift(timedelta(seconds=left))
                return taken + 1
            self.clock.shift(timedelta(seconds=max(pause, 0.001)))
        raise AssertionError(f"{steps} steps: a hot loop")


def test_it_renews_by_itself_in_time_and_says_so(tmp_path: Path, service: Service) -> None:
    service.registrar.lives["cam-1"] = 90 * DAY
    watched = Watched(service.enrol(tmp_path, life=90 * DAY))
    watched.through(59 * DAY)
    assert watched.replacements == 0 and watched.renewer.stats().problem == ""
    watched.through(9 * DAY)
    assert (watched.replacements, watched.renewer.stats().renewals) == (1, 1)
    assert [happening.kind for happening in watched.told] == ["certificate.renewed"]
    stats = watched.renewer.stats()
    assert stats.not_after is not None and stats.renew_at is not None and stats.renew_at < stats.not_after


def test_the_hub_asks_and_it_renews_at_once_and_only_once(tmp_path: Path, service: Service) -> None:
    service.registrar.age = timedelta(minutes=10)  # hubs date certificates back: not_before stays before what was asked
    identity = service.enrol(tmp_path, age=timedelta(minutes=20))
    watched = Watched(identity)
    asked = datetime.now(UTC)
    watched.renewer.ask(asked)
    watched.renewer.step()
    assert watched.replacements == 1
    for _ in range(3):
        watched.renewer.ask(asked)  # retained: it comes with every connect
        watched.renewer.step()
    again = Watched(identity)  # and after a restart
    again.renewer.ask(asked)
    again.renewer.step()
    assert (watched.replacements, again.replacements) == (1, 0)
    watched.renewer.ask(asked + timedelta(seconds=1))
    watched.renewer.step()
    assert watched.replacements == 2


def test_a_certificate_newer_than_what_was_asked_is_not_renewed(tmp_path: Path, service: Service) -> None:
    watched = Watched(service.enrol(tmp_path))
    watched.renewer.ask(datetime.now(UTC) - DAY)
    watched.renewer.step()
    assert watched.replacements == 0


def test_a_hub_out_of_reach_is_asked_again_with_pauses(tmp_path: Path, service: Service) -> None:
    watched = Watched(service.enrol(tmp_path, age=80 * DAY, life=90 * DAY))
    service.registrar.down = True
    assert watched.through(timedelta(hours=1)) < 200
    assert "not now" in watched.renewer.stats().problem
    service.registrar.down = False
    watched.through(timedelta(minutes=2))
    assert watched.replacements == 1 and watched.renewer.stats().problem == ""


def test_a_revoked_device_says_so_once_and_asks_ever_more_seldom(tmp_path: Path, service: Service) -> None:
    watched = Watched(service.enrol(tmp_path, age=80 * DAY, life=90 * DAY))
    service.registrar.revoked.update(service.registrar.issued["cam-1"])
    watched.through(DAY)
    assert 24 <= len(service.registrar.asked) <= 60
    assert "revoked" in watched.renewer.stats().problem
    assert [happening.kind for happening in watched.told] == ["certificate.refused"]


def test_one_that_is_not_taken_is_renewed_after_a_while_whatever_our_clock_says(tmp_path: Path, service: Service) -> None:
    watched = Watched(service.enrol(tmp_path))
    watched.renewer.doubt("certificate expired")
    watched.renewer.step()
    assert watched.replacements == 0 and "certificate expired" in watched.renewer.stats().problem
    watched.through(timedelta(minutes=2))
    assert watched.replacements == 1 and watched.renewer.stats().problem == ""
    for _ in range(200):  # and it is still not taken: it does not renew each time
        watched.renewer.doubt("certificate expired")
        watched.through(timedelta(seconds=30))
    assert watched.replacements <= 10


def test_a_doubt_that_passes_is_forgotten(tmp_path: Path, service: Service) -> None:
    watched = Watched(service.enrol(tmp_path))
    watched.renewer.doubt("it hung up")
    watched.renewer.trusted()
    watched.through(timedelta(hours=2))
    assert watched.replacements == 0 and watched.renewer.stats().problem == ""


def test_a_certificate_renewed_by_hand_is_taken_up(tmp_path: Path, service: Service) -> None:
    watched = Watched(service.enrol(tmp_path))
    made = renewed(tmp_path)
    watched.renewer.step()
    assert watched.replacements == 1 and watched.renewer.stats().serial == made.serial


def test_a_certificate_that_cannot_be_read_is_said_so(tmp_path: Path, service: Service) -> None:
    identity = service.enrol(tmp_path)
    identity.cert_path.write_bytes(b"nonsense")
    watched = Watched(identity)
    watched.through(timedelta(minutes=5))
    assert "cannot be read" in watched.renewer.stats().problem
    with pytest.raises(Corrupt):
        renewed(tmp_path)


def test_a_clock_that_leaps_about_makes_one_renewal_and_no_more(tmp_path: Path, service: Service) -> None:
    service.registrar.lives["cam-1"] = 90 * DAY
    watched = Watched(service.enrol(tmp_path, life=90 * DAY))
    for leap in (4000 * DAY, -4000 * DAY) * 20:
        watched.clock.leap(leap)
        watched.renewer.step()
    assert len(service.registrar.asked) == 1


def test_neither_key_nor_token_is_in_what_is_told(tmp_path: Path, service: Service, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        watched = Watched(service.enrol(tmp_path))
        watched.renewer.ask(datetime.now(UTC) + DAY)
        watched.renewer.step()
    assert watched.replacements == 1
    said = "".join(str(vars(record)) for record in caplog.records) + repr(watched.told) + repr(vars(watched.renewer))
    assert "PRIVATE" not in said and "BEGIN" not in said.replace("BEGIN CERTIFICATE", "")


def test_x509_files_hold_the_chain(tmp_path: Path, service: Service) -> None:
    identity = service.enrol(tmp_path)
    renewed(tmp_path)
    assert len(x509.load_pem_x509_certificates(identity.cert_path.read_bytes())) == 2
