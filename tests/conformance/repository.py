"""Two TUF repositories in memory, images and director, with every key there is: honest by itself, and forged at will."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

from protos.contract.ids import digest_of
from protos.contract.manifest import Format
from protos.contract.telemetry import to_ms
from protos.contract.twin import ModelAssignment
from tests.agent.models import ModelFiles

BIN_BITS = 8
ROOT_KEYS, ROOT_THRESHOLD = 3, 2
LIFE = {"root": 365, "targets": 90, "bins": 90, "snapshot": 7, "timestamp": 1, "director": 1}  # days
S = TypeVar("S", bound=Signed)
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


def key() -> CryptoSigner:
    return CryptoSigner.generate_ed25519()


def signed_by(signed: Signed, *signers: CryptoSigner) -> bytes:
    metadata: Metadata[Any] = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def forged(data: bytes, *signers: CryptoSigner, change: Callable[[Signed], None] = lambda _: None) -> bytes:
    """Metadata as another hand would have made it: what ``change`` leaves of it, signed by ``signers`` alone."""
    signed: Signed = Metadata[Any].from_bytes(data).signed
    change(signed)
    return signed_by(signed, *signers)


def version_of(data: bytes) -> int:
    return int(Metadata[Any].from_bytes(data).signed.version)


class Chain:
    """A chain of roots, each signed by two of three keys, which names the keys of the other roles."""

    def __init__(self, roles: Mapping[str, str], clock: Clock) -> None:
        """``roles``: of the root, each with the name of the key that it has from the beginning."""
        self.clock = clock
        self.roots = [key() for _ in range(ROOT_KEYS)]
        self.online = {name: key() for name in set(roles.values())}
        self.files: dict[str, bytes] = {}  # everything ever published, by its name on the wire
        self._roles = roles
        self.version = 0
        self._sign_root()

    @property
    def root(self) -> bytes:
        """What devices are given when they enrol: the newest."""
        return self.files[f"{self.version}.root.json"]

    def rotate(self, *names: str) -> None:
        """New keys by name, "root" for all three of the root; the new root is signed by the old root keys and the new."""
        before = self.roots
        for name in names:
            if name == "root":
                self.roots = [key() for _ in range(ROOT_KEYS)]
            else:
                self.online[name] = key()
        self._sign_root(*before)

    def next_root(self) -> Root:
        """Unsigned, with the keys as they are now."""
        root = Root(version=self.version + 1, expires=self.expires("root"), consistent_snapshot=True)
        for signer in self.roots:
            root.add_key(signer.public_key, "root")
        root.roles["root"].threshold = ROOT_THRESHOLD
        for role, name in self._roles.items():
            if role in root.roles:
                root.add_key(self.online[name].public_key, role)
        return root

    def expires(self, role: str) -> datetime:
        return (self.clock() + timedelta(days=LIFE[role])).replace(microsecond=0)

    def _sign_root(self, *before: CryptoSigner) -> None:
        root = self.next_root()
        signers = {signer.public_key.keyid: signer for signer in (*before[:ROOT_THRESHOLD], *self.roots[:ROOT_THRESHOLD])}
        self.version = root.version
        self.files[f"{root.version}.root.json"] = signed_by(root, *signers.values())


class Images(Chain):
    """What files there are. Targets lie in 256 hash bins; snapshots are consistent."""

    def __init__(self, clock: Clock) -> None:
        super().__init__({role: role for role in ("timestamp", "snapshot", "targets", "bins")}, clock)
        bins = SuccinctRoles([], 1, BIN_BITS, "bin")
        self._targets = _unsigned(Targets(delegations=Delegations({}, succinct_roles=bins)))
        self.bins = {name: _unsigned(Targets()) for name in bins.get_roles()}
        self._snapshot, self._timestamp = _unsigned(Snapshot()), _unsigned(Timestamp())
        self._sign_targets()
        self._sign_bins(*self.bins)
        self.publish()

    def bin_of(self, path: str) -> str:
        assert self._targets.delegations is not None and self._targets.delegations.succinct_roles is not None
        return self._targets.delegations.succinct_roles.get_role_for_target(path)

    def add(self, targets: Iterable[TargetFile]) -> None:
        """Into their bins, and a new snapshot of it all."""
        changed = set()
        for target in targets:
            name = self.bin_of(target.path)
            self.bins[name].targets[target.path] = target
            changed.add(name)
        self._sign_bins(*changed)
        self.publish()

    def rotate(self, *names: str) -> None:
        """And everything that the new keys sign, each one version on."""
        super().rotate(*names)
        self._sign_targets()
        if "bins" in names:
            self._sign_bins(*self.bins)
        self.publish()

    def renew(self) -> None:
        """Targets, snapshot and timestamp once more, as a hub does before they expire."""
        self._sign_targets()
        self.publish()

    def publish(self) -> None:
        """A new snapshot and timestamp."""
        self._snapshot.version += 1
        self._snapshot.expires = self.expires("snapshot")
        self._snapshot.meta = {f"{name}.json": MetaFile(bin_.version) for name, bin_ in self.bins.items()}
        self._snapshot.meta["targets.json"] = MetaFile(self._targets.version)
        data = signed_by(self._snapshot, self.online["snapshot"])
        self.files[f"{self._snapshot.version}.snapshot.json"] = data
        self._timestamp.version += 1
        self._timestamp.expires = self.expires("timestamp")
        self._timestamp.snapshot_meta = MetaFile.from_data(self._snapshot.version, data, ["sha256"])
        self.files["timestamp.json"] = signed_by(self._timestamp, self.online["timestamp"])

    def _sign_targets(self) -> None:
        delegations, bins = self._targets.delegations, self.online["bins"].public_key
        assert delegations is not None and delegations.succinct_roles is not None
        delegations.keys = {bins.keyid: bins}
        delegations.succinct_roles.keyids = [bins.keyid]
        self._targets.version += 1
        self._targets.expires = self.expires("targets")
        self.files[f"{self._targets.version}.targets.json"] = signed_by(self._targets, self.online["targets"])

    def _sign_bins(self, *names: str) -> None:
        for name in names:
            bin_ = self.bins[name]
            bin_.version += 1
            bin_.expires = self.expires("bins")
            self.files[f"{bin_.version}.{name}.json"] = signed_by(bin_, self.online["bins"])


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a director signature is bound to."""

    device: str
    tenant: str
    board: str
    nonce: bytes
    generation: int = 0


class Director(Chain):
    """What one device is to run, signed when it asks."""

    def __init__(self, clock: Clock) -> None:
        super().__init__({role: "director" for role in ("timestamp", "snapshot", "targets")}, clock)

    @property
    def signer(self) -> CryptoSigner:
        return self.online["director"]

    def answer(self, ask: Ask, targets: Iterable[TargetFile]) -> bytes:
        bound = {
            "device": ask.device,
            "tenant": ask.tenant,
            "board": ask.board,
            "generation": ask.generation,
            "nonce": ask.nonce.hex(),
            "now_ms": to_ms(self.clock()),
        }
        signed = Targets(
            version=max(1, ask.generation),
            expires=self.expires("director"),
            targets={target.path: target for target in targets},
            unrecognized_fields={"tideline": bound},
        )
        return signed_by(signed, self.signer)


@dataclass(frozen=True, kw_only=True)
class Release:
    """One version of a model, as the image repository has it."""

    assignment: ModelAssignment
    number: int  # grows per model; a version that is released again gets a new one
    targets: tuple[TargetFile, ...]  # manifest, model, golden

    @property
    def manifest(self) -> TargetFile:
        return self.targets[0]


@dataclass
class Repository:
    """Both, with what was released."""

    tenant: str
    clock: Clock = utc_now
    releases: dict[ModelAssignment, Release] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.images, self.director = Images(self.clock), Director(self.clock)
        self._released: defaultdict[str, int] = defaultdict(int)  # by model

    def release(
        self, files: ModelFiles, *, version: int | None = None, boards: tuple[str, ...] = (), variant: str = "default"
    ) -> Release:
        """Put all three files into the image repository; under another ``version`` than the manifest's where one is given."""
        assignment = ModelAssignment(
            name=files.manifest.name,
            version=files.manifest.version if version is None else version,
            manifest_digest=digest_of(files.manifest_bytes),
            manifest_size_bytes=len(files.manifest_bytes),
        )
        model = "model.onnx" if files.manifest.format is Format.ONNX else "model.tflite"
        folder = f"models/{self.tenant}/{assignment.name}/{assignment.version}/{variant}"
        contents = {
            ("manifest", f"{folder}/manifest.pb"): files.manifest_bytes,
            ("model", f"{folder}/{model}"): files.model,
            ("golden", f"{folder}/golden.pb"): files.golden_bytes,
        }
        targets = [_target(path, data, kind=kind, boards=boards) for (kind, path), data in contents.items()]
        return self._number(assignment, targets)

    def promote(self, assignment: ModelAssignment) -> Release:
        """Release an older version anew, where it is not the newest already: the only licence to go back."""
        release = self.releases[assignment]
        if release.number == self._released[assignment.name]:
            return release
        return self._number(assignment, release.targets)

    def _number(self, assignment: ModelAssignment, targets: Iterable[TargetFile]) -> Release:
        self._released[assignment.name] += 1
        number = self._released[assignment.name]
        numbered = tuple(customised(target, release=number) for target in targets)
        self.images.add(numbered)
        self.releases[assignment] = Release(assignment=assignment, number=number, targets=numbered)
        return self.releases[assignment]


def customised(target: TargetFile, **custom: object) -> TargetFile:
    """The same file with other words about it."""
    fields = {**target.unrecognized_fields, "custom": {**(target.custom or {}), **custom}}
    return TargetFile(target.length, dict(target.hashes), target.path, fields)


def _unsigned(signed: S) -> S:
    signed.version = 0  # the first signature makes it 1
    return signed


def _target(path: str, data: bytes, *, kind: str, boards: tuple[str, ...]) -> TargetFile:
    target = TargetFile.from_data(path, data, ["sha256"])
    return customised(target, kind=kind, boards=list(boards))
