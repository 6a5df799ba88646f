"""What is believed about a release, and what never again."""

import itertools
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import TargetFile

from edge_agent.core.errors import (
    AlteredTarget,
    BadSignature,
    DiskFull,
    Endless,
    ForeignDevice,
    Frozen,
    LinkDown,
    MixedUp,
    NoTrust,
    ReleaseRollback,
    Replayed,
    RollbackRefused,
    UnknownTarget,
    Untrusted,
    WrongHardware,
)
from edge_agent.core.ports import Repository as Metadata
from edge_agent.update.fetching import ROOTS_S
from edge_agent.update.floors import MAX_NUMBER
from edge_agent.update.journal import Journal
from edge_agent.update.line import IDLE_S
from edge_agent.update.record import Component
from edge_agent.update.surroundings import Approved
from edge_agent.update.trust import Trust
from protos.contract.telemetry import to_ms
from protos.contract.twin import DesiredTwin
from protos.contract.update import UpdateState as S
from tests.agent.update.parts import Device, Release, as_of_models_alone, release
from tests.conformance.repository import Ask, Repository, customised, forged, key

ONE, TWO, THREE = release(1), release(2), release(3)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """Runs version 1, of generation 1."""
    made = Device(tmp_path)
    made.install(ONE, 1)
    made.told.clear()
    made.serve(TWO)
    made.hub.asked.clear()
    made.hub.downloaded.clear()
    return made


def ask(device: Device, it: Release = TWO, generation: int = 2) -> Approved:
    """What the engine does before it fetches."""
    device.hub.desired = lambda: (generation, it.assignment)
    return device.trust.check(device.hub, device.anchor(), it.assignment, generation)


def refuses(device: Device, error: type[Exception], it: Release = TWO, generation: int = 2) -> None:
    """It does so, and a device with a truthful hub goes on afterwards."""
    with pytest.raises(error):
        ask(device, it, generation)
    device.hub.forged.clear()
    device.hub.forge = None
    assert ask(device, it, generation)


# -- agreement ------------------------------------------------------------------------------------------------------------


def test_what_both_repositories_mean_is_approved_with_its_release(device: Device) -> None:
    approved = ask(device)
    assert approved.manifest.digest == TWO.assignment.manifest_digest
    assert {approved.manifest.digest, approved.model.digest, approved.golden.digest} == set(TWO.blobs())
    assert (approved.release.series, approved.release.number) == ("models/default/street", 2)


def test_a_second_look_asks_for_the_next_root_and_the_timestamp_alone(device: Device) -> None:
    ask(device)
    device.hub.asked.clear()
    ask(device)
    assert device.hub.asked == ["2.root.json", "2.root.json", "timestamp.json"]


def retargeted(device: Device, change: Callable[[TargetFile], TargetFile]) -> Callable[[Ask, bytes], bytes]:
    """A director that is honest but for its targets."""
    targets = device.repository.releases[TWO.assignment].targets
    return lambda asked, _: device.repository.director.answer(asked, [change(target) for target in targets])


def longer(target: TargetFile) -> TargetFile:
    return TargetFile(target.length + 1, target.hashes, target.path, target.unrecognized_fields)


def moved(target: TargetFile) -> TargetFile:
    return TargetFile(target.length, target.hashes, target.path + "x", target.unrecognized_fields)


def strangers(target: TargetFile) -> TargetFile:
    return TargetFile(target.length, target.hashes, target.path.replace("/default/", "/other/", 1), target.unrecognized_fields)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (longer, AlteredTarget),
        (moved, UnknownTarget),
        (strangers, ForeignDevice),
        (lambda target: customised(target, release=99), ReleaseRollback),
        (lambda target: TargetFile(target.length, target.hashes, target.path), ReleaseRollback),
    ],
    ids=["length", "path", "tenant", "release", "no custom"],
)
def test_a_director_that_says_other_than_the_image_repository_is_refused(
    device: Device, change: Callable[[TargetFile], TargetFile], error: type[Exception]
) -> None:
    device.hub.forge = retargeted(device, change)
    refuses(device, error)
    assert device.hub.downloaded == []


@pytest.mark.parametrize(
    ("bound", "error"),
    [
        ({"device": "cam-2"}, ForeignDevice),
        ({"tenant": "other"}, ForeignDevice),
        ({"board": "vehicle-arm"}, WrongHardware),
        ({"nonce": bytes(32).hex()}, Replayed),
        ({"generation": 1}, Replayed),
        ({"generation": 3}, LinkDown),
        ({"now_ms": -1}, BadSignature),
        ({"now_ms": 1 << 62}, BadSignature),
        ({"generation": "2"}, BadSignature),
        ({"generation": True}, BadSignature),
        ({"nonce": "xyz"}, BadSignature),
        ({"nonce": None}, BadSignature),
    ],
    ids=lambda value: json.dumps(value)[:24] if isinstance(value, dict) else value.__name__,
)
def test_an_answer_is_bound_to_the_question(device: Device, bound: dict[str, Any], error: type[Exception]) -> None:
    def rebound(_: Ask, answer: bytes) -> bytes:
        signer = device.repository.director.signer
        return forged(answer, signer, change=lambda signed: signed.unrecognized_fields["tideline"].update(bound))

    device.hub.forge = rebound
    refuses(device, error)


def test_an_answer_of_the_right_key_in_another_role_is_refused(device: Device) -> None:
    director = device.repository.director
    device.hub.forge = lambda *_: forged(director.root, director.signer)
    refuses(device, BadSignature)


def test_an_answer_that_says_nothing_about_the_device_is_refused(device: Device) -> None:
    signer = device.repository.director.signer
    device.hub.forge = lambda _, answer: forged(answer, signer, change=lambda signed: signed.unrecognized_fields.clear())
    refuses(device, BadSignature)


def test_a_director_that_names_too_much_is_refused_before_any_of_it_is_looked_up(device: Device) -> None:
    targets = [TargetFile(1, {"sha256": "0" * 64}, f"models/default/street/{number}/x/manifest.pb") for number in range(65)]
    device.hub.forge = lambda asked, _: device.repository.director.answer(asked, targets)
    device.hub.asked.clear()
    with pytest.raises(BadSignature):
        ask(device)
    assert device.hub.asked == ["2.root.json", "2.root.json"]  # of both, and nothing else


def test_a_twin_that_asks_for_other_bytes_than_were_signed_is_refused(device: Device) -> None:
    other = release(2, size=5000)
    device.hub.desired = lambda: (2, TWO.assignment)
    with pytest.raises(AlteredTarget):
        device.trust.check(device.hub, device.anchor(), other.assignment, 2)


@pytest.mark.parametrize(
    "custom",
    [
        {"release": "2"},
        {"release": -1},
        {"release": True},
        {"release": 1 << 70},
        {"boards": None},
        {"boards": [1]},
        {"kind": "firmware"},
    ],
    ids=json.dumps,
)
def test_an_image_repository_that_talks_nonsense_about_a_file_approves_nothing(device: Device, custom: dict[str, Any]) -> None:
    images = device.repository.images
    images.add(customised(target, **custom) for target in device.repository.releases[TWO.assignment].targets)
    with pytest.raises(UnknownTarget):
        ask(device)


# -- what the image repository says ---------------------------------------------------------------------------------------


def serve(device: Device, name: str, data: bytes) -> None:
    device.hub.forged[(Metadata.IMAGE, name)] = data


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "bins"])
def test_metadata_of_a_strangers_hand_is_refused(device: Device, role: str) -> None:
    images = device.repository.images
    names = {"timestamp": "timestamp.json", "targets": "1.targets.json"}
    bins = images.bin_of(device.repository.releases[TWO.assignment].manifest.path)
    newest = max(
        (int(name.split(".")[0]) for name in images.files if name.endswith(("snapshot.json", f"{bins}.json"))), default=1
    )
    names |= {"snapshot": f"{newest}.snapshot.json", "bins": f"{images.bins[bins].version}.{bins}.json"}
    fresh = Device(device.folder / "fresh", repository=device.repository)  # with nothing in its cache
    fresh.clock.advance(device.clock.monotonic() - fresh.clock.monotonic())
    serve(fresh, names[role], forged(images.files[names[role]], key()))
    refuses(fresh, MixedUp if role == "snapshot" else BadSignature)  # the timestamp has the snapshot's hash


def test_an_older_timestamp_than_was_seen_is_refused(device: Device) -> None:
    before = device.repository.images.files["timestamp.json"]
    device.repository.images.publish()
    ask(device)
    serve(device, "timestamp.json", before)
    refuses(device, RollbackRefused)


def test_an_expired_timestamp_is_refused_also_where_it_was_believed_before(device: Device) -> None:
    ask(device)
    device.clock.advance(timedelta(days=2).total_seconds())
    with pytest.raises(Frozen):
        ask(device)
    device.repository.images.publish()
    assert ask(device)


def test_too_much_of_it_is_refused(device: Device) -> None:
    device.repository.images.publish()
    serve(device, "timestamp.json", device.repository.images.files["timestamp.json"] + b" " * 20_000)
    refuses(device, Endless)


def test_a_file_that_is_not_there_is_waited_for(device: Device) -> None:
    device.repository.images.files.pop("timestamp.json")
    with pytest.raises(LinkDown):
        ask(device)


def test_a_version_that_no_database_holds_is_refused(device: Device) -> None:
    images = device.repository.images
    online = images.online["timestamp"]
    beyond = forged(images.files["timestamp.json"], online, change=lambda signed: setattr(signed, "version", 1 << 70))
    serve(device, "timestamp.json", beyond)
    refuses(device, BadSignature)


# -- time -----------------------------------------------------------------------------------------------------------------


def believed(device: Device) -> int | None:
    row = device.journal._db.execute("SELECT at_ms FROM time_floor").fetchone()
    return int(row[0]) if row else None


def test_a_slow_clock_believes_the_director(device: Device) -> None:
    ask(device)
    withheld = device.repository.images.files["timestamp.json"]
    device.repository.clock = device.repository.director.clock = lambda: device.clock.now() + timedelta(days=1, hours=1)
    serve(device, "timestamp.json", withheld)
    with pytest.raises(Frozen):
        ask(device)


def test_a_clock_that_fell_back_does_not_bring_old_metadata_back(device: Device) -> None:
    withheld = device.repository.images.files["timestamp.json"]
    device.clock.advance(timedelta(days=3).total_seconds())
    device.repository.images.publish()
    ask(device)
    director = device.repository.director
    device.clock.advance(-timedelta(days=3).total_seconds())  # and the director, stolen, says the same
    serve(device, "timestamp.json", withheld)
    device.journal._db.execute("DELETE FROM version_floors")  # time alone must hold
    for path in (device.folder / "trust" / "image").glob("*.json"):
        path.unlink()
    assert director.clock() == device.clock.now()
    with pytest.raises(Frozen):
        ask(device)


def test_a_clock_ten_years_ahead_refuses_and_leaves_nothing_behind(device: Device) -> None:
    before = believed(device)
    honest = device.repository.director.clock
    now = honest()
    device.repository.director.clock = lambda: now
    device.clock.advance(timedelta(days=3650).total_seconds())
    with pytest.raises(Frozen):
        ask(device)
    device.clock.advance(-timedelta(days=3650).total_seconds())
    assert believed(device) == before
    assert ask(device)


def test_a_director_that_lies_about_the_time_is_not_remembered(device: Device) -> None:
    before = believed(device)
    device.repository.director.clock = lambda: device.clock.now() + timedelta(days=30)
    with pytest.raises(Frozen):
        ask(device)
    assert believed(device) == before


def test_a_hub_whose_clock_was_months_ahead_recovers_with_new_keys(device: Device) -> None:
    ahead = timedelta(days=200).total_seconds()
    device.clock.advance(ahead)
    device.repository.images._sign_bins(*device.repository.images.bins)
    device.repository.images.renew()
    ask(device)
    device.clock.advance(-ahead)
    device.repository.images.renew()
    with pytest.raises(Frozen):
        ask(device)
    device.repository.images.rotate("targets", "bins")  # the time was not these keys' word
    with pytest.raises(Frozen):
        ask(device)
    device.repository.images.rotate("timestamp", "snapshot")
    assert ask(device)
    assert believed(device) == to_ms(device.clock.now())


# -- floors ---------------------------------------------------------------------------------------------------------------

ZEROED = lambda data: bytes(len(data))  # noqa: E731  # as a power cut leaves a file that was not synced
DAMAGES = {
    "zeroed": ZEROED,
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda _: b"",
    "garbage": lambda _: b"\xff{]" * 50,
    "deep": lambda _: b"[" * 60_000,
}


def cached(device: Device) -> list[Path]:
    return [path for path in sorted((device.folder / "trust").rglob("*.json")) if not path.is_symlink()]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_costs_downloads_and_opens_no_way_back(device: Device, damage: str) -> None:
    before = dict(device.repository.images.files)
    device.repository.images.publish()
    ask(device)
    truth = {path: path.read_bytes() for path in cached(device)}
    assert len(truth) >= 6
    for path in truth:
        path.write_bytes(DAMAGES[damage](truth[path]))
    old = Journal(device.folder / "updates.sqlite", (), device.clock)
    serve(device, "timestamp.json", before["timestamp.json"])
    with pytest.raises(RollbackRefused):
        Trust(device.folder / "trust", old.floors, device.clock).check(device.hub, device.anchor(), TWO.assignment, 2)
    device.hub.forged.clear()
    assert ask(device)
    others = {device.repository.images.bin_of(it.path) for it in device.repository.releases[ONE.assignment].targets}
    assert {path.read_bytes() == truth[path] for path in cached(device) if path.stem not in others} == {True}


def test_without_floors_a_zeroed_cache_would_open_the_way_back(device: Device) -> None:
    """What the floors are for: with neither, a device believes the older repository."""
    before = device.repository.images.files["timestamp.json"]
    device.repository.images.publish()
    ask(device)
    for path in cached(device):
        path.write_bytes(ZEROED(path.read_bytes()))
    device.journal._db.execute("DELETE FROM version_floors")
    serve(device, "timestamp.json", before)
    assert ask(device)


def test_a_cache_of_the_past_is_passed_over(device: Device) -> None:
    past = {path: path.read_bytes() for path in cached(device)}
    ask(device)
    device.repository.images.publish()
    ask(device)
    for path, data in past.items():
        path.write_bytes(data)
    assert ask(device)
    assert json.loads((device.folder / "trust" / "image" / "timestamp.json").read_bytes())["signed"]["version"] == 4


def test_a_cache_that_cannot_be_written_costs_downloads_only(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    device.repository.images.publish()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge_agent.update.updater.write_atomic", full)
    assert ask(device)
    assert ask(device)


def test_floors_that_cannot_be_written_stop_the_update(device: Device) -> None:
    device.repository.images.publish()
    device.journal._db.execute("PRAGMA query_only = 1")
    with pytest.raises(DiskFull):
        ask(device)


def test_a_journal_in_memory_has_no_floors_to_trust(device: Device) -> None:
    memory = Journal(None, (), device.clock)
    with pytest.raises(DiskFull, match="start the agent again"):
        Trust(device.folder / "trust", memory.floors, device.clock).check(device.hub, device.anchor(), TWO.assignment, 2)


def fast_forward(device: Device, *roles: str) -> None:
    """A thief of online keys brings versions to where nothing follows, and the device sees them."""
    images = device.repository.images
    images._snapshot.version = images._timestamp.version = MAX_NUMBER - 1
    if "targets" in roles:
        images._targets.version = MAX_NUMBER - 1
        images._sign_targets()
    images.publish()
    ask(device)
    images._snapshot.version = images._timestamp.version = 10
    images._targets.version = 10


def test_a_repository_recovers_from_a_fast_forward_with_new_keys(device: Device) -> None:
    fast_forward(device, "targets")
    device.repository.images._sign_targets()
    device.repository.images.publish()
    with pytest.raises(RollbackRefused):
        ask(device)
    device.repository.images.rotate("timestamp", "snapshot", "targets")
    assert ask(device)


def test_new_keys_for_other_roles_do_not_lower_the_floors(device: Device) -> None:
    fast_forward(device)
    device.repository.images.rotate("targets", "bins")
    with pytest.raises(RollbackRefused):
        ask(device)


def test_the_director_recovers_from_a_fast_forward_with_a_new_key(device: Device) -> None:
    signer = device.repository.director.signer
    device.hub.forge = lambda _, answer: forged(answer, signer, change=lambda signed: setattr(signed, "version", MAX_NUMBER))
    ask(device)
    device.hub.forge = None
    with pytest.raises(RollbackRefused):
        ask(device)
    device.repository.director.rotate("director")
    assert ask(device)


def test_root_keys_change_while_a_device_is_away(device: Device) -> None:
    for _ in range(3):
        device.repository.images.rotate("root")
        device.repository.director.rotate("root", "director")
    assert ask(device)
    device.hub.asked.clear()
    ask(device)
    assert device.hub.asked == ["5.root.json", "5.root.json", "timestamp.json"]  # the others are in the cache


def test_newer_roots_are_not_forgotten_with_the_cache(device: Device) -> None:
    images = device.repository.images
    images.rotate("timestamp", "snapshot")
    ask(device)
    for path in cached(device):
        path.write_bytes(b"")
    hidden = images.files.pop("2.root.json")
    with pytest.raises(RollbackRefused):
        ask(device)
    images.files["2.root.json"] = hidden
    assert ask(device)


def test_other_roots_begin_anew(device: Device) -> None:
    """A device that was enrolled with a hub that was set up again is not bound by what the first one said."""
    device.install(TWO, 2)
    other = Repository("default", device.clock.now)
    THREE.publish(other)
    device.hub.repository, device.roots = other, (other.images.root, other.director.root)
    assert ask(device, THREE, 3).release.number == 1
    assert device.journal.floors.release("models/default/street") == 0


def test_roots_that_are_none_are_said_so(device: Device) -> None:
    device.roots = (b"{}", device.roots[1])
    with pytest.raises(NoTrust, match="enrol again"):
        ask(device)


# -- releases -------------------------------------------------------------------------------------------------------------


def stolen_director(device: Device, it: Release) -> None:
    """It names an old version as it was released once."""
    targets = device.repository.releases[it.assignment].targets
    device.hub.forge = lambda asked, _: device.repository.director.answer(asked, targets)


def test_a_committed_release_is_the_floor_of_its_model(device: Device) -> None:
    device.install(TWO, 2)
    stolen_director(device, ONE)
    with pytest.raises(ReleaseRollback):
        device.trust.check(device.hub, device.anchor(), ONE.assignment, 2)
    device.hub.forge = None
    assert ask(device, ONE, 3).release.number == 3  # released anew


def test_a_release_that_failed_is_no_floor(device: Device) -> None:
    device.runner.bad_golden.add(TWO.model)
    device.engine.offer(TWO.desired(2))
    device.settle()
    assert device.state is S.FAILED
    stolen_director(device, ONE)
    device.hub.desired = lambda: (3, ONE.assignment)
    assert device.trust.check(device.hub, device.anchor(), ONE.assignment, 3)


def test_the_floor_of_releases_outlives_a_restart_and_the_forgotten_updates(device: Device) -> None:
    device.install(TWO, 2)
    device.journal.forget(Component.MODEL)
    device.restart()
    assert device.journal.floors.release("models/default/street") == 2


def test_a_device_goes_back_by_itself_without_anyones_permission(device: Device) -> None:
    device.runner.bad_load.add(TWO.model)
    device.engine.offer(TWO.desired(2))
    device.settle()
    assert device.state is S.ROLLED_BACK
    assert device.runner.running == ONE.model


# -- in the engine --------------------------------------------------------------------------------------------------------


def test_an_update_that_is_not_believed_is_tried_again_told_once_and_fails_by_its_name(device: Device) -> None:
    names = itertools.cycle([key(), None])
    device.hub.forge = lambda _, answer: forged(answer, signer) if (signer := next(names)) else answer
    serve(device, "timestamp.json", b"{}")
    device.engine.offer(TWO.desired(2))
    device.settle()
    assert device.state is S.FAILED
    assert device.reason.startswith("BadSignature: ")
    assert [event.kind for event in device.told] == ["trust.refused", "update.failed"]
    assert device.told[0].detail.startswith("BadSignature: director")
    assert device.hub.downloaded == []
    assert device.runner.running == ONE.model


def test_each_kind_of_refusal_is_told(device: Device) -> None:
    answers: list[Callable[[Ask, bytes], bytes]] = [
        lambda _, answer: forged(answer, key()),
        lambda _, answer: b"{",
        retargeted(device, moved),
        retargeted(device, longer),
        lambda _, answer: answer,
    ]
    device.hub.forge = lambda asked, answer: answers.pop(0)(asked, answer)
    device.engine.offer(TWO.desired(2))
    device.settle()
    assert device.state is S.COMMITTED
    refusals = [event.detail.partition(":")[0] for event in device.told if event.kind == "trust.refused"]
    assert refusals == ["BadSignature", "UnknownTarget", "AlteredTarget"]


def test_what_is_in_the_slot_already_is_verified_all_the_same(device: Device) -> None:
    device.install(TWO, 2)
    device.hub.downloaded.clear()
    device.hub.forge = lambda _, answer: forged(answer, key())
    device.engine.offer(ONE.desired(3))
    device.settle()
    assert (device.state, device.runner.running) == (S.FAILED, TWO.model)


def test_a_manifest_that_names_other_files_than_were_released_is_refused(device: Device) -> None:
    mixed = Release(version=3, manifest=THREE.manifest, model=TWO.model, golden=THREE.golden)
    device.serve(THREE)
    device.repository.releases.clear()
    mixed.publish(device.repository)
    device.engine.offer(mixed.desired(2))
    device.settle()
    assert device.reason.startswith("AlteredTarget: the manifest of street:3")
    assert device.hub.downloaded.count(THREE.assignment.manifest_digest) == 1
    assert len(set(device.hub.downloaded)) == 1


def test_an_update_without_roots_fails_with_what_to_do_and_begins_again_once_there_are_some(device: Device) -> None:
    device.rooted = False
    device.engine.offer(TWO.desired(2))
    for _ in range(10):
        pause = device.engine.step()
    assert (device.state, pause) == (S.FAILED, ROOTS_S)
    assert device.reason.startswith("NoTrust: ")
    device.rooted = True
    device.settle()
    assert (device.state, device.runner.running) == (S.COMMITTED, TWO.model)


def test_an_update_that_failed_for_want_of_roots_begins_again_after_a_restart(device: Device) -> None:
    device.rooted = False
    device.engine.offer(TWO.desired(2))
    for _ in range(10):
        device.engine.step()
    device.rooted = True
    device.restart()
    device.settle()
    assert device.state is S.COMMITTED


def test_an_update_that_failed_by_bad_roots_waits_for_others_and_is_told_once(device: Device) -> None:
    good = device.roots
    device.roots = (b"{}", good[1])
    device.engine.offer(TWO.desired(2))
    for _ in range(10):
        pause = device.engine.step()
    assert (device.state, pause) == (S.FAILED, ROOTS_S)
    assert [event.kind for event in device.told] == ["update.failed"]
    device.roots = good
    device.settle()
    assert (device.state, device.runner.running) == (S.COMMITTED, TWO.model)


def test_nothing_of_trust_is_needed_to_start(device: Device) -> None:
    device.rooted = False
    device.hub.asked.clear()
    device.restart()
    assert device.runner.running == ONE.model
    assert device.engine.step() == IDLE_S
    assert device.hub.asked == []


# -- twins that concern something else ------------------------------------------------------------------------------------


def again(twin: DesiredTwin, generation: int) -> DesiredTwin:
    return DesiredTwin(generation=generation, model=twin.model, rollout_id=twin.rollout_id)


def test_a_twin_that_changes_nothing_about_the_model_is_seen_and_no_update(device: Device) -> None:
    device.hub.asked.clear()
    device.engine.offer(again(ONE.desired(1), 5))
    device.settle()
    assert device.engine.standing.generation == 5
    assert device.engine.standing.update is not None
    assert (device.engine.standing.update.generation, device.state) == (5, S.COMMITTED)
    assert (device.hub.asked, device.told) == ([], [])


def test_an_update_goes_on_under_the_newer_generation(device: Device) -> None:
    twin = TWO.desired(2)
    device.engine.offer(twin)
    device.settle(until=S.FETCHING)
    device.engine.offer(again(twin, 3))
    device.settle()
    assert device.state is S.COMMITTED
    assert device.engine.standing.generation == 3
    assert S.SUPERSEDED not in device.states
    assert [event.kind for event in device.told] == ["update.committed"]


def test_a_trial_goes_on_under_the_newer_generation(device: Device) -> None:
    twin = TWO.desired(2)
    device.engine.offer(twin)
    device.settle(until=S.TRIAL)
    device.engine.offer(again(twin, 3))
    device.settle()
    assert device.runner.history == [ONE.model, TWO.model]
    assert device.state is S.COMMITTED


def test_a_failed_update_is_not_tried_again_for_a_twin_that_changes_nothing_about_it(device: Device) -> None:
    device.runner.bad_golden.add(TWO.model)
    twin = TWO.desired(2)
    device.engine.offer(twin)
    device.settle()
    device.engine.offer(again(twin, 3))
    device.settle()
    assert (device.state, device.runner.verified) == (S.FAILED, 2)
    device.engine.offer(TWO.desired(4))  # another rollout is another try
    device.settle()
    assert device.runner.verified == 3


# -- the journal of an older agent ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("floors", [False, True], ids=["before there were floors", "before there were components"])
def test_a_journal_of_an_older_agent_opens_in_place(device: Device, floors: bool) -> None:
    device.journal.close()
    as_of_models_alone(device.folder / "updates.sqlite", floors=floors)
    device.start()
    assert (device.state, device.runner.running) == (S.COMMITTED, ONE.model)
    assert device.engine.standing.generation == 1
    assert device.journal.floors.release("models/default/street") == (1 if floors else 0)
    device.install(TWO, 2)
    assert device.journal.floors.release("models/default/street") == 2
    assert not (device.folder / "updates.sqlite.damaged").exists()


def test_every_refusal_is_an_untrusted_one() -> None:
    kinds = (AlteredTarget, BadSignature, Endless, ForeignDevice, Frozen, MixedUp, ReleaseRollback, Replayed, RollbackRefused)
    assert all(issubclass(kind, Untrusted) for kind in (*kinds, UnknownTarget, WrongHardware))
