"""Certificate signing requests from strangers: proof that they hold a key, and nothing else."""

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloud_hub.core.errors import Invalid
from protos.contract import ids
from protos.contract.ids import Digest

MAX_PEM_BYTES = 16 * 1024  # of a CSR or a certificate that a stranger sends
CURVE = ec.SECP256R1


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningRequest:
    """Whoever sent it holds the key; whatever else it says was left behind."""

    public_key: ec.EllipticCurvePublicKey
    der: bytes  # as it was signed


def checked_csr(csr_pem: str) -> SigningRequest:
    """Raises Invalid for anything but a CSR of an EC P-256 key that is signed by that key."""
    if len(csr_pem) > MAX_PEM_BYTES:
        raise Invalid(f"CSR is longer than {MAX_PEM_BYTES} bytes")
    try:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        public_key = csr.public_key()
        hashed, proven = csr.signature_hash_algorithm, csr.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise Invalid("CSR cannot be read: send a PEM CSR of an EC P-256 key") from error
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(public_key.curve, CURVE):
        raise Invalid("CSR must be for an EC P-256 key")
    if not proven or not isinstance(hashed, hashes.SHA256 | hashes.SHA384 | hashes.SHA512):
        raise Invalid("CSR is not signed by its own key with SHA-256 or better")
    return SigningRequest(public_key=public_key, der=csr.public_bytes(serialization.Encoding.DER))


def fingerprint(public_key: ec.EllipticCurvePublicKey) -> Digest:
    """Digest of the key's SubjectPublicKeyInfo in DER: what an agent prints, and what an admin compares."""
    info = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return ids.digest_of(info)
