from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_hub.core.errors import Conflict, Invalid, NotFound, NotReady
from cloud_hub.core.model import Rollout, RolloutDevice, RolloutState
from cloud_hub.core.targets import Subject
from cloud_hub.core.waves import WaveStanding
from cloud_hub.services import dispatch
from cloud_hub.store import rollout_waves, targets
from cloud_hub.store.database import Tx
from protos.contract import ids
from protos.contract.update import UpdateState
from tests.hub.fleet_parts import ADMIN, SIGNS, STRANGER, TENANT, Device, Hub

LANES = ids.model_name("lanes")


@pytest.fixture
def hub(tmp_path: Path, database_url: str) -> Iterator[Hub]:
    hub = Hub(tmp_path, database_url=database_url)
    hub.publish()
    yield hub
    hub.db.close()


def _start(hub: Hub, version: int = 1, **options: int) -> Rollout:
    return hub.rollouts.create(ADMIN, SIGNS, version, {}, **options)


def _get(hub: Hub, rollout: Rollout) -> Rollout:
    return hub.rollouts.get(ADMIN, rollout.id)


def _row(hub: Hub, rollout: Rollout, device: Device) -> RolloutDevice:
    return next(row for row in _get(hub, rollout).devices if row.device == device.id)


def _champion(hub: Hub) -> int | None:
    return hub.registry.models(ADMIN)[0].aliases.get("champion")


def _all_on_one(hub: Hub, *devices: Device) -> None:
    _start(hub, 1)
    for device in devices:
        device.commits()
        device.receives()


# -- the way forward ----------------------------------------------------------------------------------------------------


def test_canaries_go_first_and_the_rest_follows_when_they_have_committed(hub: Hub) -> None:
    one, two, three = (hub.device(f"cam-{i}") for i in range(3))
    two.online()
    rollout = _start(hub, canary=1)
    assert two.receives() is not None, "the one that is online is the canary"
    assert one.receives() is None and three.receives() is None
    two.commits()
    assert _get(hub, rollout).wave == 1
    for device in (one, three):
        twin = device.receives()
        assert twin is not None and twin.model is not None and twin.model.version == 1 and twin.rollout_id == rollout.id
        device.commits()
    ended = _get(hub, rollout)
    assert (ended.state, ended.ended_at) == (RolloutState.SUCCEEDED, hub.clock.now())
    assert _champion(hub) == 1


def test_without_canaries_there_is_one_wave(hub: Hub) -> None:
    devices = [hub.device(f"cam-{i}") for i in range(3)]
    assert _start(hub).waves == 1
    assert all(device.receives() for device in devices)


def test_a_wave_soaks_before_the_next_one(hub: Hub) -> None:
    canary, rest = hub.device("cam-0"), hub.device("cam-1")
    rollout = _start(hub, canary=1, soak_s=60)
    canary.commits()
    hub.tick(59)
    assert rest.receives() is None
    hub.tick(1)
    assert rest.receives() is not None
    rest.commits()
    assert _get(hub, rollout).state is RolloutState.RUNNING, "the last wave soaks too"
    hub.tick(60)
    assert _get(hub, rollout).state is RolloutState.SUCCEEDED


def test_the_state_of_every_device_can_be_seen_on_the_way(hub: Hub) -> None:
    device = hub.device("cam-0")
    rollout = _start(hub)
    assert _row(hub, rollout, device).state is UpdateState.OFFERED
    for state in (UpdateState.FETCHING, UpdateState.STAGED, UpdateState.TRIAL):
        device.report(state)
        assert _row(hub, rollout, device).state is state
    assert _row(hub, rollout, device).target == "onnx-int8"


def test_a_device_that_runs_the_version_counts_as_committed_and_is_left_alone(hub: Hub) -> None:
    device, other = hub.device("cam-0"), hub.device("cam-1")
    _all_on_one(hub, device, other)
    rollout = _start(hub, 1)
    assert rollout.state is RolloutState.SUCCEEDED
    assert device.receives() is None and other.receives() is None
    assert {row.reason for row in rollout.devices} == {"it ran this version already"}


def test_a_device_that_acknowledges_a_model_it_runs_without_an_update_has_committed(hub: Hub) -> None:
    device = hub.device("cam-0")
    rollout = _start(hub)
    twin = device.desired()
    device.runs, device.acted_on = twin.model, twin.generation  # its database is newer than the hub's
    device.report()
    assert _get(hub, rollout).state is RolloutState.SUCCEEDED


def test_committed_counts_only_from_a_device_that_says_it_runs_the_model(hub: Hub) -> None:
    device = hub.device("cam-0")
    _all_on_one(hub, device)
    hub.publish()
    rollout = _start(hub, 2)
    old = device.runs
    device.report(UpdateState.TRIAL)
    assert device.last is not None
    device.last = replace(device.last, state=UpdateState.COMMITTED)
    device.report()
    assert (device.runs, _get(hub, rollout).state) == (old, RolloutState.RUNNING)
    device.report(UpdateState.COMMITTED)
    assert _get(hub, rollout).state is RolloutState.SUCCEEDED


def test_a_large_wave_is_dispatched_in_bounded_transactions(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "BATCH", 2)
    devices = [hub.device(f"cam-{i}") for i in range(7)]
    _start(hub)
    assert len(hub.fleet.undelivered()) == 2
    hub.tick()
    assert len(hub.fleet.undelivered()) == 7
    for device in devices:
        device.commits()
    assert _champion(hub) == 1


def test_every_board_gets_its_own_variant(hub: Hub) -> None:
    onnx, tflite = hub.device("cam-0", board="camera-x86"), hub.device("cam-1", board="camera-x86-tflite")
    rollout = _start(hub)
    assert [_row(hub, rollout, device).target for device in (onnx, tflite)] == ["onnx-int8", "tflite-int8"]
    assert onnx.desired().model != tflite.desired().model


# -- failure ------------------------------------------------------------------------------------------------------------


def test_a_failed_canary_stops_the_rollout_and_every_touched_device_is_sent_back(hub: Hub) -> None:
    canaries, rest = [hub.device("cam-0"), hub.device("cam-1")], hub.device("cam-2")
    _all_on_one(hub, *canaries, rest)
    hub.publish()
    rollout = _start(hub, 2, canary=2)
    canaries[0].commits()
    assert canaries[0].runs is not None and canaries[0].runs.version == 2
    asked = canaries[1].desired()
    canaries[1].report(UpdateState.ROLLED_BACK, "latency is 9 times the golden run's")
    ended = _get(hub, rollout)
    assert ended.state is RolloutState.FAILED
    assert "cam-1" in ended.reason and "latency" in ended.reason
    for device in canaries:
        twin = device.receives()
        assert twin is not None and twin.model is not None
        assert (twin.model.version, twin.generation) == (1, asked.generation + 1)
    assert rest.receives() is None, "it was never touched"
    assert [row.state for row in ended.devices] == [UpdateState.ROLLED_BACK, UpdateState.ROLLED_BACK, None]
    assert [row.reason for row in ended.devices][:2] == ["sent back to signs:1", "latency is 9 times the golden run's"]
    assert _champion(hub) == 1


def test_tolerated_failures_do_not_stop_it(hub: Hub) -> None:
    one, two = hub.device("cam-0"), hub.device("cam-1")
    rollout = _start(hub, max_failures=1)
    one.report(UpdateState.FAILED, "disk full")
    two.commits()
    assert _get(hub, rollout).state is RolloutState.SUCCEEDED
    assert _row(hub, rollout, one).reason == "disk full"


def test_a_rollback_while_it_soaks_is_a_failure(hub: Hub) -> None:
    canary, rest = hub.device("cam-0"), hub.device("cam-1")
    _all_on_one(hub, canary, rest)
    hub.publish()
    rollout = _start(hub, 2, canary=1, soak_s=60)
    before = canary.runs
    canary.commits()
    canary.runs = before
    canary.report(UpdateState.ROLLED_BACK, "crashed three times")
    assert _get(hub, rollout).state is RolloutState.FAILED
    hub.tick(120)
    assert rest.receives() is None


def test_a_device_without_a_variant_fails_with_the_reason(hub: Hub) -> None:
    hub.publish("onnx-int8")
    good, bad = hub.device("cam-0"), hub.device("cam-1", board="camera-x86-tflite")
    rollout = _start(hub, 2, max_failures=1)
    assert _row(hub, rollout, bad).state is UpdateState.FAILED
    assert "camera-x86-tflite" in _row(hub, rollout, bad).reason
    good.commits()
    assert _get(hub, rollout).state is RolloutState.SUCCEEDED


def test_a_first_model_that_fails_leaves_nothing_to_go_back_to(hub: Hub) -> None:
    one, two = hub.device("cam-0"), hub.device("cam-1")
    rollout = _start(hub)
    one.commits()
    two.report(UpdateState.FAILED, "no")
    assert _get(hub, rollout).state is RolloutState.FAILED
    twin = one.receives()
    assert twin is not None and twin.model is None, "keep what runs"
    assert _row(hub, rollout, one).state is UpdateState.COMMITTED


def test_a_report_about_an_older_generation_changes_nothing(hub: Hub) -> None:
    device = hub.device("cam-0")
    _all_on_one(hub, device)
    hub.publish()
    old = device.desired()
    rollout = _start(hub, 2)
    device.report(UpdateState.COMMITTED, twin=old)
    device.report(UpdateState.FAILED, "late news", twin=old)
    assert _row(hub, rollout, device).state is UpdateState.OFFERED
    assert _get(hub, rollout).state is RolloutState.RUNNING


def test_a_late_report_does_not_undo_a_final_state(hub: Hub) -> None:
    one, _two = hub.device("cam-0"), hub.device("cam-1")
    rollout = _start(hub)
    one.commits()
    one.report(UpdateState.TRIAL)
    one.report(UpdateState.FAILED, "late")
    assert _row(hub, rollout, one).state is UpdateState.COMMITTED


# -- waiting, and what people do ----------------------------------------------------------------------------------------


def test_a_wave_waits_for_a_device_that_is_away_and_abort_ends_the_wait(hub: Hub) -> None:
    here, away, rest = hub.device("cam-0"), hub.device("cam-1"), hub.device("cam-2")
    _all_on_one(hub, here, away, rest)
    hub.publish()
    rollout = _start(hub, 2, canary=2)
    here.receives()
    here.commits()
    hub.tick(7 * 24 * 3600)
    assert _get(hub, rollout).state is RolloutState.RUNNING
    assert _row(hub, rollout, away).state is UpdateState.OFFERED, "who is waited for can be seen"
    away.receives()
    ended = hub.rollouts.abort(ADMIN, rollout.id)
    assert (ended.state, ended.reason) == (RolloutState.ABORTED, "aborted by ada")
    twin = away.receives()
    assert twin is not None and twin.model is None, "its update is called off"
    assert here.receives() is None and rest.receives() is None, "they keep what they run"
    assert _champion(hub) == 1


def test_an_aborted_trial_runs_to_its_own_end(hub: Hub) -> None:
    device = hub.device("cam-0")
    rollout = _start(hub)
    device.receives()
    device.report(UpdateState.TRIAL)
    hub.rollouts.abort(ADMIN, rollout.id)
    assert device.receives() is None


def test_a_paused_rollout_dispatches_nothing_but_still_fails(hub: Hub) -> None:
    canary, other, rest = (hub.device(f"cam-{i}") for i in range(3))
    rollout = _start(hub, canary=2)
    hub.rollouts.pause(ADMIN, rollout.id)
    canary.commits()
    hub.tick(60)
    assert (_get(hub, rollout).state, _row(hub, rollout, canary).state) == (RolloutState.PAUSED, UpdateState.COMMITTED)
    other.report(UpdateState.FAILED, "no")
    assert _get(hub, rollout).state is RolloutState.FAILED
    assert rest.receives() is None


def test_resuming_goes_on_at_once(hub: Hub) -> None:
    canary, rest = hub.device("cam-0"), hub.device("cam-1")
    rollout = _start(hub, canary=1)
    hub.rollouts.pause(ADMIN, rollout.id)
    canary.commits()
    assert rest.receives() is None
    resumed = hub.rollouts.resume(ADMIN, rollout.id)
    assert (resumed.state, resumed.reason) == (RolloutState.RUNNING, "")
    assert rest.receives() is not None


def test_rolling_back_a_success_sends_devices_back_and_restores_the_champion(hub: Hub) -> None:
    device = hub.device("cam-0")
    _all_on_one(hub, device)
    hub.publish()
    rollout = _start(hub, 2)
    device.commits()
    device.receives()
    assert _champion(hub) == 2
    ended = hub.rollouts.rollback(ADMIN, rollout.id)
    assert (ended.state, ended.reason) == (RolloutState.ROLLED_BACK, "rolled back by ada")
    twin = device.receives()
    assert twin is not None and twin.model is not None and twin.model.version == 1
    assert _champion(hub) == 1


def test_devices_that_ran_different_versions_are_sent_back_with_one_release_of_each(hub: Hub) -> None:
    hub.publish()
    devices = [hub.device(f"cam-{number}", group=("even", "odd")[number % 2]) for number in range(6)]
    for version, group in ((1, "even"), (2, "odd")):
        hub.rollouts.create(ADMIN, SIGNS, version, {"group": group})
        hub.tick()
        for device in devices[version - 1 :: 2]:
            device.commits()
    hub.publish()
    rollout = _start(hub, 3)
    for device in devices:
        device.commits()
    before = _releases(hub)
    hub.rollouts.rollback(ADMIN, rollout.id)
    assert [device.desired().model.version for device in devices] == [1, 2] * 3  # type: ignore[union-attr]
    assert _releases(hub) == before + 2


def _releases(hub: Hub) -> int:
    with hub.db.read() as tx:
        return targets.last_release(tx, TENANT, Subject.MODEL, SIGNS)


def test_rolling_back_the_first_success_leaves_no_champion(hub: Hub) -> None:
    device = hub.device("cam-0")
    rollout = _start(hub)
    device.commits()
    assert _champion(hub) == 1
    hub.rollouts.rollback(ADMIN, rollout.id)
    assert _champion(hub) is None


@pytest.mark.parametrize("action", ["pause", "resume", "abort", "rollback"])
def test_what_has_failed_cannot_be_acted_on(hub: Hub, action: str) -> None:
    device = hub.device("cam-0")
    rollout = _start(hub)
    device.report(UpdateState.FAILED, "no")
    with pytest.raises(Conflict, match="FAILED"):
        getattr(hub.rollouts, action)(ADMIN, rollout.id)


def test_another_tenant_sees_and_changes_nothing(hub: Hub) -> None:
    hub.device("cam-0")
    rollout = _start(hub)
    assert hub.rollouts.list(STRANGER) == ([], "")
    for action in (hub.rollouts.get, hub.rollouts.pause, hub.rollouts.abort, hub.rollouts.rollback):
        with pytest.raises(NotFound):
            action(STRANGER, rollout.id)
    with pytest.raises(NotFound):
        hub.rollouts.create(STRANGER, SIGNS, 1, {})


def test_a_rollout_needs_a_version_a_device_and_numbers_in_bounds(hub: Hub) -> None:
    with pytest.raises(NotReady, match="matches"):
        _start(hub)
    hub.device("cam-0")
    with pytest.raises(NotFound, match="version 9"):
        _start(hub, 9)
    with pytest.raises(Invalid, match="soak_s"):
        _start(hub, soak_s=-1)
    assert hub.rollouts.list(ADMIN) == ([], "")


# -- change around it ---------------------------------------------------------------------------------------------------


def test_a_device_that_joins_the_selector_is_picked_up_in_the_last_wave(hub: Hub) -> None:
    canary, rest = hub.device("cam-0", site="a"), hub.device("cam-1", site="a")
    rollout = hub.rollouts.create(ADMIN, SIGNS, 1, {"site": "a"}, 1, 60, 0)
    late, elsewhere = hub.device("cam-2", site="a"), hub.device("cam-3", site="b")
    hub.tick()
    assert late.receives() is None, "not while the canaries are on"
    canary.commits()
    hub.tick(60)
    assert rest.receives() is not None
    hub.tick()
    assert late.receives() is not None
    hub.fleet.set_labels(ADMIN, elsewhere.id, {"site": "a"})
    hub.tick()
    assert elsewhere.receives() is not None
    for device in (rest, late, elsewhere):
        device.commits()
    hub.tick(60)
    assert _get(hub, rollout).state is RolloutState.SUCCEEDED
    assert len(_get(hub, rollout).devices) == 4


def test_a_hub_that_restarts_in_the_middle_goes_on(hub: Hub) -> None:
    canary, rest = hub.device("cam-0"), hub.device("cam-1")
    rollout = _start(hub, canary=1, soak_s=60)
    canary.receives()
    canary.commits()
    again = hub.restarted()
    again.tick(30)
    assert rest.on(again).receives() is None, "the soak goes on, it does not start again"
    again = again.restarted()
    again.tick(30)
    twin = rest.on(again).receives()
    assert twin is not None and twin.generation == 1
    again.tick()
    assert rest.on(again).receives() is None, "nothing is dispatched twice"
    rest.on(again).commits()
    again.tick(60)
    assert _get(again, rollout).state is RolloutState.SUCCEEDED
    again.db.close()


def test_a_newer_rollout_of_the_model_that_takes_every_device_ends_the_older_one(hub: Hub) -> None:
    one, two = hub.device("cam-0"), hub.device("cam-1")
    older = _start(hub, 1, canary=1)
    hub.publish()
    newer = _start(hub, 2)
    assert (_get(hub, older).state, _get(hub, older).reason) == (RolloutState.ABORTED, "no device is left to take it")
    for device in (one, two):
        twin = device.receives()
        assert twin is not None and twin.model is not None and twin.model.version == 2
        device.commits()
    assert _get(hub, newer).state is RolloutState.SUCCEEDED
    assert _champion(hub) == 2


def test_of_two_models_for_one_device_the_newest_rollout_wins(hub: Hub) -> None:
    shared, own = hub.device("cam-0", kind="shared"), hub.device("cam-1")
    older = _start(hub)
    hub.publish(name=LANES)
    newer = hub.rollouts.create(ADMIN, LANES, 1, {"kind": "shared"})
    assert _row(hub, older, shared).state is UpdateState.SUPERSEDED
    shared.commits()
    own.commits()
    assert _get(hub, newer).state is RolloutState.SUCCEEDED
    assert _get(hub, older).state is RolloutState.SUCCEEDED, "it ends with the device it has left"
    hub.rollouts.rollback(ADMIN, older.id)
    desired = shared.desired().model
    assert desired is not None and desired.name == LANES, "a device that follows another rollout is not sent back"


def test_an_older_rollout_does_not_take_a_device_back_from_a_newer_one(hub: Hub) -> None:
    hub.device("cam-0", site="a")
    older = hub.rollouts.create(ADMIN, SIGNS, 1, {"site": "a"})
    hub.publish(name=LANES)
    late = hub.device("cam-1")
    hub.rollouts.create(ADMIN, LANES, 1, {"id": "cam-1"})
    hub.fleet.set_labels(ADMIN, late.id, {"site": "a"})
    hub.tick()
    assert len(_get(hub, older).devices) == 1


def test_a_rollout_whose_every_device_was_taken_over_is_aborted(hub: Hub) -> None:
    hub.device("cam-0")
    older = _start(hub)
    hub.publish(name=LANES)
    hub.rollouts.create(ADMIN, LANES, 1, {})
    assert (_get(hub, older).state, _get(hub, older).reason) == (RolloutState.ABORTED, "no device is left to take it")


def test_a_deleted_device_is_not_waited_for(hub: Hub) -> None:
    here, gone = hub.device("cam-0"), hub.device("cam-1")
    rollout = _start(hub)
    here.commits()
    hub.fleet.delete(ADMIN, gone.id)
    hub.tick()
    assert _get(hub, rollout).state is RolloutState.SUCCEEDED


def test_a_hub_restored_from_a_backup_still_recognises_what_its_device_commits(hub: Hub) -> None:
    device = hub.device("cam-0")
    rollout = _start(hub)
    device.acted_on = 40  # the device saw generations this database never held
    device.report()
    twin = device.receives()
    assert twin is not None and twin.generation == 41
    device.commits()
    assert _get(hub, rollout).state is RolloutState.SUCCEEDED


def test_what_is_on_trial_is_not_what_a_device_is_sent_back_to(hub: Hub) -> None:
    device, other = hub.device("cam-0"), hub.device("cam-1")
    _start(hub, 1)
    twin = device.desired()
    device.runs = twin.model
    device.report(UpdateState.TRIAL)
    hub.publish()
    rollout = _start(hub, 2)
    assert _row(hub, rollout, device).previous is None
    other.report(UpdateState.FAILED, "no")
    sent = device.receives()
    assert sent is not None and sent.model is None


def test_a_device_whose_trial_is_cut_short_is_sent_back_to_what_it_ran_before_that(hub: Hub) -> None:
    device = hub.device("cam-0")
    _start(hub, 1)
    device.commits()
    for version in (2, 3):
        hub.publish()
        rollout = _start(hub, version)
        hub.tick()
        device.runs = device.desired().model
        device.report(UpdateState.TRIAL)
    device.report(UpdateState.COMMITTED)
    device.receives()
    hub.rollouts.rollback(ADMIN, rollout.id)
    sent = device.receives()
    assert sent is not None and sent.model is not None and sent.model.version == 1


def test_a_device_is_never_sent_back_to_what_it_was_just_sent_back_from(hub: Hub) -> None:
    device = hub.device("cam-0")
    _start(hub, 1)
    device.commits()
    hub.publish()
    bad = _start(hub, 2)
    hub.tick()
    device.commits()
    hub.rollouts.rollback(ADMIN, bad.id)  # the device is away, and has not heard of it
    hub.publish()
    rollout = _start(hub, 3)
    hub.tick()
    device.commits()
    device.receives()
    hub.rollouts.rollback(ADMIN, rollout.id)
    sent = device.receives()
    assert sent is not None and sent.model is not None and sent.model.version == 1


def test_a_rollout_that_brings_out_a_bug_does_not_hold_up_the_others(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_rollout(tx: Tx, id: str) -> tuple[WaveStanding, ...]:
        if id == broken.id:
            raise ZeroDivisionError("bug")
        return known(tx, id)

    hub.publish(name="other")
    hub.device("cam-1", site="a")
    two = hub.device("cam-2", site="b")
    broken = hub.rollouts.create(ADMIN, SIGNS, 1, {"site": "a"})
    sound = hub.rollouts.create(ADMIN, ids.model_name("other"), 1, {"site": "b"}, soak_s=10)
    two.commits()
    known = rollout_waves.of_rollout
    monkeypatch.setattr(rollout_waves, "of_rollout", of_rollout)
    hub.tick(11)
    assert _get(hub, sound).state is RolloutState.SUCCEEDED
