"""The private keys of a device: files now. A TPM or a PKCS#11 token would be another ``Keys``; see docs/security.md."""

import hashlib
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge_agent.core.errors import ConfigError, DiskFull
from edge_agent.core.files import sync_folder, write_atomic

FOLDER = "pending-keys"


class Key(Protocol):
    """An EC P-256 key pair. Neither its repr nor any error it raises shows the private half."""

    def public_der(self) -> bytes:
        """SubjectPublicKeyInfo."""

    def sign(self, data: bytes) -> bytes:
        """ECDSA with SHA-256, DER."""

    def request(self, name: str) -> bytes:
        """A certificate signing request for the common name ``name``, DER, signed by this key."""

    def stored(self) -> bytes:
        """What ``key.pem`` holds and TLS is given: the key itself, or the reference by which TLS finds it in a token."""


class Keys(Protocol):
    """Makes keys and finds them again."""

    def pending(self, purpose: str, tag: str) -> Key:
        """The key made for ``purpose`` and ``tag`` that is not in use yet: after a restart the same one, made if there is none.

        On return it survives a power cut. A key made for the same purpose with another tag is destroyed. Raises DiskFull.
        """

    def settled(self, purpose: str) -> None:
        """The pending key of ``purpose`` is in use now. Does not raise where the disk fails: the next ``pending`` cleans up."""

    def load(self, stored: bytes) -> Key:
        """The key that ``Key.stored`` told of. Raises ConfigError."""


class FileKey:
    """See ``Key``."""

    __slots__ = ("_key",)

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    def public_der(self) -> bytes:
        return self._key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))

    def request(self, name: str) -> bytes:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self._key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.DER)

    def stored(self) -> bytes:
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


class FileKeys:
    """See ``Keys``: keys in files of mode 0600 below ``data_dir``."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / FOLDER

    def pending(self, purpose: str, tag: str) -> Key:
        path = self._folder / f"{purpose}-{tag}.pem"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._remove(purpose, but=path)
            try:
                return self.load(path.read_bytes())
            except (FileNotFoundError, ConfigError):  # a damaged one certifies nothing: nobody has seen it
                key = FileKey(ec.generate_private_key(ec.SECP256R1()))
                write_atomic(path, key.stored(), mode=0o600)
                sync_folder(self._folder.parent)
                return key
        except OSError as error:
            raise DiskFull(f"cannot keep a new key in {self._folder}: {error.strerror}") from error

    def settled(self, purpose: str) -> None:
        try:
            self._remove(purpose, but=None)
        except OSError:
            return  # named as the pending key of what is replaced by now, it is used no more

    def load(self, stored: bytes) -> Key:
        try:
            key = serialization.load_pem_private_key(stored, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ConfigError("the private key cannot be read: enrol again with `edge-agent enroll`") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ConfigError("the private key is not of EC P-256: enrol again with `edge-agent enroll`")
        return FileKey(key)

    def _remove(self, purpose: str, *, but: Path | None) -> None:
        for path in self._folder.glob(f"{purpose}-*.pem"):
            if path != but:
                path.unlink(missing_ok=True)


def fingerprint(key: Key) -> str:
    """``sha256:<hex>`` of the public key: what an admin compares."""
    return "sha256:" + hashlib.sha256(key.public_der()).hexdigest()


def tag_of(secret: str) -> str:
    """A name for what belongs to ``secret``, which it does not tell."""
    return hashlib.sha256(secret.encode()).hexdigest()[:16]
