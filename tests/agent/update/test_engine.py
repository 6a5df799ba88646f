from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.core.errors import AgentError, Corrupt, DiskFull, LinkDown, Refused
from edge_agent.update.components.model import AGAIN_S, HELD_BACK_S
from edge_agent.update.fetch import Fetcher
from edge_agent.update.floors import Release
from edge_agent.update.journal import MOST_CUTS
from edge_agent.update.line import IDLE_S
from edge_agent.update.probation import Vitals
from edge_agent.update.record import Component
from edge_agent.update.surroundings import ApprovedPackage
from protos.contract.ids import digest_of
from protos.contract.manifest import Blob
from protos.contract.twin import DesiredTwin, PackageAssignment, PackageKind
from protos.contract.update import UpdateState as S
from tests.agent.update.parts import CONFIG, HEALTHY, Device, release

ONE, TWO, THREE = release(1), release(2), release(3)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


@pytest.fixture
def equipped(device: Device) -> Device:
    """Runs version 1."""
    device.install(ONE, 1)
    device.states.clear()
    device.told.clear()
    return device


def test_a_new_device_idles_without_a_model(device: Device) -> None:
    assert device.engine.step() == IDLE_S
    assert device.engine.standing.running is None
    assert device.engine.standing.generation == 0


def test_a_good_model_is_downloaded_tried_and_committed(device: Device) -> None:
    device.install(ONE, 1)
    assert device.states == [S.OFFERED, S.FETCHING, S.STAGED, S.TRIAL, S.COMMITTED]
    assert device.runner.running == ONE.model
    standing = device.engine.standing
    assert (standing.generation, standing.running) == (1, ONE.assignment)
    assert [event.kind for event in device.told] == ["update.committed"]


def test_it_starts_with_the_committed_model_after_a_restart_without_the_hub(equipped: Device) -> None:
    equipped.hub.blobs.clear()
    equipped.restart()
    assert equipped.runner.running == ONE.model
    assert equipped.engine.standing.running == ONE.assignment
    assert equipped.engine.step() == IDLE_S


def test_the_same_or_an_older_generation_is_ignored(equipped: Device) -> None:
    equipped.serve(TWO)
    for generation in (0, 1):
        equipped.engine.offer(TWO.desired(generation))
    assert equipped.engine.step() == IDLE_S
    assert equipped.runner.running == ONE.model


def test_the_retained_twin_of_a_finished_update_is_ignored_after_a_restart(equipped: Device) -> None:
    equipped.runner.bad_golden.add(TWO.model)
    equipped.serve(TWO)
    equipped.engine.offer(TWO.desired(2))
    equipped.settle()
    equipped.restart()
    equipped.engine.offer(TWO.desired(2))
    assert equipped.engine.step() == IDLE_S
    assert equipped.runner.verified == 0


def test_a_desired_twin_without_a_model_keeps_what_runs(equipped: Device) -> None:
    equipped.engine.offer(DesiredTwin(generation=2))
    equipped.settle()
    assert equipped.engine.standing.generation == 2
    assert equipped.engine.standing.running == ONE.assignment


def test_the_model_that_runs_already_is_committed_without_a_download(equipped: Device) -> None:
    equipped.hub.downloaded.clear()
    equipped.engine.offer(ONE.desired(2))
    equipped.settle()
    assert equipped.hub.downloaded == []
    assert (equipped.state, equipped.engine.standing.generation) == (S.COMMITTED, 2)
    assert equipped.runner.history == [ONE.model]


def test_the_version_before_comes_back_without_a_download(equipped: Device) -> None:
    equipped.install(TWO, 2)
    equipped.hub.blobs.clear()
    equipped.engine.offer(ONE.desired(3))
    equipped.settle()
    assert equipped.state is S.COMMITTED
    assert equipped.runner.running == ONE.model


# -- fetching -------------------------------------------------------------------------------------------------------------


def test_an_unreachable_hub_is_waited_for_and_does_not_count_as_an_attempt(equipped: Device) -> None:
    equipped.serve(TWO)
    equipped.hub.faults.extend(LinkDown("no route") for _ in range(8))
    equipped.engine.offer(TWO.desired(2))
    equipped.settle()
    assert equipped.state is S.COMMITTED


def test_a_hub_that_stays_away_fails_the_update_after_the_fetch_timeout(equipped: Device) -> None:
    equipped.serve(TWO)
    equipped.hub.faults.extend(LinkDown("no route to the hub") for _ in range(1000))
    equipped.engine.offer(TWO.desired(2))
    before = equipped.clock.monotonic()
    equipped.settle()
    assert equipped.state is S.FAILED
    assert "600 s" in equipped.reason and "no route" in equipped.reason
    assert equipped.clock.monotonic() - before < 600 + 60 + 60
    assert equipped.runner.running == ONE.model


def test_a_device_that_is_offline_waits_as_long_as_it_takes(equipped: Device) -> None:
    equipped.serve(TWO)
    equipped.online = False
    equipped.hub.faults.extend(LinkDown("no route to the hub") for _ in range(500))
    equipped.engine.offer(TWO.desired(2))
    before = equipped.clock.monotonic()
    equipped.settle(until=S.STAGED)
    assert equipped.clock.monotonic() - before > 10 * CONFIG.fetch_timeout_s


def test_a_restart_gives_a_download_its_time_again(equipped: Device) -> None:
    equipped.serve(TWO)
    equipped.engine.offer(TWO.desired(2))
    equipped.settle(until=S.FETCHING)
    equipped.clock.advance(10 * CONFIG.fetch_timeout_s)
    equipped.restart()
    equipped.hub.faults.append(LinkDown("not yet"))
    equipped.settle()
    assert equipped.state is S.COMMITTED


def test_room_for_one_download_is_no_room_for_another_while_it_lasts(equipped: Device) -> None:
    fetcher = equipped.fetcher
    owed: list[int] = []
    equipped.serve(TWO)
    equipped.hub.before = lambda _: owed.append(fetcher.owed_bytes)
    equipped.engine.offer(TWO.desired(2))
    equipped.settle()
    manifest, model, _ = owed
    assert (manifest, fetcher.owed_bytes) == (0, 0) and 0 < model <= len(TWO.model) + len(TWO.golden)


def test_room_is_claimed_before_it_is_looked_for(equipped: Device, tmp_path: Path) -> None:
    """Of two downloads that begin at once, each sees the other."""
    owed: list[int] = []

    def free_bytes(_: Path) -> int:
        owed.append(fetcher.owed_bytes)
        return 4096

    package = PackageAssignment(
        kind=PackageKind.CONFIG, name="site", version="1", digest=digest_of(b"seven"), size_bytes=len(b"seven")
    )
    approved = ApprovedPackage(
        blob=Blob(digest=package.digest, size_bytes=package.size_bytes), release=Release(series="config", number=1)
    )
    equipped.hub.blobs[package.digest] = b"seven"
    fetcher = Fetcher(lambda: equipped.hub, unrunnable=lambda _: "", free_bytes=free_bytes, reserve_bytes=0)
    (tmp_path / "one").mkdir()
    fetcher.fetch(
        tmp_path / "one" / "file", package, approve=lambda _: approved, called_off=lambda: False, max_bytes=package.size_bytes
    )
    assert owed[0] == package.size_bytes and fetcher.owed_bytes == 0


def test_damaged_downloads_are_tried_again_up_to_the_bound(equipped: Device) -> None:
    equipped.serve(TWO)
    equipped.hub.faults.extend(Corrupt("digest differs") for _ in range(2))
    equipped.engine.offer(TWO.desired(2))
    equipped.settle()
    assert equipped.state is S.COMMITTED


def test_downloads_that_stay_damaged_fail_the_update(equipped: Device) -> None:
    equipped.serve(TWO)
    equipped.hub.faults.extend(Corrupt("digest differs") for _ in range(100))
    equipped.engine.offer(TWO.desired(2))
    equipped.settle()
    assert equipped.state is S.FAILED
    assert "digest differs" in equipped.reason
    assert len(equipped.hub.faults) == 97
    assert [event.kind for event in equipped.told] == ["trust.refused", "update.failed"]
    assert equipped.told[0].detail.startswith("AlteredTarget: ")


def test_a_hub_that_breaks_its_promise_activates_nothing(equipped: Device) -> None:
    equipped.serve(TWO)
    equipped.hub.blobs |= {digest: b"x" * len(data) for digest, data in TWO.blobs().items() if data == TWO.model}
    equipped.engine.offer(TWO.desired(2))
    equipped.settle()
    assert equipped.state is S.FAILED
    assert "model.bin from the hub is not" in equipped.reason
    assert equipped.runner.running == ONE.model


def test_a_refused_download_fails_at_once(equipped: Device) -> None:
    equipped.serve(TWO)
    equipped.hub.faults.append(Refused("this device may not read it"))
    equipped.engine.offer(TWO.desired(2))
    equipped.settle()
    assert (equipped.state, equipped.reason) == (S.FAILED, "this device may not read it")


@pytest.mark.parametrize("fault", [OSError(5, "Input/output error"), DiskFull("no room")])
def test_a_disk_that_cannot_be_written_is_waited_for(equipped: Device, fault: AgentError) -> None:
    equipped.serve(TWO)
    equipped.hub.faults.append(fault)
    equipped.engine.offer(TWO.desired(2))
    equipped.settle()
    assert equipped.state is S.COMMITTED


def test_nothing_is_downloaded_into_a_disk_without_room(equipped: Device) -> None:
    equipped.serve(TWO)
    equipped.hub.downloaded.clear()
    equipped.free_bytes = CONFIG.disk_reserve_bytes + 10
    equipped.engine.offer(TWO.desired(2))
    equipped.settle()
    assert equipped.state is S.FAILED
    assert "free some space" in equipped.reason
    assert equipped.hub.downloaded == [TWO.assignment.manifest_digest]


def test_a_manifest_of_another_version_than_assigned_is_refused(equipped: Device) -> None:
    seventh = replace(TWO, version=7)
    equipped.serve(seventh)
    equipped.engine.offer(seventh.desired(2))
    equipped.settle()
    assert equipped.state is S.FAILED
    assert "street:7 was assigned, but its manifest says street:2" in equipped.reason


def test_a_manifest_that_is_no_manifest_is_refused(equipped: Device) -> None:
    broken = replace(TWO, manifest=TWO.manifest[:-30])
    equipped.serve(broken)
    equipped.engine.offer(broken.desired(2))
    equipped.settle()
    assert equipped.state is S.FAILED
    assert "manifest of street:2 cannot be used" in equipped.reason


def test_a_format_that_does_not_run_here_is_refused_before_the_artifact_is_downloaded(equipped: Device) -> None:
    equipped.serve(TWO)
    equipped.hub.downloaded.clear()
    equipped.runner.refuses = "no TFLite runtime is installed"
    equipped.engine.offer(TWO.desired(2))
    equipped.settle()
    assert equipped.state is S.FAILED
    assert "no TFLite runtime" in equipped.reason
    assert len(equipped.hub.downloaded) == 1


def test_a_download_goes_on_after_a_restart_with_what_is_there(equipped: Device) -> None:
    equipped.serve(TWO)
    equipped.engine.offer(TWO.desired(2))
    equipped.settle(until=S.FETCHING)
    equipped.hub.faults = deque([LinkDown("cut")])
    equipped.hub.before = lambda blob: None
    downloads = []

    def only_manifest(blob: object) -> None:
        downloads.append(blob)
        equipped.hub.faults = deque([LinkDown("cut")]) if len(downloads) == 2 else deque()

    equipped.hub.before = only_manifest
    equipped.engine.step()
    equipped.restart()
    equipped.settle()
    assert equipped.state is S.COMMITTED
    assert equipped.hub.downloaded.count(TWO.assignment.manifest_digest) == 1


# -- superseding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [S.OFFERED, S.FETCHING, S.STAGED])
def test_a_newer_generation_supersedes_what_is_not_active_yet(equipped: Device, state: S) -> None:
    equipped.serve(TWO, THREE)
    equipped.engine.offer(TWO.desired(2))
    if state is S.OFFERED:
        equipped.journal.offer(Component.MODEL, TWO.wanted(2))
    equipped.settle(until=state)
    equipped.engine.offer(THREE.desired(3))
    equipped.settle()
    assert equipped.runner.running == THREE.model
    assert TWO.model not in equipped.runner.history


def test_a_newer_generation_cuts_the_download_under_way(equipped: Device) -> None:
    equipped.serve(TWO, THREE)
    equipped.hub.before = lambda blob: equipped.engine.offer(THREE.desired(3)) or equipped.hub.faults.append(LinkDown("closed"))
    equipped.engine.offer(TWO.desired(2))
    equipped.settle(until=S.FETCHING)
    equipped.engine.step()
    assert equipped.hub.closed
    equipped.hub.before = lambda blob: None
    equipped.settle()
    assert equipped.runner.running == THREE.model


def test_a_newer_generation_takes_a_trial_back_first(equipped: Device) -> None:
    equipped.serve(TWO, THREE)
    equipped.engine.offer(TWO.desired(2))
    equipped.settle(until=S.TRIAL)
    equipped.engine.offer(THREE.desired(3))
    equipped.settle()
    assert equipped.runner.history == [ONE.model, TWO.model, ONE.model, THREE.model]
    assert S.ROLLED_BACK in equipped.states


def test_a_newer_generation_of_the_model_on_trial_waits_for_its_end(equipped: Device) -> None:
    equipped.serve(TWO)
    equipped.engine.offer(TWO.desired(2))
    equipped.settle(until=S.TRIAL)
    equipped.engine.offer(TWO.desired(3))
    equipped.settle()
    assert equipped.runner.history == [ONE.model, TWO.model]
    assert equipped.engine.standing.generation == 3
    assert equipped.state is S.COMMITTED


def test_a_golden_run_that_was_overtaken_activates_nothing(equipped: Device) -> None:
    equipped.serve(TWO, THREE)
    equipped.runner.during_verify = lambda: equipped.engine.offer(THREE.desired(3))
    equipped.engine.offer(TWO.desired(2))
    equipped.settle()
    assert equipped.runner.history == [ONE.model, THREE.model]


# -- staged and trial -----------------------------------------------------------------------------------------------------


def test_a_model_that_fails_its_golden_set_never_becomes_active(equipped: Device) -> None:
    equipped.runner.bad_golden.add(TWO.model)
    equipped.serve(TWO)
    equipped.engine.offer(TWO.desired(2))
    equipped.settle()
    assert equipped.state is S.FAILED
    assert "golden outputs are off" in equipped.reason
    assert equipped.runner.history == [ONE.model]
    assert equipped.engine.standing.running == ONE.assignment


def test_a_golden_run_that_takes_the_agent_down_is_not_tried_for_ever(equipped: Device) -> None:
    equipped.serve(TWO)
    equipped.engine.offer(TWO.desired(2))
    equipped.settle(until=S.STAGED)
    for _ in range(CONFIG.max_attempts):
        update = equipped.journal.newest()
        assert update is not None
        equipped.journal.count(update)  # and then the agent died
        equipped.restart()
        assert equipped.runner.running == ONE.model
    equipped.settle()
    assert equipped.state is S.FAILED
    assert "did not end in 3 starts" in equipped.reason


@pytest.mark.parametrize(("cuts", "ends"), [(MOST_CUTS, S.COMMITTED), (MOST_CUTS + CONFIG.max_attempts, S.FAILED)])
def test_a_golden_run_that_the_power_cuts_is_tried_again_but_not_for_ever(equipped: Device, cuts: int, ends: S) -> None:
    """What takes the whole board down looks the same."""
    equipped.serve(TWO)
    equipped.engine.offer(TWO.desired(2))
    equipped.settle(until=S.STAGED)
    for _ in range(cuts):
        update = equipped.journal.newest()
        assert update is not None
        equipped.journal.count(update)
        equipped.restart(cut=True)
    equipped.settle()
    assert equipped.state is ends


def test_staged_files_that_rot_are_not_activated(equipped: Device) -> None:
    equipped.serve(TWO)
    equipped.engine.offer(TWO.desired(2))
    equipped.settle(until=S.STAGED)
    equipped.slots.other().model.write_bytes(b"rotten")
    equipped.settle()
    assert equipped.state is S.FAILED
    assert equipped.runner.running == ONE.model


def test_a_model_that_does_not_load_is_taken_back(equipped: Device) -> None:
    equipped.serve(TWO)
    equipped.runner.bad_load.add(TWO.model)
    equipped.engine.offer(TWO.desired(2))
    equipped.settle()
    assert equipped.state is S.ROLLED_BACK
    assert "does not start: the runtime refuses it" in equipped.reason
    assert equipped.runner.running == ONE.model


@pytest.mark.parametrize(
    ("health", "words"),
    [
        (Vitals(inferences=10, errors=5, last_error="output holds NaN"), "output holds NaN"),
        (Vitals(inferences=50, latency_p95_ms=400.0), "p95 latency 400.0 ms"),
    ],
)
def test_a_model_that_does_badly_is_taken_back_offline_with_its_reason(equipped: Device, health: Vitals, words: str) -> None:
    equipped.serve(TWO)
    equipped.engine.offer(TWO.desired(2))
    equipped.settle(until=S.TRIAL)
    equipped.hub.blobs.clear()
    before = equipped.clock.monotonic()
    equipped.runner.health = health
    equipped.settle()
    assert equipped.state is S.ROLLED_BACK
    assert words in equipped.reason
    assert equipped.clock.monotonic() - before < 30
    assert equipped.runner.running == ONE.model
    assert [event.kind for event in equipped.told] == ["update.rolled_back"]
    equipped.restart()
    assert equipped.runner.running == ONE.model


def test_a_first_model_that_does_badly_leaves_no_model(device: Device) -> None:
    device.serve(ONE)
    device.engine.offer(ONE.desired(1))
    device.settle(until=S.TRIAL)
    device.runner.health = Vitals(errors=3, last_error="boom")
    device.settle()
    assert device.state is S.ROLLED_BACK
    assert device.runner.running is None
    assert device.engine.standing.running is None
    device.restart()
    assert device.runner.running is None


def test_a_device_that_sees_nothing_commits_in_the_end(equipped: Device) -> None:
    equipped.serve(TWO)
    equipped.runner.health = Vitals()
    before = equipped.clock.monotonic()
    equipped.engine.offer(TWO.desired(2))
    equipped.settle()
    assert equipped.state is S.COMMITTED
    assert equipped.clock.monotonic() - before >= 6 * CONFIG.probation_s


def test_a_restart_on_trial_counts_and_goes_on_with_probation(equipped: Device) -> None:
    equipped.serve(TWO)
    equipped.engine.offer(TWO.desired(2))
    equipped.settle(until=S.TRIAL)
    equipped.restart()
    update = equipped.journal.newest()
    assert update is not None and update.attempts == 2
    assert equipped.runner.running == TWO.model
    equipped.settle()
    assert equipped.state is S.COMMITTED


def test_a_model_that_takes_the_agent_down_is_taken_back_after_its_attempts(equipped: Device) -> None:
    equipped.serve(TWO)
    equipped.engine.offer(TWO.desired(2))
    equipped.settle(until=S.TRIAL)
    equipped.hub.blobs.clear()
    for _ in range(CONFIG.max_attempts):
        equipped.restart()
    assert equipped.state is S.ROLLED_BACK
    assert "did not survive 3 starts" in equipped.reason
    assert equipped.runner.running == ONE.model


def test_a_rolling_back_that_was_cut_short_is_finished_at_the_next_start(equipped: Device) -> None:
    equipped.serve(TWO)
    equipped.engine.offer(TWO.desired(2))
    equipped.settle(until=S.TRIAL)
    update = equipped.journal.newest()
    assert update is not None
    equipped.journal.condemn(update, "too slow")
    equipped.restart()
    assert (equipped.state, equipped.reason) == (S.ROLLED_BACK, "too slow")
    assert equipped.runner.history == [ONE.model]


def test_a_bad_trial_ends_at_once_even_when_the_journal_cannot_be_written(
    equipped: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    equipped.serve(TWO)
    equipped.engine.offer(TWO.desired(2))
    equipped.settle(until=S.TRIAL)
    equipped.runner.health = Vitals(errors=9, last_error="boom")

    def full(*_: object) -> None:
        raise DiskFull("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(equipped.journal, "condemn", full)
        assert equipped.engine.step() > 0
        assert equipped.runner.running == ONE.model
        equipped.runner.health = HEALTHY  # of the model that runs again: it must not save the other
        assert equipped.engine.step() > 0
    equipped.settle()
    assert (equipped.state, equipped.runner.running) == (S.ROLLED_BACK, ONE.model)
    assert "boom" in equipped.reason


def test_an_attempt_that_cannot_be_counted_is_not_made(equipped: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    equipped.serve(TWO)
    equipped.engine.offer(TWO.desired(2))
    equipped.settle(until=S.TRIAL)

    def full(*_: object) -> None:
        raise DiskFull("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("edge_agent.update.journal.Journal.count", full)
        equipped.restart()
        assert equipped.runner.history == [ONE.model]
        assert equipped.engine.step() > 0
    equipped.settle()
    assert equipped.state is S.COMMITTED
    assert equipped.runner.running == TWO.model


@pytest.mark.parametrize("unwritten", ["edge_agent.update.places.write_atomic", "edge_agent.update.journal.Journal.forget"])
def test_a_damaged_model_on_a_full_disk_leaves_the_one_before_it_running(
    equipped: Device, monkeypatch: pytest.MonkeyPatch, unwritten: str
) -> None:
    equipped.install(TWO, 2)
    current = equipped.slots.current()
    assert current is not None
    current.model.write_bytes(b"damaged")

    def full(*_: object, **__: object) -> None:
        raise (DiskFull if unwritten.endswith("forget") else OSError)("no room")

    with monkeypatch.context() as patch:
        patch.setattr(unwritten, full)
        equipped.restart()  # an agent that ended here would end at every start
        assert equipped.runner.running == ONE.model
        equipped.engine.step()
    equipped.engine.step()
    assert equipped.engine.standing.generation == 0, "the hub sends again what it desires"
    equipped.engine.offer(TWO.desired(2))
    equipped.settle()
    assert (equipped.state, equipped.runner.running) == (S.COMMITTED, TWO.model)


# -- a model that takes the agent down after it was committed -----------------------------------------------------------------


def test_a_suspect_model_starts_late_and_is_told_of(equipped: Device) -> None:
    equipped.restart(suspect=True)
    assert equipped.runner.running is None
    assert equipped.told[-1].kind == "model.held_back"
    pause = equipped.engine.step()
    assert 0 < pause <= HELD_BACK_S
    equipped.clock.advance(pause)
    assert equipped.engine.step() == IDLE_S
    assert (equipped.runner.running, equipped.engine.standing.running) == (ONE.model, ONE.assignment)


def test_a_suspect_model_is_replaced_before_it_starts_again(equipped: Device) -> None:
    equipped.restart(suspect=True)
    equipped.serve(TWO)
    equipped.engine.offer(TWO.desired(2))
    equipped.settle()
    assert equipped.runner.history == [TWO.model]
    assert equipped.state is S.COMMITTED


def test_a_suspect_model_starts_also_while_an_update_waits_for_a_hub_that_is_not_there(equipped: Device) -> None:
    equipped.serve(TWO)
    equipped.online = False
    equipped.hub.faults.extend([LinkDown("no route")] * 100)
    equipped.engine.offer(TWO.desired(2))
    for _ in range(3):
        equipped.clock.advance(equipped.engine.step())
    equipped.restart(suspect=True)
    late = equipped.clock.monotonic() + HELD_BACK_S
    while equipped.clock.monotonic() < late:
        assert equipped.runner.running is None
        equipped.clock.advance(equipped.engine.step())
    equipped.engine.step()
    assert equipped.clock.monotonic() == late
    assert (equipped.state, equipped.runner.running) == (S.FETCHING, ONE.model)
    equipped.online = True
    equipped.hub.faults.clear()
    equipped.settle()
    assert (equipped.state, equipped.runner.running) == (S.COMMITTED, TWO.model)


def test_a_committed_model_that_does_not_start_is_tried_again_and_told_of_once(equipped: Device) -> None:
    """Memory was short, or the disk slow: without a restart of the agent nothing would run for ever."""
    equipped.told.clear()
    equipped.runner.bad_load.add(ONE.model)
    equipped.restart()
    for _ in range(3):
        assert equipped.engine.step() == AGAIN_S
        equipped.clock.advance(AGAIN_S)
    assert (equipped.runner.running, [event.kind for event in equipped.told]) == (None, ["model.unusable"])
    equipped.runner.bad_load.clear()
    assert equipped.engine.step() == IDLE_S
    assert (equipped.runner.running, equipped.engine.standing.running) == (ONE.model, ONE.assignment)


# -- damage ---------------------------------------------------------------------------------------------------------------


def test_a_damaged_current_slot_falls_back_to_the_other_and_is_fetched_again(equipped: Device) -> None:
    equipped.install(TWO, 2)
    current = equipped.slots.current()
    assert current is not None
    current.model.write_bytes(b"rotten")
    equipped.told.clear()
    equipped.restart()
    assert equipped.runner.running == ONE.model
    assert equipped.engine.standing.running == ONE.assignment
    assert [event.kind for event in equipped.told] == ["model.unusable"]
    equipped.engine.offer(TWO.desired(2))  # retained at the broker
    equipped.settle()
    assert equipped.runner.running == TWO.model


def test_damage_found_while_the_agent_runs_is_mended_without_another_word_of_the_hub(equipped: Device) -> None:
    """The broker sends what it retains once for each connection."""
    equipped.install(TWO, 2)
    current = equipped.slots.current()
    assert current is not None
    current.model.write_bytes(b"rotten")
    equipped.restart(suspect=True)  # the model is looked at later
    equipped.engine.offer(TWO.desired(2))  # it was taken before
    equipped.clock.advance(HELD_BACK_S)
    equipped.settle()
    assert (equipped.journal.generation(), equipped.state) == (2, S.COMMITTED)
    assert equipped.runner.running == TWO.model


def test_a_damaged_only_slot_leaves_no_model_until_it_is_fetched_again(equipped: Device) -> None:
    current = equipped.slots.current()
    assert current is not None
    current.manifest.write_bytes(b"")
    equipped.restart()
    assert equipped.runner.running is None
    equipped.engine.offer(ONE.desired(1))
    equipped.settle()
    assert equipped.runner.running == ONE.model


def test_a_lost_journal_is_rebuilt_from_the_slots(equipped: Device) -> None:
    equipped.install(TWO, 2)
    equipped.journal.close()
    for path in equipped.folder.glob("updates.sqlite*"):
        path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    equipped.start()
    assert equipped.engine.standing.generation == 2
    assert equipped.engine.standing.running == TWO.assignment
    assert (equipped.folder / "updates.sqlite.damaged").exists()
    equipped.engine.offer(TWO.desired(2))
    assert equipped.engine.step() == IDLE_S


@pytest.mark.parametrize("loss", ["damaged", "deleted", "outdated"])
def test_a_journal_lost_on_trial_goes_on_with_the_trial(equipped: Device, loss: str) -> None:
    equipped.journal.close()
    before = (equipped.folder / "updates.sqlite").read_bytes()
    equipped.start()
    equipped.serve(TWO)
    equipped.engine.offer(TWO.desired(2))
    equipped.settle(until=S.TRIAL)
    equipped.journal.close()
    for path in equipped.folder.glob("updates.sqlite*"):
        path.unlink()
    if loss != "deleted":
        content = b"zeroes" * 1000 if loss == "damaged" else before  # so much is left of a time with the journal in memory
        (equipped.folder / "updates.sqlite").write_bytes(content)
    equipped.start()
    equipped.engine.offer(TWO.desired(2))
    assert equipped.state is S.TRIAL
    equipped.runner.health = Vitals(errors=9, last_error="boom")
    equipped.settle()
    assert (equipped.state, equipped.runner.running) == (S.ROLLED_BACK, ONE.model)
