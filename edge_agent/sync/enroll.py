"""Trading a one-time ticket for a certificate."""

import base64
import binascii
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from edge_agent.core.backoff import Backoff
from edge_agent.core.clock import Clock, SystemClock
from edge_agent.core.errors import ConfigError, Corrupt, DiskFull, LinkDown, Refused, Unapproved
from edge_agent.sync import certificate, strangers
from edge_agent.sync import identity as identities
from edge_agent.sync.identity import Broker, Identity, Receipt
from edge_agent.sync.keys import FileKeys, Key, fingerprint, tag_of
from protos.contract import ids
from protos.contract.errors import ContractError
from protos.contract.ids import DeviceId
from protos.v1 import enrollment_pb2 as pb

log = logging.getLogger(__name__)

MAX_TICKET_BYTES = 256 * 1024
LOST_ANSWERS = 1  # repeats at once where the hub did not answer: it may have, and takes the same key again
FIRST_LOOK_S, LONGEST_LOOK_S = 2.0, 30.0  # between asking whether an admin has approved
_PURPOSE = "enroll"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What ``hubctl device create --ticket FILE`` writes."""

    device_id: DeviceId
    board: str
    token: str = field(repr=False)
    ca_pem: str = field(repr=False)
    enroll_address: str  # host:port
    image_root: bytes = field(repr=False, default=b"")  # TUF roots; without them the device takes no update
    director_root: bytes = field(repr=False, default=b"")


def read_ticket(path: Path) -> Ticket:
    """Raises ConfigError naming what is wrong with the file."""
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(MAX_TICKET_BYTES))
        texts = {name: values[name] for name in ("device_id", "board", "token", "ca_pem", "enroll_address")}
        if not all(isinstance(text, str) and text for text in texts.values()):
            raise TypeError("every field must be a text that is not empty")
        roots = {name: base64.b64decode(values.get(name) or "", validate=True) for name in ("image_root", "director_root")}
        if bool(roots["image_root"]) != bool(roots["director_root"]):
            raise ValueError("it has one of the two roots of trust, and updates need both")
        device = ids.device_id(texts.pop("device_id"))
        return Ticket(device_id=device, image_root=roots["image_root"], director_root=roots["director_root"], **texts)
    except OSError as error:
        raise ConfigError(f"cannot read ticket {path}: {error.strerror}") from error
    except KeyError as error:
        raise ConfigError(f"ticket {path} has no {error}: make a new one with `hubctl device create --ticket FILE`") from error
    except (ValueError, TypeError, AttributeError, binascii.Error) as error:
        raise ConfigError(f"{path} is not a ticket ({error}): make one with `hubctl device create --ticket FILE`") from error


def enroll(
    ticket: Ticket | Path,
    data_dir: Path,
    *,
    force: bool = False,
    timeout_s: float = 30.0,
    wait_s: float = 0.0,
    waiting: Callable[[str], None] = lambda _: None,
    clock: Clock | None = None,
    pause: Callable[[float], Any] = time.sleep,
) -> Identity:
    """Make a key that never leaves the device, have it certified, and save the identity.

    The key is on the disk before the hub hears of it: the same ticket asks with the same key again after a lost answer, a
    reboot, or while an admin has not approved. ``waiting`` is called once with the fingerprint to approve; then the hub is
    asked again for ``wait_s``.

    Raises:
        ConfigError: the ticket cannot be used.
        Unapproved: no admin has approved within ``wait_s``; the same call goes on.
        Refused: the device is enrolled already and ``force`` is off, or the hub said no.
        LinkDown: the hub cannot be reached; the same call may be made again.
        Corrupt: the hub's answer is not a certificate for this key.
        DiskFull: the identity cannot be written; the same call may be made again.
    """
    if isinstance(ticket, Path):
        ticket = read_ticket(ticket)
    if identities.exists(data_dir) and not force:
        raise Refused(f"{data_dir} is enrolled already: use --force to replace its identity")
    keys = FileKeys(data_dir)
    key = keys.pending(_PURPOSE, tag_of(ticket.token))
    clock = clock or SystemClock()
    reply = _patiently(ticket, key, timeout_s, wait_s, waiting, clock, pause)
    identity = _verified(reply, ticket, key, data_dir)
    try:
        with identities.claim(data_dir):
            identities.save(
                identity,
                key_pem=key.stored(),
                certificate_pem=reply.certificate_pem.encode(),
                ca_pem=reply.ca_pem.encode(),
                image_root=ticket.image_root,
                director_root=ticket.director_root,
                receipt=Receipt(at=clock.now()),
            )
    except OSError as error:
        raise DiskFull(f"cannot write the identity to {data_dir} ({error.strerror}): make room and enrol again") from error
    keys.settled(_PURPOSE)
    log.info("enrolled", extra={"device": identity.device_id, "tenant": identity.tenant, "hub": identity.hub_address})
    return identity


def _patiently(
    ticket: Ticket,
    key: Key,
    timeout_s: float,
    wait_s: float,
    waiting: Callable[[str], None],
    clock: Clock,
    pause: Callable[[float], Any],
) -> pb.EnrollReply:
    """Ask until there is an answer, an admin's one too. Once one is waited for, a link that is down is waited for as well."""
    deadline, backoff, told, lost = clock.monotonic() + wait_s, Backoff(FIRST_LOOK_S, LONGEST_LOOK_S), False, 0
    while True:
        try:
            return _ask(ticket, key, timeout_s)
        except Unapproved as error:
            if not told:
                waiting(fingerprint(key))
                told = True
            left_s = deadline - clock.monotonic()
            if left_s <= 0:
                raise Unapproved(f"{error}; the key is kept: give the same command again once it is approved") from error
            pause(min(backoff.next(), left_s))
        except LinkDown:
            left_s = deadline - clock.monotonic()
            lost += 1
            if not (told and left_s > 0) and lost > LOST_ANSWERS:
                raise
            pause(min(backoff.next(), left_s) if told and left_s > 0 else FIRST_LOOK_S / 4)


def _ask(ticket: Ticket, key: Key, timeout_s: float) -> pb.EnrollReply:
    csr = x509.load_der_x509_csr(key.request(ticket.device_id)).public_bytes(serialization.Encoding.PEM).decode()
    request = pb.EnrollRequest(token=ticket.token, csr_pem=csr, board=ticket.board)
    return strangers.enroll(ticket.enroll_address, ticket.ca_pem.encode(), request, timeout_s)


def _verified(reply: pb.EnrollReply, ticket: Ticket, key: Key, data_dir: Path) -> Identity:
    """The identity in the reply, if it is for this ticket and this key."""
    hub = ticket.enroll_address
    certificate.verified(
        reply.certificate_pem,
        reply.ca_pem,
        root_pem=ticket.ca_pem.encode(),
        public_der=key.public_der(),
        device=ticket.device_id,
        hub=hub,
    )
    try:
        identity = Identity(
            device_id=ids.device_id(reply.device_id),
            tenant=ids.tenant_id(reply.tenant),
            board=ticket.board,
            hub_address=reply.hub_address,
            broker=Broker(host=reply.broker.host, port=reply.broker.port, protocol=reply.broker.protocol),
            folder=data_dir / identities.FOLDER,
            enroll_address=reply.enroll_address or hub,
        )
    except (ContractError, ConfigError) as error:
        raise Corrupt(f"the answer of {hub} cannot be used: {error}") from error
    if identity.device_id != ticket.device_id:
        raise Corrupt(f"{hub} enrolled {identity.device_id}, the ticket is for {ticket.device_id}")
    if not identity.hub_address:
        raise Corrupt(f"{hub} named no address for the hub")
    return identity
