"""How a device comes to a certificate: what it must prove, and what is kept of the answer."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cloud_hub.core.errors import Denied, Exhausted
from cloud_hub.store import certificates, fleet
from cloud_hub.store.certificates import Certificate
from cloud_hub.store.database import Tx
from cloud_hub.trust.authority import Authority
from cloud_hub.trust.csr import MAX_PEM_BYTES, SigningRequest, fingerprint
from protos.contract.ids import DeviceId, Digest, TenantId

RENEW_CONTEXT = b"tideline renew v1\0"  # before the CSR, in what the old key signs: it signs nothing else that looks like this
RENEWALS_A_DAY = 10  # of one device: what a broken one may ask for, and what may be lost on the way
NOT_RENEWABLE = (
    "the certificate cannot be renewed: it is none of this hub's, was revoked, or expired too long ago; enrol the device again"
)
_MAX_SIGNATURE_BYTES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """A certificate as a stranger shows it. Nothing in it is believed but what the hub's own row of its serial confirms."""

    serial: str
    key: ec.EllipticCurvePublicKey

    @property
    def key_digest(self) -> Digest:
        return fingerprint(self.key)

    def check_signature(self, signature: bytes, request: SigningRequest) -> None:
        """That whoever asks holds the key of this certificate. Raises Denied."""
        if len(signature) > _MAX_SIGNATURE_BYTES:
            raise Denied(NOT_RENEWABLE)
        try:
            self.key.verify(signature, RENEW_CONTEXT + request.der, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise Denied(NOT_RENEWABLE) from error


def presented(certificate_pem: str) -> Presented:
    """The first certificate in it. Raises Denied."""
    if len(certificate_pem) > MAX_PEM_BYTES:
        raise Denied(NOT_RENEWABLE)
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
        key = certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise Denied(NOT_RENEWABLE) from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Denied(NOT_RENEWABLE)
    return Presented(serial=f"{certificate.serial_number:x}", key=key)


def renewable(tx: Tx, shown: Presented, now: datetime, grace: timedelta) -> Certificate:
    """The row of the certificate. Raises Denied in the same words whatever is wrong."""
    row = certificates.find(tx, shown.serial)
    if row is None or row.role != certificates.DEVICE or row.key_digest != shown.key_digest:
        raise Denied(NOT_RENEWABLE)
    if row.revoked_at is not None or row.expires_at + grace <= now:
        raise Denied(NOT_RENEWABLE)
    device = DeviceId(row.subject)
    if fleet.tenants(tx, [device]).get(device) != row.tenant:
        raise Denied(NOT_RENEWABLE)
    return row


def check_rate(tx: Tx, device: DeviceId, now: datetime) -> None:
    """Raises Exhausted."""
    if certificates.issued_since(tx, device, now - timedelta(days=1)) >= RENEWALS_A_DAY:
        raise Exhausted(f"device {device} was given {RENEWALS_A_DAY} certificates within a day: it gets the next one later")


class Issuer:
    def __init__(self, authority: Authority, days: int) -> None:
        self._authority = authority
        self._days = days

    def issue(self, tx: Tx, tenant: TenantId, device: DeviceId, csr_pem: str, key_digest: Digest, now: datetime) -> str:
        """Sign, record, and keep the answer until the device shows it. The chain. Raises Invalid."""
        chain = self._authority.sign_device(csr_pem, tenant=tenant, device_id=device, days=self._days)
        leaf = x509.load_pem_x509_certificate(chain.encode())
        certificate = Certificate(
            serial=f"{leaf.serial_number:x}",
            tenant=tenant,
            role=certificates.DEVICE,
            subject=device,
            key_digest=key_digest,
            issued_at=now,
            expires_at=leaf.not_valid_after_utc,
        )
        certificates.add_unclaimed(tx, certificate, chain)
        return chain
