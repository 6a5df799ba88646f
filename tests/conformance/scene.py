"""One device under attack, and what the attacker can do with the keys it holds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import MetaFile, TargetFile

from protos.contract.twin import ModelAssignment
from tests.agent.models import ModelFiles
from tests.conformance.hub import Hub
from tests.conformance.repository import Ask, Release, Repository, forged, signed_by, utc_now, version_of
from tests.conformance.trust import Answers, Served


@dataclass
class Scene:
    """A device that runs an honest release, and a newer one on its way, which the attacker has a part in."""

    hub: Hub
    answers: Answers
    past: dict[str, bytes]  # image metadata before ``running`` was released
    old: Release  # ran before
    running: Release
    wanted: Release  # released honestly; the device has not heard of it
    files: ModelFiles  # of ``wanted``
    desired: ModelAssignment = field(init=False)  # what the desired twin names

    def __post_init__(self) -> None:
        self.desired = self.wanted.assignment

    @property
    def repository(self) -> Repository:
        return self.answers.repository

    def online(self, role: str) -> CryptoSigner:
        return self.repository.images.online[role]

    def bin(self, target: TargetFile) -> str:
        return self.repository.images.bin_of(target.path)

    def newest(self, role: str) -> tuple[str, bytes]:
        """Its name on the wire, and the honest file."""
        files = self.repository.images.files
        name = max((name for name in files if name.endswith(f"{role}.json")), key=lambda name: version_of(files[name]))
        return name, files[name]

    def serve(self, name: str, data: Served) -> None:
        self.answers.images[name] = data

    def forge(self, role: str, *signers: CryptoSigner, change: Callable[[Any], None] = lambda _: None) -> None:
        """Serve it in the place of the newest of that role."""
        name, data = self.newest(role)
        self.serve(name, forged(data, *signers, change=change))

    def date(self, snapshot: bytes) -> None:
        """With the timestamp's key: a newer timestamp, of that snapshot."""

        def change(timestamp: Any) -> None:
            timestamp.version += 1
            timestamp.snapshot_meta = MetaFile.from_data(version_of(snapshot), snapshot, ["sha256"])

        self.serve(f"{version_of(snapshot)}.snapshot.json", snapshot)
        self.forge("timestamp", self.online("timestamp"), change=change)

    def list(
        self, versions: dict[str, int], signer: CryptoSigner | None = None, *, days: int = 7, version: int | None = None
    ) -> None:
        """With the keys of timestamp and snapshot, or another for the latter: a newer snapshot that lists other versions."""

        def change(snapshot: Any) -> None:
            snapshot.version = version or snapshot.version + 1
            snapshot.expires = (utc_now() + timedelta(days=days)).replace(microsecond=0)
            snapshot.meta |= {f"{role}.json": MetaFile(version) for role, version in versions.items()}

        self.date(forged(self.newest("snapshot")[1], signer or self.online("snapshot"), change=change))

    def root(self, *signers: CryptoSigner, change: Callable[[Any], None] = lambda _: None) -> None:
        """Serve a next root that ``signers`` alone have signed."""
        root = self.repository.images.next_root()
        name = f"{root.version}.root.json"
        change(root)
        self.serve(name, signed_by(root, *signers))

    def direct(self, make: Callable[[Ask, Sequence[TargetFile]], bytes]) -> None:
        """In the director's place."""
        self.answers.sign = make

    def bind(self, **bound: Any) -> None:
        """The director signs what another question asked for."""
        self.direct(lambda ask, targets: self.repository.director.answer(replace(ask, **bound), targets))

    def steal(self, targets: Iterable[TargetFile], desired: ModelAssignment | None = None) -> None:
        """With the director's key: this device is to run ``targets``, and the twin goes with it."""
        named = tuple(targets)
        self.desired = desired or self.desired
        self.direct(lambda ask, _: self.repository.director.answer(ask, named))
