"""A throw-away certificate authority."""

import ipaddress
from collections.abc import Iterable
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
    """A root, and an issuing authority below it that signs everything."""

    def __init__(self) -> None:
        root_key, self._key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        root, self._name = _name("test root"), _name("test issuing authority")
        lasting = (datetime.now(UTC) - timedelta(days=1000), datetime.now(UTC) + timedelta(days=1000))
        self._root = (
            _builder(root, root, root_key.public_key(), lasting)
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .sign(root_key, hashes.SHA256())
        )
        self._issuing = (
            _builder(self._name, root, self._key.public_key(), lasting)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(root_key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        """The root: what a peer trusts."""
        return _pem(self._root)

    def certify(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        *,
        life: timedelta = timedelta(days=1),
        age: timedelta = timedelta(minutes=5),
    ) -> bytes:
        """A certificate issued ``age`` ago that ends ``life`` later, followed by the issuing authority's."""
        start = datetime.now(UTC) - age
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = (
            _builder(_name(name), self._name, key, (start, start + life))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return _pem(certificate) + _pem(self._issuing)

    def crl(self, serials: Iterable[str]) -> bytes:
        """The issuing authority's list of revoked certificates; serials are hexadecimal."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        builder = builder.last_update(now - timedelta(days=1)).next_update(now + timedelta(days=30))
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(now - timedelta(hours=1))
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(
        self, name: str, *, life: timedelta = timedelta(days=1), age: timedelta = timedelta(minutes=5)
    ) -> tuple[bytes, bytes]:
        """Private key and certificate chain, PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        return private_pem(key), self.certify(name, key.public_key(), life=life, age=age)

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


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, valid: tuple[datetime, datetime]
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
    )
