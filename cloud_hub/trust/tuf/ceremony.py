"""What the holders of the root keys do: make them, build and sign roots. It runs where ``hubctl`` does, never in the hub."""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Key, SSlibKey
from tuf.api.metadata import Metadata, Role, Root, RootVerificationResult

from cloud_hub.core.errors import Invalid, NotFound
from cloud_hub.core.targets import DIRECTOR, IMAGE
from cloud_hub.trust.tuf.roots import MAX_ROOT_BYTES, ONLINE, key_of, parsed
from cloud_hub.trust.tuf.signing import expiry
from edge_agent.core.files import write_atomic

ROOT_KEYS, THRESHOLD = 3, 2
REPOSITORIES = (IMAGE, DIRECTOR)
MAX_FILE_BYTES = 8 * MAX_ROOT_BYTES

_FORMAT = "tideline-roots-1"
_PREFIX = "root-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A root on its way: signed by some of those who must."""

    previous: Metadata[Root] | None
    root: Metadata[Root]

    @property
    def missing(self) -> int:
        """Signatures that are needed still, at least."""
        result = self._verified()
        return max(result.first.missing, result.second.missing)

    def sign(self, signers: Sequence[CryptoSigner]) -> int:
        """With those that count and have not signed: how many that were."""
        unsigned = self._verified().unsigned
        new = [signer for signer in signers if signer.public_key.keyid in unsigned]
        for signer in new:
            self.root.sign(signer, append=True)
        return len(new)

    def _verified(self) -> RootVerificationResult:
        before = self.previous.signed if self.previous is not None else None
        return self.root.signed.get_root_verification_result(before, self.root.signed_bytes, self.root.signatures)


Drafts = Mapping[str, Draft]  # by repository


def make_root_key(folder: Path, passphrase: str = "") -> CryptoSigner:
    """A new one in a file of its own, encrypted where there is a passphrase."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    private = Ed25519PrivateKey.generate()
    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        lock = serialization.BestAvailableEncryption(passphrase.encode())
    signer = CryptoSigner(private)
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    write_atomic(root_key_path(folder, signer.public_key.keyid), pem)
    return signer


def root_key_path(folder: Path, id: str) -> Path:
    return folder / f"{_PREFIX}{id[:16]}.pem"


def load_root_keys(folder: Path, passphrase: str = "") -> list[CryptoSigner]:
    """Every root key in the folder.

    Raises:
        NotFound: there is none.
        Invalid: one cannot be read, or needs a (different) passphrase.
    """
    paths = sorted(folder.glob(f"{_PREFIX}*.pem"))
    if not paths:
        raise NotFound(f"no root key ({_PREFIX}*.pem) in {folder}")
    return [_load(path, passphrase) for path in paths]


def first_root(repository: str, holders: Sequence[Key], online: Mapping[str, SSlibKey], now: datetime) -> Draft:
    """``online``: the hub's keys by their own role."""
    named = {role: online[kind] for role, kind in ONLINE[repository].items()}
    return Draft(previous=None, root=_root(1, holders, THRESHOLD, named, now))


def next_root(
    repository: str,
    current: bytes,
    now: datetime,
    online: Mapping[str, SSlibKey] | None = None,
    replaced: Mapping[str, Key] | None = None,
) -> Draft:
    """The current one with a new expiry.

    Args:
        online: new keys of the hub by their own role; the others stay.
        replaced: new root keys by the id of the one that goes.
    Raises:
        Invalid: the current root cannot be read.
        NotFound: no such root key is in it.
    """
    previous = parsed(current, repository)
    root, online, replaced = previous.signed, online or {}, replaced or {}
    ids = root.roles[Root.type].keyids
    if unknown := sorted(set(replaced) - set(ids)):
        raise NotFound(f"the {repository} root has no root key {unknown[0][:16]}")
    holders = [replaced.get(id) or root.keys[id] for id in ids]
    named = {role: online.get(kind) or root.keys[key_of(root, role)] for role, kind in ONLINE[repository].items()}
    return Draft(previous=previous, root=_root(root.version + 1, holders, root.roles[Root.type].threshold, named, now))


def dumped(drafts: Drafts) -> bytes:
    """A file that can travel to the next holder: nothing in it is secret."""
    documents = {
        repository: {
            "previous": None if draft.previous is None else draft.previous.to_dict(),
            "root": draft.root.to_dict(),
        }
        for repository, draft in drafts.items()
    }
    return json.dumps({"format": _FORMAT, **documents}, indent=1, sort_keys=True).encode() + b"\n"


def loaded(data: bytes) -> dict[str, Draft]:
    """Raises Invalid."""
    if len(data) > MAX_FILE_BYTES:
        raise Invalid(f"a file of roots has {MAX_FILE_BYTES} bytes at most, this one has {len(data)}")
    try:
        document = json.loads(data)
        if document.pop("format") != _FORMAT or not document or document.keys() - set(REPOSITORIES):
            raise ValueError("not a file of roots")
        return {repository: _draft(repository, parts) for repository, parts in document.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Invalid(f"this is not a file that 'hubctl trust rotate --out' made: {error}"[:300]) from error


def _draft(repository: str, parts: dict[str, object]) -> Draft:
    previous, root = parts["previous"], parts["root"]
    return Draft(
        previous=None if previous is None else parsed(json.dumps(previous).encode(), repository),
        root=parsed(json.dumps(root).encode(), repository),
    )


def _root(version: int, holders: Sequence[Key], threshold: int, named: Mapping[str, Key], now: datetime) -> Metadata[Root]:
    keys = {str(key.keyid): deepcopy(key) for key in (*holders, *named.values())}
    roles = {Root.type: Role([str(key.keyid) for key in holders], threshold)}
    roles |= {role: Role([str(key.keyid)], 1) for role, key in named.items()}
    return Metadata(Root(version=version, expires=expiry(Root.type, now), keys=keys, roles=roles, consistent_snapshot=True))


def _load(path: Path, passphrase: str) -> CryptoSigner:
    data = path.read_bytes()
    locked = b"ENCRYPTED" in data
    if locked and not passphrase:
        raise Invalid(f"{path} is encrypted: give its passphrase")
    try:
        private = serialization.load_pem_private_key(data, passphrase.encode() if locked else None)
    except (ValueError, TypeError) as error:
        why = "its passphrase is another one" if locked else "it is not a private key"
        raise Invalid(f"{path} cannot be read: {why}") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise Invalid(f"{path} is not an Ed25519 key")
    return CryptoSigner(private)
