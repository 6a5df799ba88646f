"""Certificates that renew themselves, with a new key each time and before anyone misses the old one.

What needs a clock that is right: TLS checks the hub's own certificate by this device's time, so a clock that is outside of its
90 days reaches neither broker nor hub, nor this renewal; a device without a battery for its clock needs NTP, or a time that is
saved when it goes off. What does not: when to renew (see ``due_in_s``), and whether the hub takes the device's certificate.
"""

import hashlib
import logging
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from edge_agent.core.clock import Clock
from edge_agent.core.errors import DiskFull, Refused
from edge_agent.sync import certificate, strangers
from edge_agent.sync import identity as identities
from edge_agent.sync.certificate import Certificate
from edge_agent.sync.identity import Credential, Identity, Receipt
from edge_agent.sync.keys import Key, Keys
from protos.contract.ids import DeviceId
from protos.v1 import enrollment_pb2 as pb

log = logging.getLogger(__name__)

PROOF = b"tideline renew v1\0"  # what the old key signs begins with it, so that it cannot be anything else
RENEW_AT = 2 / 3  # of its life
SPREAD = 1 / 12  # of its life, later: devices enrolled in one hour renew over days
GAP = 1 / 10  # of its life: a clock that is wrong makes the next renewal due at once, and it waits for this
CALL_S = 30.0
_PURPOSE = "renew"


def due_in_s(held: Certificate, received_at: datetime | None, device: DeviceId, now: datetime) -> float:
    """Seconds until ``held`` is to be renewed, by a clock that may be wrong; 0 or less: now.

    A certificate that is not valid yet says that the clock is behind, nobody knows by how much: it is renewed, or a clock that
    stays behind would see it expire too late. Whatever the clock says, two renewals are a tenth of a life apart.
    """
    left = (renew_at(held, device) - now).total_seconds() if now >= held.not_before else 0.0
    if received_at is not None and now >= received_at:
        left = max(left, (received_at + held.life * GAP - now).total_seconds())
    return left


def renew_at(held: Certificate, device: DeviceId) -> datetime:
    """The same for a device after every restart, and spread over a fleet."""
    share = int.from_bytes(hashlib.sha256(device.encode()).digest()[:4], "big") / (1 << 32)
    return held.not_before + held.life * (RENEW_AT + SPREAD * share)


def renew(
    data_dir: Path,
    keys: Keys,
    clock: Clock,
    *,
    answers: datetime | None = None,
    unless: str | None = None,
    timeout_s: float = CALL_S,
) -> Certificate | None:
    """Trade the certificate for a new one, for a new key, that is durable on return; None where there was nothing to do.

    Where the hub refuses the certificate, the one before it is tried: a hub restored from a backup may know only that one.

    Args:
        answers: the ``DesiredTwin.renew_before`` that this is for.
        unless: any other version of the identity than this one is left as it is: somebody else was quicker.

    Raises:
        ConfigError: no identity, or one that cannot be used.
        LinkDown: the hub cannot be reached; the same key is asked for again next time.
        Refused: the hub takes neither certificate.
        Corrupt: the hub's answer is not a certificate for this key.
        DiskFull: the new identity cannot be written; the old one is as it was.
    """
    try:
        with identities.claim(data_dir):
            identity = identities.load(data_dir)
            version, credential = identity.version(), identity.credential()
            if unless is not None and version != unless:
                return None
            before, key, chain, renewed = _asked(identity, version, credential, keys, timeout_s)
            receipt = identity.receipt()
            newest = max((at for at in (answers, receipt.answers) if at is not None), default=None)
            identities.save(
                identity,
                key_pem=key.stored(),
                certificate_pem=chain,
                ca_pem=credential.ca_pem,
                image_root=_content(identity.image_root_path),
                director_root=_content(identity.director_root_path),
                receipt=Receipt(at=clock.now(), answers=newest, before=before),
            )
    except OSError as error:
        raise DiskFull(f"cannot write the identity to {data_dir}: {error.strerror}") from error
    keys.settled(_PURPOSE)
    return renewed


def _asked(
    identity: Identity, version: str, credential: Credential, keys: Keys, timeout_s: float
) -> tuple[str, Key, bytes, Certificate]:
    """Version of the credential that was taken, the new key, its chain and its certificate."""
    try:
        return version, *_ask(identity, credential, keys, timeout_s)
    except Refused as refused:
        older = identity.previous()
        if older is None:
            raise
        log.warning("certificate refused, trying the one before it", extra={"error": str(refused)})
        try:
            return identity.receipt().before, *_ask(identity, older, keys, timeout_s)
        except Refused:
            raise refused from None


def _ask(identity: Identity, credential: Credential, keys: Keys, timeout_s: float) -> tuple[Key, bytes, Certificate]:
    if not identity.enroll_address:
        raise Refused(f"{identity.folder} names no address to renew at: enrol again with `edge-agent enroll --force`")
    held, old = certificate.read(credential.certificate_pem), keys.load(credential.key_pem)
    key = keys.pending(_PURPOSE, held.serial)
    csr = key.request(identity.device_id)
    request = pb.RenewRequest(
        certificate_pem=held.pem.decode(),
        csr_pem=x509.load_der_x509_csr(csr).public_bytes(serialization.Encoding.PEM).decode(),
        signature=old.sign(PROOF + csr),
    )
    reply = strangers.renew(identity.enroll_address, credential.ca_pem, request, timeout_s)
    renewed = certificate.verified(
        reply.certificate_pem,
        reply.ca_pem,
        root_pem=credential.ca_pem,
        public_der=key.public_der(),
        device=identity.device_id,
        hub=identity.enroll_address,
    )
    return key, reply.certificate_pem.encode(), renewed


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
