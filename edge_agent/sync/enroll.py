"""Trading a one-time ticket for a certificate."""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge_agent.core.errors import ConfigError, Corrupt, DiskFull, LinkDown, Refused
from edge_agent.sync import identity as identities
from edge_agent.sync.identity import Broker, Identity
from protos.contract import ids
from protos.contract.errors import ContractError
from protos.contract.ids import DeviceId
from protos.v1 import enrollment_pb2 as pb
from protos.v1 import enrollment_pb2_grpc

log = logging.getLogger(__name__)

MAX_TICKET_BYTES = 64 * 1024
_TEMPORARY = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What ``hubctl device create --ticket FILE`` writes."""

    device_id: DeviceId
    board: str
    token: str = field(repr=False)
    ca_pem: str = field(repr=False)
    enroll_address: str  # host:port


def read_ticket(path: Path) -> Ticket:
    """Raises ConfigError naming what is wrong with the file."""
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(MAX_TICKET_BYTES))
        texts = {name: values[name] for name in ("device_id", "board", "token", "ca_pem", "enroll_address")}
        if not all(isinstance(text, str) and text for text in texts.values()):
            raise TypeError("every field must be a text that is not empty")
        return Ticket(**{**texts, "device_id": ids.device_id(texts["device_id"])})
    except OSError as error:
        raise ConfigError(f"cannot read ticket {path}: {error.strerror}") from error
    except KeyError as error:
        raise ConfigError(f"ticket {path} has no {error}: make a new one with `hubctl device create --ticket FILE`") from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} is not a ticket ({error}): make one with `hubctl device create --ticket FILE`") from error


def enroll(ticket: Ticket | Path, data_dir: Path, *, force: bool = False, timeout_s: float = 30.0) -> Identity:
    """Make a key that never leaves the device, have it certified, and save the identity.

    Raises:
        ConfigError: the ticket cannot be used.
        Refused: the device is enrolled already and ``force`` is off, or the hub said no.
        LinkDown: the hub cannot be reached; the ticket is still good unless the hub has answered.
        Corrupt: the hub's answer is not a certificate for this key.
        DiskFull: the identity cannot be written.
    """
    if isinstance(ticket, Path):
        ticket = read_ticket(ticket)
    if identities.exists(data_dir) and not force:
        raise Refused(f"{data_dir} is enrolled already: use --force to replace its identity")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ticket.device_id)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    reply = _ask(ticket, csr.public_bytes(serialization.Encoding.PEM).decode(), timeout_s)
    identity = _verified(reply, ticket, key, data_dir)
    key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        identities.save(identity, key_pem=key_pem, certificate_pem=reply.certificate_pem.encode(), ca_pem=reply.ca_pem.encode())
    except OSError as error:
        raise DiskFull(f"cannot write the identity to {data_dir} ({error.strerror}): make room, then a new ticket") from error
    log.info("enrolled", extra={"device": identity.device_id, "tenant": identity.tenant, "hub": identity.hub_address})
    return identity


def _ask(ticket: Ticket, csr_pem: str, timeout_s: float) -> pb.EnrollReply:
    credentials = grpc.ssl_channel_credentials(root_certificates=ticket.ca_pem.encode())
    options = (("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", 1 << 20))
    with grpc.secure_channel(ticket.enroll_address, credentials, options=options) as channel:
        request = pb.EnrollRequest(token=ticket.token, csr_pem=csr_pem, board=ticket.board)
        try:
            stub = enrollment_pb2_grpc.EnrollmentStub(channel)  # type: ignore[no-untyped-call]  # generated
            reply: pb.EnrollReply = stub.Enroll(request, timeout=timeout_s)
        except grpc.RpcError as error:
            code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
            details = (error.details() if isinstance(error, grpc.Call) else None) or "no details"
            kind = LinkDown if code in _TEMPORARY else Refused
            raise kind(f"enrolment at {ticket.enroll_address}: {details} ({code.name})") from error
        return reply


def _verified(reply: pb.EnrollReply, ticket: Ticket, key: ec.EllipticCurvePrivateKey, data_dir: Path) -> Identity:
    """The identity in the reply, if it is for this ticket and this key."""
    hub = ticket.enroll_address
    try:
        certificate = x509.load_pem_x509_certificate(reply.certificate_pem.encode())
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(reply.ca_pem.encode()))
        names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        identity = Identity(
            device_id=ids.device_id(reply.device_id),
            tenant=ids.tenant_id(reply.tenant),
            board=ticket.board,
            hub_address=reply.hub_address,
            broker=Broker(host=reply.broker.host, port=reply.broker.port, protocol=reply.broker.protocol),
            folder=data_dir / identities.FOLDER,
        )
    except (ValueError, TypeError, InvalidSignature, ContractError, ConfigError) as error:
        raise Corrupt(f"the answer of {hub} cannot be used: {error}") from error
    if certificate.public_key() != key.public_key():
        raise Corrupt(f"{hub} certified another key than ours")
    if identity.device_id != ticket.device_id or names != [ticket.device_id]:
        raise Corrupt(f"{hub} certified {', '.join(names) or 'nobody'}, the ticket is for {ticket.device_id}")
    if not identity.hub_address:
        raise Corrupt(f"{hub} named no address for the hub")
    return identity
