"""An issuing authority: signs what peers show, and the list of what is void."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloud_hub.core.errors import Invalid, NotReady
from cloud_hub.trust.csr import CURVE
from cloud_hub.trust.extensions import SKEW, authority_key_id, key_usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate with the key that was made for it."""

    certificate_pem: str  # followed by that of the issuing authority
    key_pem: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuing:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def expires_at(self) -> datetime:
        return self.certificate.not_valid_after_utc

    def issue(
        self,
        subject: x509.Name,
        public_key: ec.EllipticCurvePublicKey,
        *,
        usage: x509.ObjectIdentifier,
        now: datetime,
        life: timedelta,
        alternatives: x509.SubjectAlternativeName | None = None,
    ) -> str:
        """The certificate and this authority's, PEM. Raises NotReady where this authority itself has expired."""
        if life <= timedelta(0):
            raise Invalid(f"a certificate must last a day or more, got {life.days} days")
        if now >= self.expires_at:
            raise NotReady("the hub's issuing certificate has expired: renew it with the root key (`cloud-hub ca renew`)")
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - SKEW)
            # it never outlives its issuer: some verifiers refuse the whole chain then
            .not_valid_after(min(now + life, self.expires_at))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(authority_key_id(self.certificate), critical=False)
        )
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        return pem(builder.sign(self.key, hashes.SHA256())) + pem(self.certificate)

    def issue_pair(
        self,
        subject: x509.Name,
        *,
        usage: x509.ObjectIdentifier,
        now: datetime,
        life: timedelta,
        alternatives: x509.SubjectAlternativeName | None = None,
    ) -> Issued:
        """With a key made here."""
        key = ec.generate_private_key(CURVE())
        chain = self.issue(subject, key.public_key(), usage=usage, now=now, life=life, alternatives=alternatives)
        return Issued(certificate_pem=chain, key_pem=pem_of_key(key))

    def crl(self, revoked: Sequence[tuple[str, datetime]], *, number: int, now: datetime, valid_for: timedelta) -> str:
        """A revocation list, PEM: serials in hexadecimal, and since when each is void."""
        entries = [
            x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(at).build()
            for serial, at in revoked
        ]
        # handed over whole: the builder's own way to add one copies all that are there
        builder = x509.CertificateRevocationListBuilder(revoked_certificates=entries)
        return (
            builder.issuer_name(self.certificate.subject)
            .last_update(now - SKEW)
            .next_update(now + valid_for)
            .add_extension(authority_key_id(self.certificate), critical=False)
            .add_extension(x509.CRLNumber(number), critical=False)
            .sign(self.key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
            .decode()
        )


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def pem_of_key(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
