"""Enrolment against a server that signs with a throw-away authority."""

import base64
import json
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from edge_agent.core.errors import ConfigError, Corrupt, DiskFull, LinkDown, Refused, Unapproved
from edge_agent.sync import identity as identities
from edge_agent.sync.enroll import Ticket, enroll, read_ticket
from protos.contract.ids import device_id
from protos.v1 import enrollment_pb2 as pb
from protos.v1 import enrollment_pb2_grpc
from tests.agent.clocks import ManualClock
from tests.agent.sync.authority import Authority
from tests.agent.sync.broker import free_port
from tests.agent.sync.registrar import Registrar


class Servicer(Registrar):
    """One that can answer wrongly."""

    spoil: Callable[[pb.EnrollReply], None] = staticmethod(lambda _: None)
    status: grpc.StatusCode | None = None

    def Enroll(self, request: pb.EnrollRequest, context: grpc.ServicerContext) -> pb.EnrollReply:
        if self.status is not None:
            context.abort(self.status, "token is wrong, used or too old")
        reply = super().Enroll(request, context)
        self.spoil(reply)
        return reply


@pytest.fixture
def servicer(authority: Authority) -> Servicer:
    made = Servicer(authority)
    made.tokens["t0ken"] = "cam-1"
    return made


@pytest.fixture
def ticket(authority: Authority, servicer: Servicer) -> Iterator[Ticket]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    enrollment_pb2_grpc.add_EnrollmentServicer_to_server(servicer, server)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([authority.issue("localhost")]))
    server.start()
    yield Ticket(
        device_id=device_id("cam-1"),
        board="camera-x86",
        token="t0ken",
        ca_pem=authority.pem.decode(),
        enroll_address=f"localhost:{port}",
    )
    server.stop(None).wait(10)


def test_a_ticket_becomes_an_identity(tmp_path: Path, ticket: Ticket) -> None:
    identity = enroll(ticket, tmp_path)
    assert identities.load(tmp_path) == identity
    assert (identity.device_id, identity.tenant, identity.board) == ("cam-1", "default", "camera-x86")
    assert (identity.hub_address, identity.broker.port) == ("localhost:7443", 8883)
    assert identity.key_path.stat().st_mode & 0o777 == 0o600
    assert identity.enroll_address == ticket.enroll_address
    assert identity.receipt().at is not None
    assert not identity.image_root_path.exists()
    identity.tls()


def test_a_ticket_file_does_as_well(tmp_path: Path, ticket: Ticket) -> None:
    file = tmp_path / "ticket.json"
    names = ("device_id", "board", "token", "ca_pem", "enroll_address")
    file.write_text(json.dumps({name: getattr(ticket, name) for name in names}))
    assert read_ticket(file) == ticket
    assert enroll(file, tmp_path / "data").device_id == "cam-1"


def test_secrets_are_not_in_a_tickets_repr(ticket: Ticket) -> None:
    assert "t0ken" not in repr(ticket)


def test_an_enrolled_device_keeps_its_identity_unless_forced(tmp_path: Path, ticket: Ticket, servicer: Servicer) -> None:
    first = enroll(ticket, tmp_path).key_path.read_bytes()
    with pytest.raises(Refused, match="--force"):
        enroll(ticket, tmp_path)
    again = replace(ticket, token="t0ken-2")
    servicer.tokens["t0ken-2"] = "cam-1"
    assert enroll(again, tmp_path, force=True).key_path.read_bytes() != first


def test_what_the_hub_says_no_to_is_refused_with_its_words(tmp_path: Path, ticket: Ticket, servicer: Servicer) -> None:
    servicer.status = grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(Refused, match="wrong, used or too old"):
        enroll(ticket, tmp_path)
    assert not identities.exists(tmp_path)


def test_a_hub_that_is_away_is_link_down(tmp_path: Path, ticket: Ticket, servicer: Servicer) -> None:
    with pytest.raises(LinkDown):
        enroll(replace(ticket, enroll_address=f"localhost:{free_port()}"), tmp_path, timeout_s=5)
    servicer.status = grpc.StatusCode.UNAVAILABLE
    with pytest.raises(LinkDown):
        enroll(ticket, tmp_path, timeout_s=5)


def test_a_hub_the_ticket_does_not_vouch_for_is_not_told_the_token(tmp_path: Path, ticket: Ticket) -> None:
    stranger = replace(ticket, ca_pem=Authority().pem.decode())
    with pytest.raises(LinkDown):
        enroll(stranger, tmp_path, timeout_s=5)


def _other_key(authority: Authority) -> Callable[[pb.EnrollReply], None]:
    def spoil(reply: pb.EnrollReply) -> None:
        reply.certificate_pem = authority.issue("cam-1")[1].decode()

    return spoil


def _set(name: str, value: object) -> Callable[[pb.EnrollReply], None]:
    return lambda reply: setattr(reply, name, value)


def test_an_answer_for_another_key_or_device_is_not_kept(
    tmp_path: Path, ticket: Ticket, servicer: Servicer, authority: Authority
) -> None:
    def alone(reply: pb.EnrollReply) -> None:
        reply.certificate_pem = reply.certificate_pem[: reply.certificate_pem.index("-----END") + 26]

    other = Authority()
    spoils = [
        alone,
        lambda reply: setattr(reply, "certificate_pem", other.issue("cam-1")[1].decode()),
        _other_key(authority),
        _set("device_id", "cam-2"),
        _set("tenant", "../.."),
        _set("certificate_pem", "nonsense"),
        _set("ca_pem", Authority().pem.decode()),
        _set("hub_address", ""),
        lambda reply: reply.ClearField("broker"),
    ]
    for spoil in spoils:
        servicer.spoil = spoil
        with pytest.raises(Corrupt):
            enroll(ticket, tmp_path)
        assert not identities.exists(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff", b'{"device_id": "cam-1"}', b'"x"', b'{"device_id": 1, "board": 2}']
)
def test_a_file_that_is_no_ticket_is_said_so(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "ticket.json"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="ticket"):
        read_ticket(file)


def test_a_missing_ticket_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read ticket"):
        enroll(tmp_path / "none.json", tmp_path)


# -- roots of trust -------------------------------------------------------------------------------------------------------


def ticket_file(path: Path, ticket: Ticket, **more: str) -> Path:
    names = ("device_id", "board", "token", "ca_pem", "enroll_address")
    path.write_text(json.dumps({name: getattr(ticket, name) for name in names} | more))
    return path


def test_the_roots_of_a_ticket_are_kept_beside_the_certificate(tmp_path: Path, ticket: Ticket) -> None:
    roots = {"image_root": base64.b64encode(b"image").decode(), "director_root": base64.b64encode(b"director").decode()}
    identity = enroll(ticket_file(tmp_path / "ticket", ticket, **roots), tmp_path / "data")
    assert identity.image_root_path.read_bytes() == b"image"
    assert identity.director_root_path.read_bytes() == b"director"


@pytest.mark.parametrize("roots", [{"image_root": "aW1hZ2U="}, {"image_root": "?", "director_root": "?"}])
def test_half_of_the_roots_or_roots_that_are_no_base64_are_no_ticket(
    tmp_path: Path, ticket: Ticket, roots: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match="is not a ticket"):
        read_ticket(ticket_file(tmp_path / "ticket", ticket, **roots))


# -- approval, and answers that are lost ----------------------------------------------------------------------------------


def test_a_key_that_waits_for_approval_is_the_one_that_is_certified(tmp_path: Path, ticket: Ticket, servicer: Servicer) -> None:
    servicer.unapproved.add("cam-1")
    told: list[str] = []
    with pytest.raises(Unapproved, match="same command again"):
        enroll(ticket, tmp_path, waiting=told.append)
    assert told == [servicer.asked[0]]
    assert not identities.exists(tmp_path)
    (pending,) = (tmp_path / "pending-keys").iterdir()
    assert pending.stat().st_mode & 0o777 == 0o600

    servicer.unapproved.clear()  # and the device has been switched off and on
    assert enroll(ticket, tmp_path).key_path.exists()
    assert len(set(servicer.asked)) == 1
    assert list((tmp_path / "pending-keys").iterdir()) == []


def test_it_asks_with_pauses_until_an_admin_has_approved(tmp_path: Path, ticket: Ticket, servicer: Servicer) -> None:
    servicer.unapproved.add("cam-1")
    clock, pauses, told = ManualClock(), list[float](), list[str]()

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        clock.advance(seconds)
        servicer.down = len(pauses) == 2  # the link may break meanwhile
        if len(pauses) == 4:
            servicer.unapproved.clear()

    enroll(ticket, tmp_path, wait_s=600, waiting=told.append, clock=clock, pause=pause)
    assert len(pauses) == 4 and all(1 <= seconds <= 30 for seconds in pauses)
    assert len(told) == 1 and set(servicer.asked) == set(told)


def test_waiting_for_approval_ends_when_its_time_is_over(tmp_path: Path, ticket: Ticket, servicer: Servicer) -> None:
    servicer.unapproved.add("cam-1")
    clock = ManualClock()
    with pytest.raises(Unapproved):
        enroll(ticket, tmp_path, wait_s=60, clock=clock, pause=clock.advance)
    assert clock.monotonic() == pytest.approx(60)


def test_a_lost_answer_is_asked_for_again_with_the_same_key(tmp_path: Path, ticket: Ticket, servicer: Servicer) -> None:
    servicer.lost = 1
    enroll(ticket, tmp_path, pause=lambda _: None)
    assert len(servicer.asked) == 2 and len(set(servicer.asked)) == 1


def test_a_device_whose_disk_was_full_enrols_with_the_same_key_later(
    tmp_path: Path, ticket: Ticket, servicer: Servicer
) -> None:
    (tmp_path / "identities").write_text("in the way")
    with pytest.raises(DiskFull):
        enroll(ticket, tmp_path)
    (tmp_path / "identities").unlink()
    enroll(ticket, tmp_path)
    assert len(set(servicer.asked)) == 1


def test_another_ticket_gets_another_key(tmp_path: Path, ticket: Ticket, servicer: Servicer) -> None:
    servicer.unapproved.add("cam-1")
    servicer.tokens["t0ken-2"] = "cam-1"
    for one in (ticket, replace(ticket, token="t0ken-2")):
        with pytest.raises(Unapproved):
            enroll(one, tmp_path)
    assert len(set(servicer.asked)) == 2
    assert len(list((tmp_path / "pending-keys").iterdir())) == 1
