"""Whether an update may be fetched: the director and the image repository must agree on it, byte for byte.

Neither is believed alone. With the director's key a thief can only offer what the image repository has released for this
board, and nothing older than what runs; with the online keys of the image repository he can release, but not address a device.
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

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
from edge_agent.update.surroundings import Anchor, Approved, ApprovedPackage
from edge_agent.update.updater import TrustedUpdater, anchor_of
from protos.contract import ids
from protos.contract.errors import ContractError
from protos.contract.manifest import Blob
from protos.contract.twin import ModelAssignment, PackageAssignment

_IMAGE, _DIRECTOR = "image", "director"
_NONCE_BYTES = 32
_KINDS = ("manifest", "model", "golden")
ANY_BOARD = "any"  # ends the path of a package that is for every board

A = TypeVar("A", Approved, ApprovedPackage)


class Trust:
    """See ``surroundings.Verifier``. Its cache of metadata lies in ``folder``; what it must not forget, in ``floors``."""

    def __init__(self, folder: Path, floors: Floors, clock: Clock) -> None:
        self._folder, self._floors, self._clock = folder, floors, clock

    def check(self, hub: Hub, anchor: Anchor, assignment: ModelAssignment, generation: int) -> Approved:
        return self._check(hub, anchor, generation, lambda paths: _of_model(paths, anchor, assignment), _approved(assignment))

    def check_package(self, hub: Hub, anchor: Anchor, package: PackageAssignment, generation: int) -> ApprovedPackage:
        return self._check(
            hub, anchor, generation, lambda paths: _of_package(paths, anchor, package), _approved_package(package)
        )

    def _check(
        self,
        hub: Hub,
        anchor: Anchor,
        generation: int,
        mine: Callable[[Mapping[str, TargetFile]], list[str]],
        approve: Callable[[Sequence["_Found"]], A],
    ) -> A:
        """``mine``: of the paths that the director names, those that are asked about; what else it names is another's to fetch,
        and no reason to refuse these."""
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
            for path in answer.targets:
                _check_tenant(path, anchor)
            approved = approve([_confirm(images, answer.targets[path], anchor) for path in mine(answer.targets)])
            self._demand(approved.release)
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


def _check_tenant(path: str, anchor: Anchor) -> None:
    if _parts(path)[1] != anchor.tenant:
        raise ForeignDevice(f"the director names {path}, which is not of tenant {anchor.tenant}")


def _parts(path: str) -> list[str]:
    """Of what begins every path: kind, tenant and name."""
    return ([*path.split("/", 3), "", ""])[:3]


def _confirm(images: TrustedUpdater, wanted: TargetFile, anchor: Anchor) -> _Found:
    """What the image repository says about a file that the director names."""
    image = images.get_targetinfo(wanted.path)
    if image is None:
        raise UnknownTarget(f"the director names {wanted.path}, the image repository has none")
    if (image.length, image.hashes) != (wanted.length, wanted.hashes):
        raise AlteredTarget(f"{wanted.path} has other bytes by the director than by the image repository")
    found = _Found(image, "/".join(_parts(wanted.path)))
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


def _of_model(targets: Mapping[str, TargetFile], anchor: Anchor, model: ModelAssignment) -> list[str]:
    """Where the director names two variants of one version, to run and to challenge it, the manifest tells which."""
    folder = f"models/{anchor.tenant}/{model.name}/{model.version}/"
    paths = [path for path in targets if path.startswith(folder)]
    if len(paths) > len(_KINDS):
        wanted = model.manifest_digest.removeprefix("sha256:")
        variants = {path.rpartition("/")[0] for path in paths if targets[path].hashes.get("sha256") == wanted}
        if len(variants) == 1:
            return [path for path in paths if path.rpartition("/")[0] in variants]
    return paths


def _of_package(paths: Collection[str], anchor: Anchor, package: PackageAssignment) -> list[str]:
    """Of its own board, or of all."""
    folder = f"{package.kind.name.lower()}/{anchor.tenant}/{package.name}/{package.version}/"
    return [path for path in paths if path in (folder + anchor.board, folder + ANY_BOARD)]


def _approved(model: ModelAssignment) -> Callable[[Sequence[_Found]], Approved]:
    """The three files of the assigned version."""

    def approve(mine: Sequence[_Found]) -> Approved:
        named = f"{model.name}:{model.version}"
        by_kind = {each.kind: each for each in mine}
        if len(mine) != len(_KINDS) or set(by_kind) != set(_KINDS):
            raise UnknownTarget(f"the director names {len(mine)} files of {named} instead of manifest, model and golden set")
        manifest, file, golden = (by_kind[kind] for kind in _KINDS)
        if manifest.blob != Blob(digest=model.manifest_digest, size_bytes=model.manifest_size_bytes):
            raise AlteredTarget(
                f"the manifest of {named} is {manifest.blob.digest} by both repositories, not what was assigned"
            )
        release = min((each.release for each in mine), key=lambda each: each.number)
        return Approved(manifest=manifest.blob, model=file.blob, golden=golden.blob, release=release)

    return approve


def _approved_package(package: PackageAssignment) -> Callable[[Sequence[_Found]], ApprovedPackage]:
    """The one file of the assigned version."""

    def approve(mine: Sequence[_Found]) -> ApprovedPackage:
        kind = package.kind.name.lower()
        named = f"{kind} {package.name}:{package.version}"
        if len(mine) != 1 or mine[0].kind != kind:
            raise UnknownTarget(f"the director names {len(mine)} files of {named} instead of one")
        (found,) = mine
        if found.blob != Blob(digest=package.digest, size_bytes=package.size_bytes):
            raise AlteredTarget(f"{named} is {found.blob.digest} by both repositories, not what was assigned")
        return ApprovedPackage(blob=found.blob, release=found.release)

    return approve
