"""A throw-away certificate authority."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge_agent.sync import identity as identities
from edge_agent.sync.identity import Broker, Identity
from protos.contract import ids


class Authority:
    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        usage = x509.BasicConstraints(ca=True, path_length=0)
        builder = self._builder(self._name, self._key.public_key()).add_extension(usage, critical=True)
        self._certificate = builder.sign(self._key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def certify(self, name: str, key: ec.EllipticCurvePublicKey) -> bytes:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = self._builder(subject, key).add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str) -> tuple[bytes, bytes]:
        """Private key and certificate, PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        return private_pem(key), self.certify(name, key.public_key())

    def identity(self, data_dir: Path, name: str, *, port: int, protocol: int = 5) -> Identity:
        """Saved for a device, with the broker and the hub at ``port`` of this machine."""
        key_pem, certificate_pem = self.issue(name)
        identity = Identity(
            device_id=ids.device_id(name),
            tenant=ids.tenant_id("default"),
            board="camera-x86",
            hub_address=f"localhost:{port}",
            broker=Broker(host="localhost", port=port, protocol=protocol),
            folder=data_dir / identities.FOLDER,
        )
        return identities.save(identity, key_pem=key_pem, certificate_pem=certificate_pem, ca_pem=self.pem)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=1))
        )


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
