"""The authority on disk: ``root.pem``, ``root.key``, ``issuing-<number>.pem`` and ``.key``; the highest number signs.

Older issuing authorities stay as long as certificates of theirs are good, for only they can sign the list of those that are
not. A pair is whole once its ``.pem`` is there; ``root.pem`` is written last of all, and marks the authority whole.
"""

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloud_hub.core.errors import Conflict, Invalid, NotFound, NotReady
from cloud_hub.trust.issuing import Issuing, pem, pem_of_key
from edge_agent.core.files import sync_folder, write_atomic

_ISSUING = re.compile(r"issuing-([0-9]{1,6})\.pem")
_OLDER = "ca.pem"  # one certificate for everything, as hubs made it before there was an issuing one


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One writer at a time, of all processes."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def check_free(self) -> None:
        """Raises Conflict where there is an authority."""
        self._check_age()
        if self._root.exists():
            raise Conflict(f"{self.path} holds a certificate authority already: every device enrolled with it would be lost")

    def write(self, root: x509.Certificate, root_key: ec.EllipticCurvePrivateKey, issuing: Issuing) -> None:
        write_atomic(self._root_key, pem_of_key(root_key).encode())
        self._write_issuing(1, issuing)
        write_atomic(self._root, pem(root).encode(), mode=0o644)

    def add(self, issuing: Issuing) -> None:
        """The one that signs from now on."""
        self._write_issuing(max(self.numbers(), default=0) + 1, issuing)

    def drop(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            certificate, key = self._pair(number)
            certificate.unlink()  # first: a certificate without its key, after a crash in between, is one that cannot be read
            key.unlink(missing_ok=True)
        sync_folder(self.path)

    def numbers(self) -> tuple[int, ...]:
        """Of the issuing authorities, oldest first."""
        return tuple(sorted(int(found[1]) for path in self.path.iterdir() if (found := _ISSUING.fullmatch(path.name))))

    def root(self) -> x509.Certificate:
        """Raises NotFound, Invalid."""
        self._check_age()
        try:
            return x509.load_pem_x509_certificate(self._root.read_bytes())
        except FileNotFoundError as error:
            raise NotFound(f"no certificate authority in {self.path}: create one first") from error
        except ValueError as error:
            raise self._damaged() from error

    def root_key(self, root: x509.Certificate) -> ec.EllipticCurvePrivateKey:
        """Raises NotReady where it is kept elsewhere, Invalid where it is another root's."""
        try:
            key = serialization.load_pem_private_key(self._root_key.read_bytes(), password=None)
        except FileNotFoundError as error:
            raise NotReady(
                f"the root key is not here: put {self._root_key} back, do this again, and take it away afterwards"
            ) from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise self._damaged() from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != root.public_key():
            raise Invalid(f"{self._root_key} is not the key of {self._root}: put the right one there")
        return key

    def has_root_key(self) -> bool:
        return self._root_key.exists()

    def issuing(self, number: int, root: x509.Certificate) -> Issuing:
        """Raises Invalid where its files do not belong together or to this root."""
        certificate_path, key_path = self._pair(number)
        try:
            certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
            key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
        except FileNotFoundError as error:
            raise Invalid(f"{error.filename} is missing: restore it from a backup") from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise self._damaged() from error
        try:
            certificate.verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise self._foreign() from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise self._foreign()
        return Issuing(certificate=certificate, key=key)

    @property
    def _root(self) -> Path:
        return self.path / "root.pem"

    @property
    def _root_key(self) -> Path:
        return self.path / "root.key"

    def _pair(self, number: int) -> tuple[Path, Path]:
        return self.path / f"issuing-{number}.pem", self.path / f"issuing-{number}.key"

    def _write_issuing(self, number: int, issuing: Issuing) -> None:
        certificate, key = self._pair(number)
        write_atomic(key, pem_of_key(issuing.key).encode())
        write_atomic(certificate, pem(issuing.certificate).encode(), mode=0o644)

    def _check_age(self) -> None:
        if (self.path / _OLDER).exists():
            raise Invalid(
                f"{self.path} holds an authority of an older version ({_OLDER}), which this one cannot go on with: "
                "begin with an empty data_dir, and enrol the devices again"
            )

    def _damaged(self) -> Invalid:
        return Invalid(f"the certificate authority in {self.path} cannot be read: restore it from a backup")

    def _foreign(self) -> Invalid:
        return Invalid(f"keys and certificates in {self.path} do not belong together: restore all from one backup")
