"""Roots: which keys may sign what. The hub takes one only where its holders signed it and it names the hub's own keys."""

from collections.abc import Mapping
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.signer import Key, SSlibKey
from tuf.api.metadata import Metadata, Role, Root
from tuf.api.serialization import DeserializationError, SerializationError

from cloud_hub.core.errors import Conflict, Invalid
from cloud_hub.core.targets import DIRECTOR, IMAGE
from cloud_hub.trust.tuf.image import SNAPSHOT, TARGETS, TIMESTAMP
from cloud_hub.trust.tuf.keys import OnlineKeys

MAX_ROOT_BYTES = 64 << 10  # a root of ours has about 3 kB
MIN_THRESHOLD = 2  # one stolen root key must not be enough

# role of a root -> role of the key that it must name; the director signs everything with one
ONLINE: Mapping[str, Mapping[str, str]] = {
    IMAGE: {TIMESTAMP: TIMESTAMP, SNAPSHOT: SNAPSHOT, TARGETS: TARGETS},
    DIRECTOR: {TIMESTAMP: TARGETS, SNAPSHOT: TARGETS, TARGETS: TARGETS},
}


def parsed(data: bytes, repository: str) -> Metadata[Root]:
    """Bounded; nothing in it is verified. Raises Invalid."""
    if len(data) > MAX_ROOT_BYTES:
        raise Invalid(f"the {repository} root has {len(data)} bytes, more than {MAX_ROOT_BYTES}")
    try:
        metadata = Metadata[Root].from_bytes(data)
    except DeserializationError as error:
        raise Invalid(f"the {repository} root is not TUF metadata: {error.__cause__ or error}"[:300]) from error
    if not isinstance(metadata.signed, Root):
        raise Invalid(f"the {repository} root is {metadata.signed.type} metadata, not a root")
    for role in metadata.signed.roles.values():  # python-tuf takes anything that has a length
        if not isinstance(role.keyids, list) or not all(isinstance(id, str) for id in role.keyids):
            raise Invalid(f"the {repository} root has a role whose key ids are not a list of texts")
    return metadata


def key_of(root: Root, role: str) -> str:
    """The one key that a root of ours names for an online role."""
    return str(root.roles[role].keyids[0])


def public_key(raw: bytes) -> SSlibKey:
    """Raises Invalid for anything but the 32 bytes of an Ed25519 key."""
    try:
        return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(raw))
    except ValueError as error:
        raise Invalid(f"not an Ed25519 public key: {error}") from error


def check_next(
    repository: str, previous: Metadata[Root] | None, following: Metadata[Root], keys: OnlineKeys, now: datetime
) -> None:
    """Whether ``following`` may take the place of ``previous`` (None: there is none).

    Raises:
        Invalid: it is not for this hub, or not signed as it must be.
        Conflict: it is not the next version.
    """
    root, what = following.signed, f"the {repository} root"
    version = 1 if previous is None else previous.signed.version + 1
    if root.version != version:
        raise Conflict(f"{what} has version {root.version}, the next one is {version}: make it from the current root")
    if not root.consistent_snapshot:
        raise Invalid(f"{what} must ask for consistent snapshots")
    if root.is_expired(now):
        raise Invalid(f"{what} expired at {root.expires:%Y-%m-%d %H:%M:%S} UTC")
    for id, key in root.keys.items():
        _check_key(what, id, key)
    _check_holders(what, root, keys)
    for role, kind in ONLINE[repository].items():
        _check_online(repository, role, kind, root.roles[role], keys)
    _check_signatures(what, previous, following)


def _check_key(what: str, id: str, key: Key) -> None:
    """Ids are those of the keys, so that no key can stand for two in a threshold."""
    try:
        own = public_key(bytes.fromhex(key.keyval["public"])) if key.scheme == "ed25519" else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid(f"{what} names a key that cannot be read: {id[:16]}") from error
    if own is None or own.keyid != id or own != key:
        raise Invalid(f"{what} names a key that is not a plain Ed25519 key under its own id: {id[:16]}")


def _check_holders(what: str, root: Root, keys: OnlineKeys) -> None:
    role = root.roles[Root.type]
    held = [id for id in role.keyids if id in root.keys]
    if not isinstance(role.threshold, int) or not MIN_THRESHOLD <= role.threshold <= len(held):
        raise Invalid(f"{what} needs a threshold of {MIN_THRESHOLD} or more root keys, and as many keys, got {role.threshold}")
    if online := next((id for id in held if keys.find(id) is not None), None):
        raise Invalid(f"{what} names the hub's own key {online[:16]} as a root key")


def _check_online(repository: str, role: str, kind: str, said: Role, keys: OnlineKeys) -> None:
    key = keys.find(said.keyids[0]) if len(said.keyids) == 1 and said.threshold == 1 else None
    if key is None or (key.repository, key.role) != (repository, kind):
        raise Invalid(
            f"the {repository} root must name exactly one key of this hub for {role}, made for it: "
            "ask the hub for its keys with 'hubctl trust rotate'"
        )


def _check_signatures(what: str, previous: Metadata[Root] | None, following: Metadata[Root]) -> None:
    try:
        payload = following.signed_bytes
    except SerializationError as error:
        raise Invalid(f"{what} has no canonical form") from error
    before = previous.signed if previous is not None else None
    result = following.signed.get_root_verification_result(before, payload, following.signatures)
    for part, whose in ((result.first, "the current root"), (result.second, "its own")):
        if not part:
            raise Invalid(
                f"{what} {following.signed.version} is signed by {len(part.signed)} of {part.threshold} root keys of {whose}"
            )
