"""Enrolment against a server that signs with a throw-away authority."""

import json
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from edge_agent.core.errors import ConfigError, Corrupt, LinkDown, Refused
from edge_agent.sync import identity as identities
from edge_agent.sync.enroll import Ticket, enroll, read_ticket
from protos.contract.ids import device_id
from protos.v1 import enrollment_pb2 as pb
from protos.v1 import enrollment_pb2_grpc
from tests.agent.sync.authority import Authority
from tests.agent.sync.broker import free_port


class Servicer(enrollment_pb2_grpc.EnrollmentServicer):
    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self.spoil: Callable[[pb.EnrollReply], None] = lambda _: None
        self.status: grpc.StatusCode | None = None

    def Enroll(self, request: pb.EnrollRequest, context: grpc.ServicerContext) -> pb.EnrollReply:
        if self.status is not None:
            context.abort(self.status, "token is wrong, used or too old")
        csr = x509.load_pem_x509_csr(request.csr_pem.encode())
        assert csr.is_signature_valid and request.token == "t0ken" and request.board == "camera-x86"
        key = csr.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        reply = pb.EnrollReply(
            device_id="cam-1",
            tenant="default",
            certificate_pem=self._authority.certify("cam-1", key).decode(),
            ca_pem=self._authority.pem.decode(),
            hub_address="localhost:7443",
            broker=pb.Broker(host="localhost", port=8883, protocol=5),
        )
        self.spoil(reply)
        return reply


@pytest.fixture
def servicer(authority: Authority) -> Servicer:
    return Servicer(authority)


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
    identity.tls()


def test_a_ticket_file_does_as_well(tmp_path: Path, ticket: Ticket) -> None:
    file = tmp_path / "ticket.json"
    names = ("device_id", "board", "token", "ca_pem", "enroll_address")
    file.write_text(json.dumps({name: getattr(ticket, name) for name in names}))
    assert read_ticket(file) == ticket
    assert enroll(file, tmp_path / "data").device_id == "cam-1"


def test_secrets_are_not_in_a_tickets_repr(ticket: Ticket) -> None:
    assert "t0ken" not in repr(ticket)


def test_an_enrolled_device_keeps_its_identity_unless_forced(tmp_path: Path, ticket: Ticket) -> None:
    first = enroll(ticket, tmp_path).key_path.read_bytes()
    with pytest.raises(Refused, match="--force"):
        enroll(ticket, tmp_path)
    assert enroll(ticket, tmp_path, force=True).key_path.read_bytes() != first


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
    spoils = [
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
