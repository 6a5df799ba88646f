"""What a certificate says, and whether it is what was asked for. No files, no network, no clock."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from edge_agent.core.errors import Corrupt
from protos.contract.ids import DeviceId

MAX_CHAIN_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    serial: str  # hexadecimal
    not_before: datetime
    not_after: datetime
    pem: bytes  # the device's own, without the chain

    @property
    def life(self) -> timedelta:
        return max(self.not_after - self.not_before, timedelta(seconds=1))


def read(chain_pem: bytes) -> Certificate:
    """The first certificate of a chain. Raises Corrupt."""
    try:
        return _read(x509.load_pem_x509_certificate(chain_pem))
    except ValueError as error:
        raise Corrupt(f"the certificate cannot be read: {error}") from error


def verified(chain_pem: str, ca_pem: str, *, root_pem: bytes, public_der: bytes, device: DeviceId, hub: str) -> Certificate:
    """The certificate that ``hub`` sent for our key, if it and the issuing authority's lead to the root we trust.

    Times are not looked at: this device's clock may be wrong, and the hub judges by its own. Raises Corrupt.
    """
    try:
        if len(chain_pem) + len(ca_pem) > MAX_CHAIN_BYTES:
            raise ValueError(f"{len(chain_pem) + len(ca_pem)} bytes of certificates")
        root = x509.load_pem_x509_certificate(root_pem)
        if x509.load_pem_x509_certificate(ca_pem.encode()) != root:
            raise ValueError("its root is not the one this device trusts")
        leaf, issuing = _pair(x509.load_pem_x509_certificates(chain_pem.encode()))
        issuing.verify_directly_issued_by(root)
        leaf.verify_directly_issued_by(issuing)
        names = [str(name.value) for name in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        public = leaf.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, TypeError) as error:
        raise Corrupt(f"the answer of {hub} cannot be used: {error}") from error
    except InvalidSignature as error:
        raise Corrupt(f"the answer of {hub} cannot be used: its certificates do not lead to the root we trust") from error
    if public != public_der:
        raise Corrupt(f"{hub} certified another key than ours")
    if names != [device]:
        raise Corrupt(f"{hub} certified {', '.join(names) or 'nobody'}, and not {device}")
    return _read(leaf)


def _pair(chain: list[x509.Certificate]) -> tuple[x509.Certificate, x509.Certificate]:
    if len(chain) != 2:
        raise ValueError(f"{len(chain)} certificates, expected the device's own and the issuing authority's")
    leaf, issuing = chain
    if not _is_authority(issuing) or _is_authority(leaf):
        raise ValueError("the second certificate, and not the first, must be an authority's")
    return leaf, issuing


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _read(certificate: x509.Certificate) -> Certificate:
    return Certificate(
        serial=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        pem=certificate.public_bytes(serialization.Encoding.PEM),
    )
