"""An attacker between hub and device, or in the hub, with one stolen key or several: a real agent refuses each by its name.

While an attack lasts, the model that ran goes on, the slot pointer stays, nothing unverified is asked for, and afterwards an
honest release goes through. ``pytest -rA`` ends with the table of all results.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from edge_agent.core import errors
from tests.conformance import attacks
from tests.conformance.conftest import Results
from tests.conformance.ground import Ground, Watch, prepared
from tests.conformance.hub import Hub
from tests.conformance.repository import Repository, key
from tests.conformance.scene import Scene


@dataclass(frozen=True)
class Attack:
    name: str
    how: str
    refused_as: type[errors.Untrusted]
    begin: Callable[[Scene], None]
    fetches: bool = False  # all metadata is honest, so that files are asked for


ATTACKS = (
    Attack(
        "rollback of timestamp.json", "the one before last, as it was signed", errors.RollbackRefused,
        lambda it: it.serve("timestamp.json", it.past["timestamp.json"]),
    ),
    Attack(
        "rollback of the snapshot", "timestamp key stolen: a newer timestamp of an older snapshot", errors.RollbackRefused,
        attacks.old_snapshot,
    ),
    Attack(
        "rollback of a bin", "timestamp and snapshot keys stolen: a newer snapshot of an older bin", errors.RollbackRefused,
        attacks.old_bin,
    ),
    Attack(
        "rollback of targets.json",
        "timestamp and snapshot keys stolen: a newer snapshot of older targets",
        errors.RollbackRefused,
        attacks.old_targets,
    ),
    Attack(
        "rollback of the director", "director key stolen: version 1, all else right", errors.RollbackRefused,
        attacks.old_director
    ),
    Attack(
        "freeze: timestamp", "one that expired an hour ago, never seen here", errors.Frozen,
        lambda it: it.forge("timestamp", it.online("timestamp"), change=attacks.an_hour_ago),
    ),
    Attack("freeze: snapshot", "one that expired a day ago", errors.Frozen, lambda it: it.list({}, days=-1)),
    Attack(
        "freeze: bin", "one that expired an hour ago", errors.Frozen,
        lambda it: it.forge(it.bin(it.wanted.manifest), it.online("bins"), change=attacks.an_hour_ago),
    ),
    Attack("freeze: director", "expired an hour ago, right nonce", errors.Frozen, attacks.frozen_director),
    Attack(
        "replay of director metadata", "the answer to the update before (nonce)", errors.Replayed, attacks.replayed_director,
    ),
    Attack("mix and match: bin", "newest snapshot, the wanted bin one version older", errors.MixedUp, attacks.bin_of_the_past),
    Attack("mix and match: snapshot", "newest timestamp, the snapshot one older", errors.MixedUp, attacks.snapshot_of_the_past),
    Attack(
        "endless data: timestamp", "never ends", errors.Endless,
        lambda it: it.serve("timestamp.json", attacks.endless()),
    ),
    Attack(
        "endless data: snapshot", "never ends", errors.Endless,
        lambda it: it.serve(it.newest("snapshot")[0], attacks.endless())
    ),
    Attack("endless data: next root", "never ends", errors.Endless, attacks.endless_root),
    Attack(
        "endless data: director", "4 MiB in one answer", errors.Endless,
        lambda it: it.direct(lambda *_: attacks.PIECE * 1024),
    ),
    Attack(
        "endless data: model file", "goes on beyond its length", errors.Endless,
        lambda it: attacks.stream(it, it.files.model, lambda offset: itertools.repeat(attacks.PIECE)), fetches=True,
    ),
    Attack(
        "slow retrieval: timestamp", "50 bytes a second", errors.TooSlow,
        lambda it: it.serve("timestamp.json", lambda: attacks.slowly(it.newest("timestamp")[1])),
    ),
    Attack(
        "slow retrieval: model file", "50 bytes a second", errors.TooSlow,
        lambda it: attacks.stream(it, it.files.model, lambda offset: attacks.slowly(it.files.model[offset:])), fetches=True,
    ),
    Attack(
        "wrong key: timestamp", "signed by a stranger", errors.BadSignature, lambda it: it.forge("timestamp", key())
    ),
    Attack(
        "wrong key: snapshot", "timestamp key stolen, the snapshot signed by a stranger", errors.BadSignature,
        lambda it: it.list({}, key()),
    ),
    Attack(
        "wrong key: targets", "timestamp and snapshot keys stolen, targets signed by a stranger", errors.BadSignature,
        attacks.strange_targets,
    ),
    Attack(
        "wrong key: bin", "signed by a stranger", errors.BadSignature,
        lambda it: it.forge(it.bin(it.wanted.manifest), key()),
    ),
    Attack("altered bin", "the honest one with another hash in it", errors.BadSignature, attacks.altered_bin),
    Attack(
        "wrong key: director", "signed by a stranger", errors.BadSignature,
        lambda it: it.direct(lambda ask, targets: Repository("default").director.answer(ask, targets)),
    ),
    Attack(
        "threshold not met: root", "the next root with one of two signatures", errors.BadSignature,
        lambda it: it.root(it.repository.images.roots[0]),
    ),
    Attack(
        "threshold not met: root twice", "one key's signature counted for two", errors.BadSignature,
        attacks.one_signature_twice,
    ),
    Attack(
        "root signed by the old keys only", "names new keys, none of which signed", errors.BadSignature,
        lambda it: attacks.new_root_keys(it, *it.repository.images.roots),
    ),
    Attack("root signed by the new keys only", "names new keys, only they signed", errors.BadSignature, attacks.new_root_keys),
    Attack(
        "root with a wrong version", "one too high, rightly signed", errors.MixedUp,
        lambda it: it.root(*it.repository.images.roots, change=lambda root: setattr(root, "version", root.version + 1)),
    ),
    Attack(
        "threshold not met: director's root", "one right signature and a stranger's", errors.BadSignature,
        attacks.strange_director_root,
    ),
    Attack("garbage: timestamp", "no JSON", errors.BadSignature, lambda it: it.serve("timestamp.json", b"\xff\xfe{{{")),
    Attack(
        "garbage: director", "16,000 brackets deep", errors.BadSignature, lambda it: it.direct(lambda *_: b"[" * 16_000)
    ),
    Attack(
        "arbitrary file", "other bytes of the same length as the manifest's", errors.AlteredTarget, attacks.other_manifest,
        fetches=True,
    ),
    Attack("another device's director metadata", "this nonce", errors.ForeignDevice, lambda it: it.bind(device="other")),
    Attack("another tenant's director metadata", "this nonce", errors.ForeignDevice, lambda it: it.bind(tenant="other")),
    Attack(
        "director metadata for another board", "this nonce", errors.WrongHardware,
        lambda it: it.bind(board=attacks.OTHER_BOARD),
    ),
    Attack(
        "director metadata for another nonce", "this device", errors.Replayed, lambda it: it.bind(nonce=bytes(32))
    ),
    Attack(
        "director metadata of an older generation", "this device, this nonce", errors.Replayed,
        lambda it: it.bind(generation=it.answers.generation - 1),
    ),
    Attack(
        "director without the desired image", "names what runs, not what the twin says", errors.UnknownTarget,
        lambda it: it.direct(lambda ask, _: it.repository.director.answer(ask, it.running.targets)),
    ),
    Attack("stolen director key: unknown image", "names a model nobody released", errors.UnknownTarget, attacks.unknown_image),
    Attack(
        "stolen director key: altered image", "a released path with other hashes", errors.AlteredTarget, attacks.altered_image
    ),
    Attack(
        "stolen director key: altered length", "a released path, one byte longer", errors.AlteredTarget, attacks.altered_length
    ),
    Attack(
        "stolen director key: other hardware", "an image released for another board", errors.WrongHardware,
        attacks.for_other_hardware,
    ),
    Attack(
        "stolen director key: other tenant",
        "an image that another tenant released",
        errors.ForeignDevice,
        attacks.of_another_tenant,
    ),
    Attack(
        "stolen image key",
        "bins: another hash for the wanted image, which the director has not named",
        errors.AlteredTarget,
        attacks.altered_release,
    ),
    Attack(
        "stolen director key: wrong time", "a year ahead: all metadata seems expired", errors.Frozen, attacks.hasty_director,
    ),
    Attack("stolen director key: old image", "as it was released", errors.ReleaseRollback, attacks.old_image),
    Attack(
        "stolen director key: old image renumbered", "with the newest release number", errors.ReleaseRollback,
        attacks.old_image_called_new,
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def ground(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = prepared(hub, tmp_path_factory.mktemp("attacked"), "attacked")
    yield made
    made.agent.close()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_refused_by_its_name_while_inference_goes_on(ground: Ground, attack: Attack, results: Results) -> None:
    scene = ground.scene()
    scene.answers.generation += 1  # as it will be when the attack begins
    attack.begin(scene)
    watch = Watch(ground)
    try:
        ground.refused(ground.hub.desire(ground.name, scene.desired, release=scene.wanted), attack.refused_as)
        said = watch.refusal(attack.refused_as)
        inferences = watch.nothing_changed(scene.running.assignment)
        if not attack.fetches:
            assert not watch.asked_for(), "nothing is fetched, let alone read, that was not verified"
    finally:
        ground.honest()
    ground.update()
    results.add(attack.name, attack.how, said, inferences)
