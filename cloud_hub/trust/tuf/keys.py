"""The hub's own signing keys: Ed25519, a file each, readable by the hub only. Root keys are never among them."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, SSlibKey

from cloud_hub.core.errors import NotReady
from cloud_hub.core.targets import DIRECTOR, IMAGE
from edge_agent.core.files import sweep, write_atomic

ONLINE_ROLES = (
    (IMAGE, "timestamp"),
    (IMAGE, "snapshot"),
    (IMAGE, "targets"),
    (IMAGE, "bins"),
    (DIRECTOR, "targets"),
)

_BEGIN = b"-----BEGIN "


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineKey:
    repository: str
    role: str
    number: int  # of all keys of this role; the highest is the newest
    signer: CryptoSigner = field(repr=False, compare=False)

    @property
    def public(self) -> SSlibKey:
        return self.signer.public_key

    @property
    def id(self) -> str:
        return str(self.public.keyid)


class OnlineKeys:
    """Thread-safe; several processes may share the folder. What a key is for stands above it in its file (RFC 7468, 2)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, OnlineKey] = {}
        self._lock = threading.Lock()
        if folder.is_dir():
            sweep(folder)

    def find(self, id: str) -> OnlineKey | None:
        """None where this hub does not hold it. Raises NotReady for a file that is no key."""
        with self._lock:
            if id not in self._known:
                path = self._path(id)
                if not path.is_file():
                    return None
                self._known[id] = _read(path)
            return self._known[id]

    def get(self, id: str, what: str) -> OnlineKey:
        """Raises NotReady, naming ``what`` it is needed for."""
        key = self.find(id)
        if key is None:
            raise NotReady(
                f"the key {id[:16]} of {what} is not in {self._folder}: restore it, or name new ones with "
                "'hubctl trust rotate --online all'"
            )
        return key

    def all(self) -> list[OnlineKey]:
        """By repository, role and age."""
        ids = sorted(path.stem for path in self._folder.glob("*.pem")) if self._folder.is_dir() else []
        found = [key for key in map(self.find, ids) if key is not None]
        return sorted(found, key=lambda key: (key.repository, key.role, key.number, key.id))

    def newest(self, repository: str, role: str) -> OnlineKey | None:
        return next(iter(reversed([key for key in self.all() if (key.repository, key.role) == (repository, role)])), None)

    def make(self, repository: str, role: str) -> OnlineKey:
        """On return it survives a power cut."""
        last = self.newest(repository, role)
        number = 1 if last is None else last.number + 1
        key = OnlineKey(repository=repository, role=role, number=number, signer=CryptoSigner(Ed25519PrivateKey.generate()))
        heading = f"repository: {repository}\nrole: {role}\nnumber: {number}\n".encode()
        for folder in (self._folder.parent, self._folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(self._path(key.id), heading + key.signer.private_bytes)
        with self._lock:
            self._known[key.id] = key
        return key

    def drop_older(self, than: OnlineKey) -> list[str]:
        """Forget the keys of the same role that came before it: their ids."""
        older = [
            key.id
            for key in self.all()
            if (key.repository, key.role) == (than.repository, than.role) and key.number < than.number
        ]
        for id in older:
            self._path(id).unlink(missing_ok=True)
            with self._lock:
                self._known.pop(id, None)
        return older

    def _path(self, id: str) -> Path:
        if len(id) != 64 or set(id) - set("0123456789abcdef"):  # it becomes a path, and may come from a stranger's root
            return self._folder / "not-a-key-id"
        return self._folder / f"{id}.pem"


def _read(path: Path) -> OnlineKey:
    """Raises NotReady; no message shows what is in the file."""
    data = path.read_bytes()
    heading, begin, body = data.partition(_BEGIN)
    try:
        said = dict(line.split(": ", 1) for line in heading.decode().splitlines())
        private = serialization.load_pem_private_key(begin + body, None)
        if not isinstance(private, Ed25519PrivateKey):
            raise ValueError("not Ed25519")
        key = OnlineKey(
            repository=said["repository"], role=said["role"], number=int(said["number"]), signer=CryptoSigner(private)
        )
    except (ValueError, KeyError, TypeError) as error:
        raise NotReady(f"{path} is not a signing key of this hub: restore it from a backup, or remove it") from error
    if key.id != path.stem:
        raise NotReady(f"{path} holds another key than its name says: restore it from a backup, or remove it")
    return key
