"""What ``hubctl trust`` does with roots. Apart, because loading TUF takes longer than most commands."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Root

from cloud_hub.app.hubctl.failure import ExitCode, Failure, refused
from cloud_hub.app.hubctl.hub import TIMEOUT_S, Hub
from cloud_hub.core.errors import HubError
from cloud_hub.core.targets import DIRECTOR, IMAGE
from cloud_hub.trust.tuf import ceremony
from cloud_hub.trust.tuf.ceremony import REPOSITORIES, ROOT_KEYS, Draft, Drafts
from cloud_hub.trust.tuf.roots import ONLINE, key_of, public_key
from edge_agent.core.files import write_atomic
from protos.v1 import trust_pb2 as pb

# what a user calls an online key -> where it is
ONLINE_KEYS = {
    "timestamp": (pb.REPOSITORY_IMAGE, "timestamp"),
    "snapshot": (pb.REPOSITORY_IMAGE, "snapshot"),
    "targets": (pb.REPOSITORY_IMAGE, "targets"),
    "bins": (pb.REPOSITORY_IMAGE, "bins"),
    "director": (pb.REPOSITORY_DIRECTOR, "targets"),
}
_NAMES = {pb.REPOSITORY_IMAGE: IMAGE, pb.REPOSITORY_DIRECTOR: DIRECTOR}
_NUMBERS = {name: number for number, name in _NAMES.items()}
_SHOWN = 16  # characters of a key id: as in the names of the files
_PUT_TIMEOUT_S = 300.0  # everything is signed again where the bins have a new key


def first(hub: Hub, folder: Path, passphrase: str, now: datetime) -> tuple[Drafts, list[Path]]:
    """New root keys in ``folder``, and the first roots signed with all of them. Raises Failure."""
    if hub.trust.GetTrust(pb.GetTrustRequest(), timeout=TIMEOUT_S).roles:
        raise refused("there is a root already: change it with 'hubctl trust rotate'")
    if folder.exists() and any(folder.iterdir()):
        raise refused(f"{folder} is not empty: give a new folder for the root keys")
    online = _prepared(hub, ())
    signers = [ceremony.make_root_key(folder, passphrase) for _ in range(ROOT_KEYS)]
    holders = [signer.public_key for signer in signers]
    drafts = {name: ceremony.first_root(name, holders, online[name], now) for name in REPOSITORIES}
    for draft in drafts.values():
        draft.sign(signers)
    return drafts, [ceremony.root_key_path(folder, key.keyid) for key in holders]


def following(hub: Hub, folder: Path, passphrase: str, now: datetime, online: Sequence[str], replaced: Sequence[str]) -> Drafts:
    """The next roots, signed with the keys in ``folder``, where a new key is made for each in ``replaced``. Raises Failure."""
    current = _current(hub)
    signers = _signers(folder, passphrase)
    prepared = _prepared(hub, online) if online else {}
    holders = ceremony.next_root(IMAGE, current[IMAGE], now).root.signed.roles[Root.type].keyids
    made = {_chosen(id, holders): ceremony.make_root_key(folder, passphrase) for id in replaced}
    replacing = {id: signer.public_key for id, signer in made.items()}
    drafts = {}
    for name in REPOSITORIES:
        try:
            drafts[name] = ceremony.next_root(name, current[name], now, prepared.get(name), replacing)
        except HubError as error:
            raise refused(str(error)) from error
        drafts[name].sign([*signers, *made.values()])
    return drafts


def sign(drafts: Drafts, folder: Path, passphrase: str) -> int:
    """How many signatures were added. Raises Failure where no key in ``folder`` counts."""
    signers = _signers(folder, passphrase)
    added = sum(draft.sign(signers) for draft in drafts.values())
    if not added:
        raise refused(f"no key in {folder} is one that has to sign and has not")
    return added


def put(hub: Hub, drafts: Drafts) -> pb.TrustStatus:
    """Raises Failure where a signature is missing."""
    if count := missing(drafts):
        raise refused(f"{_signatures(count)} missing: sign it with 'hubctl trust sign' first")
    roots = {f"{name}_root": draft.root.to_bytes() for name, draft in drafts.items()}
    reply: pb.TrustStatus = hub.trust.PutRoot(pb.PutRootRequest(**roots), timeout=_PUT_TIMEOUT_S)
    return reply


def missing(drafts: Drafts) -> int:
    return max(draft.missing for draft in drafts.values())


def load(path: Path) -> dict[str, Draft]:
    """Raises Failure."""
    try:
        return ceremony.loaded(path.read_bytes())
    except HubError as error:
        raise refused(f"{path}: {error}") from error


def save(path: Path, drafts: Drafts) -> None:
    write_atomic(path, ceremony.dumped(drafts), mode=0o644)


def version(drafts: Drafts) -> int:
    return max(draft.root.signed.version for draft in drafts.values())


def described(drafts: Drafts) -> list[str]:
    """What a holder is about to sign: every change of keys, and how long it is good for."""
    return [line for name, draft in drafts.items() for line in _described(name, draft)]


def encrypted(folder: Path) -> bool:
    return any(b"ENCRYPTED" in path.read_bytes() for path in folder.glob("*.pem"))


def _described(name: str, draft: Draft) -> list[str]:
    root = draft.root.signed
    lines = [f"{name} root {root.version}, good until {root.expires:%Y-%m-%d}, needs {root.roles['root'].threshold} signatures"]
    before = None if draft.previous is None else draft.previous.signed
    were, are = set(before.roles[Root.type].keyids) if before else set(), set(root.roles[Root.type].keyids)
    lines += [f"  root key {id[:_SHOWN]} goes" for id in sorted(were - are)]
    lines += [f"  root key {id[:_SHOWN]} comes" for id in sorted(are - were)]
    for role in ONLINE[name]:
        if before is None or key_of(before, role) != key_of(root, role):
            lines.append(f"  {role} is signed by {key_of(root, role)[:_SHOWN]}")
    if before is not None and before.roles[Root.type].threshold != root.roles[Root.type].threshold:
        lines.append(f"  it needed {before.roles[Root.type].threshold} signatures so far")
    return lines


def _signatures(count: int) -> str:
    return "a signature is" if count == 1 else f"{count} signatures are"


def _signers(folder: Path, passphrase: str) -> list[CryptoSigner]:
    try:
        return ceremony.load_root_keys(folder, passphrase)
    except HubError as error:
        raise refused(str(error)) from error


def _current(hub: Hub) -> dict[str, bytes]:
    status = hub.trust.GetTrust(pb.GetTrustRequest(), timeout=TIMEOUT_S)
    roots = {_NAMES[one.repository]: one.version for one in status.roles if one.role == Root.type}
    if not roots:
        raise refused("there is no root yet: make it with 'hubctl trust init'")
    return {name: _metadata(hub, name, f"{number}.root.json") for name, number in roots.items()}


def _metadata(hub: Hub, repository: str, file: str) -> bytes:
    request = pb.GetMetadataRequest(repository=_NUMBERS[repository], name=file)
    return b"".join(chunk.data for chunk in hub.trust.GetMetadata(request, timeout=TIMEOUT_S))


def _prepared(hub: Hub, names: Sequence[str]) -> Mapping[str, Mapping[str, SSlibKey]]:
    """The keys that the next roots should name: new ones for ``names``, and where it is empty for all."""
    roles = [pb.OnlineKey(repository=ONLINE_KEYS[name][0], role=ONLINE_KEYS[name][1]) for name in names]
    reply = hub.trust.PrepareKeys(pb.PrepareKeysRequest(roles=roles), timeout=TIMEOUT_S)
    keys: dict[str, dict[str, SSlibKey]] = {name: {} for name in REPOSITORIES}
    for one in reply.keys:
        key = public_key(one.public_key)
        if key.keyid != one.key_id:
            raise Failure("the hub names a key under an id that is not its own: it cannot be trusted", ExitCode.FAILED)
        keys[_NAMES[one.repository]][one.role] = key
    return keys


def _chosen(id: str, holders: Sequence[str]) -> str:
    """The root key whose id begins so. Raises Failure."""
    found = [one for one in holders if id and one.startswith(id)]
    if len(found) != 1:
        raise refused(f"{id!r} is not the beginning of exactly one root key: {', '.join(one[:_SHOWN] for one in holders)}")
    return found[0]
