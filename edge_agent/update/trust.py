"""Whether an update may be fetched: the director and the image repository must agree on it, byte for byte.

Neither is believed alone. With the director's key a thief can only offer what the image repository has released for this
board, and nothing older than what runs; with the online keys of the image repository he can release, but not address a device.
"""

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import TargetFile

from edge_agent.core.clock import Clock
from edge_agent.core.errors import (
    Absent,
    AlteredTarget,
    DiskFull,
    ForeignDevice,
    LinkDown,
    ReleaseRollback,
    UnknownTarget,
    WrongHardware,
)
from edge_agent.core.ports import Hub, Repository
from edge_agent.update import director
from edge_agent.update.director import Answer, Question
from edge_agent.update.floors import MAX_NUMBER, Floors, Release
from edge_agent.update.surroundings import Anchor, Approved
from edge_agent.update.updater import TrustedUpdater, anchor_of
from protos.contract import ids
from protos.contract.errors import ContractError
from protos.contract.manifest import Blob
from protos.contract.twin import ModelAssignment

_IMAGE, _DIRECTOR = "image", "director"
_NONCE_BYTES = 32
_KINDS = ("manifest", "model", "golden")


class Trust:
    """See ``surroundings.Verifier``. Its cache of metadata lies in ``folder``; what it must not forget, in ``floors``."""

    def __init__(self, folder: Path, floors: Floors, clock: Clock) -> None:
        self._folder, self._floors, self._clock = folder, floors, clock

    def check(self, hub: Hub, anchor: Anchor, assignment: ModelAssignment, generation: int) -> Approved:
        if not self._floors.durable:
            raise DiskFull("what this device has seen cannot be kept: free some space and start the agent again")
        self._floors.hold({_IMAGE: anchor_of(anchor.image_root), _DIRECTOR: anchor_of(anchor.director_root)})
        directors = self._updater(hub, Repository.DIRECTOR, anchor.director_root)
        images = self._updater(hub, Repository.IMAGE, anchor.image_root)
        try:
            images.load_root()  # it says by whose word the time was believed
            time = max(self._clock.now(), self._floors.time(images.keys))
            answer = self._ask(
                hub, directors, Question(anchor=anchor, generation=generation, nonce=os.urandom(_NONCE_BYTES)), time
            )
            images.believe(max(time, answer.now))
            images.refresh()
            found = {path: _confirm(images, wanted, anchor) for path, wanted in answer.targets.items()}
            approved = _approve(found, anchor, assignment)
            for release in {each.release for each in found.values()}:
                self._demand(release)
        except BaseException:
            self._floors.keep({_IMAGE: images.seen, _DIRECTOR: directors.seen})
            raise
        seen = {_IMAGE: images.seen, _DIRECTOR: {**directors.seen, director.ROLE: answer.floor}}
        self._floors.keep(seen, at=answer.now, keys=images.keys)
        return approved

    def _ask(self, hub: Hub, directors: TrustedUpdater, question: Question, time: datetime) -> Answer:
        root = directors.load_root()
        floor = self._floors.versions(_DIRECTOR).get(director.ROLE)
        try:
            data = hub.director(question.nonce)
        except Absent as error:
            raise LinkDown(str(error)) from error
        return director.verify(data, root, floor, question, time=time)

    def _updater(self, hub: Hub, repository: Repository, root: bytes) -> TrustedUpdater:
        name = repository.name.lower()
        return TrustedUpdater(
            self._folder / name,
            lambda file, max_bytes: hub.metadata(repository, file, max_bytes),
            root=root,
            floors=self._floors.versions(name),
            time=self._clock.now(),
        )

    def _demand(self, release: Release) -> None:
        floor = self._floors.release(release.series)
        if release.number < floor:
            raise ReleaseRollback(f"{release.series} is offered in release {release.number}, this device had {floor}")


class _Found:
    """A target that both repositories mean; ``kind``, ``boards`` and ``release`` as the image repository says."""

    def __init__(self, image: TargetFile, series: str) -> None:
        """Raises UnknownTarget where the image repository does not say what it is."""
        custom = image.custom
        try:
            self.kind, self.boards = str(custom["kind"]), tuple(custom["boards"])
            if not all(isinstance(board, str) for board in self.boards) or type(custom["release"]) is not int:
                raise TypeError("boards must be names and the release a number")
            self.release = Release(series=series, number=custom["release"])
            self.blob = Blob(digest=ids.digest("sha256:" + image.hashes["sha256"]), size_bytes=image.length)
        except (KeyError, TypeError, ValueError, ContractError) as error:
            raise UnknownTarget(f"the image repository does not say what {image.path} is ({error!r})") from error


def _confirm(images: TrustedUpdater, wanted: TargetFile, anchor: Anchor) -> _Found:
    """What the image repository says about a file that the director names."""
    kind, tenant, name = ([*wanted.path.split("/", 3), "", ""])[:3]
    if tenant != anchor.tenant:
        raise ForeignDevice(f"the director names {wanted.path}, which is not of tenant {anchor.tenant}")
    image = images.get_targetinfo(wanted.path)
    if image is None:
        raise UnknownTarget(f"the director names {wanted.path}, the image repository has none")
    if (image.length, image.hashes) != (wanted.length, wanted.hashes):
        raise AlteredTarget(f"{wanted.path} has other bytes by the director than by the image repository")
    found = _Found(image, f"{kind}/{tenant}/{name}")
    if found.boards and anchor.board not in found.boards:
        raise WrongHardware(f"{wanted.path} is for {', '.join(found.boards)}, this is {anchor.board}")
    if (number := _number(wanted)) > found.release.number:
        raise ReleaseRollback(
            f"{wanted.path} is release {found.release.number} by the image repository, {number} by the director"
        )
    return found


def _number(target: TargetFile) -> int:
    """The release by the director; one that makes no sense is above all others."""
    number = target.custom.get("release") if isinstance(target.custom, dict) else None
    return number if type(number) is int else MAX_NUMBER


def _approve(found: Mapping[str, _Found], anchor: Anchor, assignment: ModelAssignment) -> Approved:
    """The three files of the assigned version; what else the director names is another's to fetch."""
    named = f"{assignment.name}:{assignment.version}"
    folder = f"models/{anchor.tenant}/{assignment.name}/{assignment.version}/"
    mine = [each for path, each in found.items() if path.startswith(folder)]
    by_kind = {each.kind: each for each in mine}
    if len(mine) != len(_KINDS) or set(by_kind) != set(_KINDS):
        raise UnknownTarget(f"the director names {len(mine)} files of {named} instead of manifest, model and golden set")
    manifest, model, golden = (by_kind[kind] for kind in _KINDS)
    if manifest.blob != Blob(digest=assignment.manifest_digest, size_bytes=assignment.manifest_size_bytes):
        raise AlteredTarget(f"the manifest of {named} is {manifest.blob.digest} by both repositories, not what was assigned")
    release = min((each.release for each in mine), key=lambda each: each.number)
    return Approved(manifest=manifest.blob, model=model.blob, golden=golden.blob, release=release)
