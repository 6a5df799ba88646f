"""What a device holds and sends, without an agent."""

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cloud_hub.rpc.auth import certificate_proof
from cloud_hub.services.access import AccessService
from cloud_hub.services.issuance import RENEW_CONTEXT
from cloud_hub.store.database import Database
from cloud_hub.trust.csr import fingerprint
from edge_agent.core.clock import Clock


@dataclass
class DeviceKey:
    """A key and the CSR that proves it."""

    common_name: str = "whatever"  # whatever a CSR calls itself
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.common_name)])
        self._request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self.key, hashes.SHA256())

    @property
    def csr(self) -> str:
        return self._request.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.key.public_key())

    @property
    def pem(self) -> str:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

    def vouch(self, following: "DeviceKey", *, context: bytes = RENEW_CONTEXT) -> bytes:
        """Signs the CSR of the key that follows."""
        der = following._request.public_bytes(serialization.Encoding.DER)
        return self.key.sign(context + der, ec.ECDSA(hashes.SHA256()))


def show(db: Database, clock: Clock, *pems: str) -> int:
    """The device connects with each certificate; how often others were told that something changed."""
    access = AccessService(db, clock)
    told: list[None] = []
    access.listen(lambda: told.append(None))
    for pem in pems:
        access.admit(certificate_proof(pem.encode()))
    access.write_uses()
    return len(told)


def leaf(chain_pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(chain_pem.encode())


def serial(chain_pem: str) -> str:
    return f"{leaf(chain_pem).serial_number:x}"
