"""The root authority: its key signs issuing authorities only, and may be kept away from the hub."""

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cloud_hub.trust import subjects
from cloud_hub.trust.csr import CURVE
from cloud_hub.trust.extensions import SKEW, authority_key_id, key_usage
from cloud_hub.trust.issuing import Issuing

_ROOT_LIFE = timedelta(days=20 * 365)  # a device trusts it from enrolment on, and has no other way to learn a new one
_ISSUING_LIFE = timedelta(days=5 * 365)


def make_root(now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(CURVE())
    name = subjects.authority_name("root")
    builder = _authority(name, name, key.public_key(), path_length=1)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    return builder.not_valid_before(now - SKEW).not_valid_after(now + _ROOT_LIFE).sign(key, hashes.SHA256()), key


def make_issuing(root: x509.Certificate, root_key: ec.EllipticCurvePrivateKey, now: datetime) -> Issuing:
    """A new issuing authority with a key of its own; it never outlives the root."""
    key = ec.generate_private_key(CURVE())
    builder = _authority(subjects.authority_name("issuing"), root.subject, key.public_key(), path_length=0)
    builder = builder.add_extension(authority_key_id(root), critical=False).not_valid_before(now - SKEW)
    certificate = builder.not_valid_after(min(now + _ISSUING_LIFE, root.not_valid_after_utc)).sign(root_key, hashes.SHA256())
    return Issuing(certificate=certificate, key=key)


def _authority(
    name: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, *, path_length: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(key_usage(ca=True), critical=True)
    )
