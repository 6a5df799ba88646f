"""What an attacker does to one device."""

import itertools
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import TargetFile

from protos.contract.ids import digest_of
from protos.contract.twin import ModelAssignment
from tests.agent import models
from tests.agent.models import ModelFiles
from tests.conformance.repository import Ask, Repository, customised, forged, key, signed_by, utc_now, version_of
from tests.conformance.scene import Scene

OTHER_BOARD = "vehicle-arm"
PIECE = b"{" * 4096
TRICKLE_S = 0.02  # before each byte


def an_hour_ago(signed: Any) -> None:
    signed.expires = (utc_now() - timedelta(hours=1)).replace(microsecond=0)


def endless(piece: bytes = PIECE) -> Callable[[], Iterator[bytes]]:
    return lambda: itertools.repeat(piece)


def slowly(data: bytes) -> Iterator[bytes]:
    for byte in data:
        threading.Event().wait(TRICKLE_S)
        yield bytes([byte])


# -- old, expired and mixed metadata ----------------------------------------------------------------------------------


def old_snapshot(scene: Scene) -> None:
    names = [name for name in scene.past if name.endswith("snapshot.json")]
    scene.date(scene.past[max(names, key=lambda name: version_of(scene.past[name]))])


def old_bin(scene: Scene) -> None:
    role = scene.bin(scene.running.manifest)
    scene.list({role: max(version_of(data) for name, data in scene.past.items() if name.endswith(f"{role}.json"))})


def old_targets(scene: Scene) -> None:
    scene.list({"targets": version_of(scene.newest("targets")[1]) - 1})


def old_director(scene: Scene) -> None:
    def version_one(ask: Ask, targets: Sequence[TargetFile]) -> bytes:
        honest = scene.repository.director.answer(ask, targets)
        return forged(honest, scene.repository.director.signer, change=lambda signed: setattr(signed, "version", 1))

    scene.direct(version_one)


def frozen_director(scene: Scene) -> None:
    def expired(ask: Ask, targets: Sequence[TargetFile]) -> bytes:
        return forged(scene.repository.director.answer(ask, targets), scene.repository.director.signer, change=an_hour_ago)

    scene.direct(expired)


def replayed_director(scene: Scene) -> None:
    recorded = scene.answers.given[-1]
    scene.direct(lambda *_: recorded)


def bin_of_the_past(scene: Scene) -> None:
    name, _ = scene.newest(scene.bin(scene.wanted.manifest))
    number, _, rest = name.partition(".")
    scene.serve(name, scene.repository.images.files[f"{int(number) - 1}.{rest}"])


def snapshot_of_the_past(scene: Scene) -> None:
    name, data = scene.newest("snapshot")
    scene.serve(name, scene.repository.images.files[f"{version_of(data) - 1}.snapshot.json"])


# -- wrong hands ------------------------------------------------------------------------------------------------------


def strange_targets(scene: Scene) -> None:
    following = version_of(scene.newest("targets")[1]) + 1
    scene.list({"targets": following})
    data = scene.newest("targets")[1]
    scene.serve(f"{following}.targets.json", forged(data, key(), change=lambda signed: setattr(signed, "version", following)))


def altered_bin(scene: Scene) -> None:
    name, data = scene.newest(scene.bin(scene.wanted.manifest))
    scene.serve(name, data.replace(scene.wanted.manifest.hashes["sha256"].encode(), digest_of(b"evil")[7:].encode()))


def altered_release(scene: Scene) -> None:
    path = scene.wanted.manifest.path

    def change(signed: Any) -> None:
        signed.targets[path].hashes["sha256"] = digest_of(b"evil")[7:]

    scene.forge(scene.bin(scene.wanted.manifest), scene.online("bins"), change=change)


def new_root_keys(scene: Scene, *signers: CryptoSigner) -> None:
    images = scene.repository.images
    honest = images.roots
    images.roots = [key() for _ in honest]
    try:
        scene.root(*(signers or images.roots))
    finally:
        images.roots = honest


def endless_root(scene: Scene) -> None:
    scene.serve(f"{scene.repository.images.version + 1}.root.json", endless())


def one_signature_twice(scene: Scene) -> None:
    root = scene.repository.images.next_root()
    envelope = json.loads(signed_by(root, scene.repository.images.roots[0]))
    envelope["signatures"] *= 2
    scene.serve(f"{root.version}.root.json", json.dumps(envelope).encode())


def strange_director_root(scene: Scene) -> None:
    director = scene.repository.director
    root = director.next_root()
    scene.answers.directors[f"{root.version}.root.json"] = signed_by(root, director.roots[0], key())


# -- the director's key is stolen -------------------------------------------------------------------------------------


def evil() -> tuple[ModelFiles, ModelAssignment]:
    """A whole and working model that nobody released."""
    files = models.files(seed=666, version=4242)
    size = len(files.manifest_bytes)
    digest = digest_of(files.manifest_bytes)
    return files, ModelAssignment(name=files.manifest.name, version=4242, manifest_digest=digest, manifest_size_bytes=size)


def unknown_image(scene: Scene) -> None:
    files, assignment = evil()
    elsewhere = Repository("default").release(files)
    scene.hub.put(files)
    scene.steal(elsewhere.targets, assignment)


def altered_image(scene: Scene) -> None:
    files, assignment = evil()
    scene.hub.put(files)
    made = Repository("default").release(files)
    pairs = zip(made.targets, scene.wanted.targets, strict=True)
    renamed = [TargetFile(theirs.length, theirs.hashes, ours.path, ours.unrecognized_fields) for theirs, ours in pairs]
    scene.steal(renamed, replace(assignment, version=scene.wanted.assignment.version))


def altered_length(scene: Scene) -> None:
    changed = [TargetFile(it.length + 1, it.hashes, it.path, it.unrecognized_fields) for it in scene.wanted.targets]
    scene.steal(changed)


def for_other_hardware(scene: Scene) -> None:
    files = models.files(seed=31, version=scene.wanted.assignment.version + 5000)
    scene.hub.put(files)
    release = scene.repository.release(files, boards=(OTHER_BOARD,))
    scene.steal((customised(target, boards=[]) for target in release.targets), release.assignment)


def of_another_tenant(scene: Scene) -> None:
    mine, scene.repository.tenant = scene.repository.tenant, "other"
    try:
        files, _ = evil()
        release = scene.repository.release(files)
    finally:
        scene.repository.tenant = mine
    scene.hub.put(files)
    scene.steal(release.targets, release.assignment)


def hasty_director(scene: Scene) -> None:
    def in_a_year(ask: Ask, targets: Sequence[TargetFile]) -> bytes:
        honest, later = scene.repository.director.answer(ask, targets), timedelta(days=366)

        def change(signed: Any) -> None:
            signed.unrecognized_fields["tideline"]["now_ms"] += int(later.total_seconds() * 1000)
            signed.expires += later

        return forged(honest, scene.repository.director.signer, change=change)

    scene.direct(in_a_year)


def old_image(scene: Scene) -> None:
    scene.steal(scene.old.targets, scene.old.assignment)


def old_image_called_new(scene: Scene) -> None:
    scene.steal((customised(it, release=scene.wanted.number) for it in scene.old.targets), scene.old.assignment)


# -- files ------------------------------------------------------------------------------------------------------------


def stream(scene: Scene, data: bytes, served: Callable[[int], Iterable[bytes]]) -> None:
    scene.hub.streams[digest_of(data)] = served


def other_manifest(scene: Scene) -> None:
    whole = scene.files.manifest_bytes
    stream(scene, whole, lambda offset: [bytes(len(whole))[offset:]])
