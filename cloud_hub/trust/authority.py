"""The hub's certificate authority: EC P-256. The common name says who, O the tenant, OU the role.

Devices carry their id as common name. Every other name holds a colon, which no device id can: ``user:<name>``, ``tl:hub``,
``tl:ingest-<number>``.
"""

import fcntl
import ipaddress
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud_hub.core.errors import Conflict, Invalid, NotFound
from cloud_hub.core.model import DEFAULT_TENANT, Role
from edge_agent.core.clock import Clock, SystemClock
from edge_agent.core.files import write_atomic
from protos.contract import ids
from protos.contract.ids import DeviceId, TenantId

HUB_NAME = "tl:hub"
USER_PREFIX = "user:"
MAX_INGEST = 16  # processes that may share the telemetry of one broker

_CA_DAYS = 20 * 365  # a device trusts it from enrolment on, and has no other way to learn a new one
_SERVER_DAYS = 397
_USER_DAYS = 365
_SKEW = timedelta(minutes=10)  # a device's clock may be behind ours
_MAX_CSR_BYTES = 16 * 1024
_MAX_NAME = 64  # X.520 ub-common-name
_CURVE = ec.SECP256R1


def ingest_name(number: int) -> str:
    """Common name of the ``number``-th process that ingests; the hub itself is the first."""
    return f"tl:ingest-{number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate with the key that was made for it."""

    certificate_pem: str
    key_pem: str = field(repr=False)


class Authority:
    """Issues every certificate of one hub. Thread-safe."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, clock: Clock) -> None:
        self._certificate = certificate
        self._key = key
        self._clock = clock

    @classmethod
    def create(cls, folder: Path, *, clock: Clock | None = None) -> "Authority":
        """Make a new authority in ``folder``. Raises Conflict where one is there already."""
        clock = clock or SystemClock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(folder):
            if _certificate_path(folder).exists():
                raise Conflict(f"{folder} holds a certificate authority already: every device enrolled with it would be lost")
            key = ec.generate_private_key(_CURVE())
            certificate = _self_signed(key, clock)
            write_atomic(_key_path(folder), _pem_of_key(key).encode())
            write_atomic(_certificate_path(folder), _pem(certificate).encode(), mode=0o644)  # last: it marks the pair whole
        return cls(certificate, key, clock)

    @classmethod
    def load(cls, folder: Path, *, clock: Clock | None = None) -> "Authority":
        """Raises NotFound where there is none, Invalid where its files do not belong together."""
        try:
            certificate = x509.load_pem_x509_certificate(_certificate_path(folder).read_bytes())
            key = serialization.load_pem_private_key(_key_path(folder).read_bytes(), password=None)
        except FileNotFoundError as error:
            raise NotFound(f"no certificate authority in {folder}: create one first") from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise Invalid(f"the certificate authority in {folder} cannot be read: restore it from a backup") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise Invalid(f"key and certificate in {folder} do not belong together: restore both from one backup")
        return cls(certificate, key, clock or SystemClock())

    @property
    def ca_pem(self) -> str:
        """What a peer trusts this hub by."""
        return _pem(self._certificate)

    def sign_device(self, csr_pem: str, *, tenant: TenantId, device_id: DeviceId, days: int) -> str:
        """A client certificate for the key that signed ``csr_pem``; no name is taken from the CSR. Raises Invalid."""
        public_key = _checked_csr(csr_pem)
        subject = _name(ids.device_id(device_id), tenant, Role.DEVICE)
        return self._issue(subject, public_key, days=days, usage=ExtendedKeyUsageOID.CLIENT_AUTH)

    def sign_user(
        self, name: str, *, tenant: TenantId = DEFAULT_TENANT, role: Role = Role.ADMIN, days: int = _USER_DAYS
    ) -> Issued:
        """A user's identity. Raises Invalid for a name that is empty, too long or not printable."""
        common_name = USER_PREFIX + name
        if not name or not name.isprintable() or len(common_name) > _MAX_NAME:
            raise Invalid(f"user name must be 1..{_MAX_NAME - len(USER_PREFIX)} printable characters, got {name[:80]!r}")
        return self._issue_pair(_name(common_name, tenant, role), days=days, usage=ExtendedKeyUsageOID.CLIENT_AUTH)

    def issue_hub_client(self, name: str = HUB_NAME, *, days: int = _SERVER_DAYS) -> Issued:
        """The identity with which the hub itself connects to its broker, or with ``ingest_name`` one of those that ingest."""
        subject = _name(name, DEFAULT_TENANT, "hub")
        return self._issue_pair(subject, days=days, usage=ExtendedKeyUsageOID.CLIENT_AUTH)

    def issue_server(self, names: Sequence[str], *, days: int = _SERVER_DAYS) -> Issued:
        """A server certificate for DNS names and IP addresses. Raises Invalid."""
        if not names:
            raise Invalid("a server certificate needs at least one name")
        alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
        subject = _name("tl:server", DEFAULT_TENANT, "hub")
        return self._issue_pair(subject, days=days, usage=ExtendedKeyUsageOID.SERVER_AUTH, alternatives=alternatives)

    def _issue_pair(
        self,
        subject: x509.Name,
        *,
        days: int,
        usage: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None = None,
    ) -> Issued:
        key = ec.generate_private_key(_CURVE())
        certificate = self._issue(subject, key.public_key(), days=days, usage=usage, alternatives=alternatives)
        return Issued(certificate_pem=certificate, key_pem=_pem_of_key(key))

    def _issue(
        self,
        subject: x509.Name,
        public_key: ec.EllipticCurvePublicKey,
        *,
        days: int,
        usage: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None = None,
    ) -> str:
        issuer = self._certificate
        builder = _builder(subject, issuer.subject, public_key, self._clock, days)
        # an issued certificate never outlives its issuer: some verifiers refuse the whole chain then
        builder = builder.not_valid_after(min(self._clock.now() + timedelta(days=days), issuer.not_valid_after_utc))
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(_authority_key_id(issuer), critical=False)
        )
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        return _pem(builder.sign(self._key, hashes.SHA256()))


def _checked_csr(csr_pem: str) -> ec.EllipticCurvePublicKey:
    if len(csr_pem) > _MAX_CSR_BYTES:
        raise Invalid(f"CSR is longer than {_MAX_CSR_BYTES} bytes")
    try:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        public_key = csr.public_key()
        proven = csr.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Invalid("CSR cannot be read: send a PEM CSR of an EC P-256 key") from error
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(public_key.curve, _CURVE):
        raise Invalid("CSR must be for an EC P-256 key")
    if not proven:
        raise Invalid("CSR is not signed by its own key")
    return public_key


def _self_signed(key: ec.EllipticCurvePrivateKey, clock: Clock) -> x509.Certificate:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tideline"),
            # two hubs' authorities must differ by name, or a verifier that holds both tries the wrong one
            x509.NameAttribute(NameOID.COMMON_NAME, f"Tideline hub CA {os.urandom(4).hex()}"),
        ]
    )
    builder = _builder(subject, subject, key.public_key(), clock, _CA_DAYS)
    return (
        builder.not_valid_after(clock.now() + timedelta(days=_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, clock: Clock, days: int
) -> x509.CertificateBuilder:
    if days < 1:
        raise Invalid(f"a certificate must last a day or more, got {days} days")
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(clock.now() - _SKEW)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _authority_key_id(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str, tenant: TenantId, role: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ids.tenant_id(tenant)),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, str(role)),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError as error:
        raise Invalid(f"{name[:253]!r} is neither an IP address nor a DNS name") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _key_path(folder: Path) -> Path:
    return folder / "ca.key"


def _certificate_path(folder: Path) -> Path:
    return folder / "ca.pem"


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
