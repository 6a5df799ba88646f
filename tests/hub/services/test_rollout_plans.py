"""Rollouts by plan: times, rate, windows, approval, thresholds, what to do when they are crossed, and packages."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cloud_hub.core import gates as rules
from cloud_hub.core import rollout_spec
from cloud_hub.core.errors import Conflict, NotFound
from cloud_hub.core.model import Rollout, RolloutDevice, RolloutState
from cloud_hub.core.pages import Page
from cloud_hub.services import dispatch
from cloud_hub.store import rollout_devices, rollout_waves
from protos.contract.update import UpdateState
from tests.hub.fleet_parts import ADMIN, START, STRANGER, Device, Hub


@pytest.fixture
def hub(tmp_path: Path, database_url: str) -> Iterator[Hub]:
    hub = Hub(tmp_path, database_url=database_url)
    hub.publish()
    yield hub
    hub.db.close()


def launch(hub: Hub, more: str = "", *, version: int | str = 1) -> Rollout:
    return hub.rollouts.launch(ADMIN, rollout_spec.parse(f"model: signs\nversion: {version}\nsoak_s: 0\n{more}"))


def get(hub: Hub, rollout: Rollout) -> Rollout:
    return hub.rollouts.get(ADMIN, rollout.id)


def row(hub: Hub, rollout: Rollout, device: Device) -> RolloutDevice:
    return next(row for row in get(hub, rollout).devices if row.device == device.id)


def asked(hub: Hub, *devices: Device) -> list[bool]:
    """Whether each has been asked since it was looked at last."""
    return [device.receives() is not None for device in devices]


def fleet(hub: Hub, size: int, **labels: str) -> list[Device]:
    return [hub.device(f"cam-{number}", **labels) for number in range(size)]


def all_on_one(hub: Hub, *devices: Device) -> None:
    launch(hub)
    hub.tick()
    for device in devices:
        device.commits()
        device.receives()


# -- when it begins and how fast it goes ----------------------------------------------------------------------------------


def test_a_rollout_waits_for_its_time_and_then_takes_who_matches_then(hub: Hub) -> None:
    here = hub.device("cam-0")
    at = (START + timedelta(hours=2)).isoformat()
    rollout = launch(hub, f"start: {at}")
    late = hub.device("cam-1")
    hub.tick(2 * 3600 - 1)
    assert (get(hub, rollout).state, asked(hub, here, late)) == (RolloutState.SCHEDULED, [False, False])
    assert hub.rollouts.list(ADMIN, active_only=True)[0][0].id == rollout.id
    hub.tick(1)
    hub.tick()
    assert (get(hub, rollout).state, asked(hub, here, late)) == (RolloutState.RUNNING, [True, True])
    assert get(hub, rollout).started_at == hub.clock.now()


def test_a_manual_rollout_waits_for_a_person(hub: Hub) -> None:
    device = hub.device("cam-0")
    rollout = launch(hub, "start: manual")
    hub.tick(90 * 24 * 3600)
    assert asked(hub, device) == [False]
    assert hub.rollouts.start(ADMIN, rollout.id).state is RolloutState.RUNNING
    assert asked(hub, device) == [True]
    with pytest.raises(Conflict, match="RUNNING"):
        hub.rollouts.start(ADMIN, rollout.id)


def test_a_scheduled_rollout_that_nobody_matches_at_its_time_ends_with_the_reason(hub: Hub) -> None:
    rollout = launch(hub, f"start: {(START + timedelta(hours=1)).isoformat()}\nselector: {{site: mars}}")
    hub.tick(3600)
    assert (get(hub, rollout).state, get(hub, rollout).reason) == (
        RolloutState.ABORTED,
        "no device matches [site=mars]: register one or change the selector",
    )


def test_a_scheduled_rollout_can_be_aborted_and_takes_no_device_from_another(hub: Hub) -> None:
    device = hub.device("cam-0")
    running = launch(hub)
    scheduled = launch(hub, "start: manual")
    assert row(hub, running, device).state is UpdateState.OFFERED
    assert hub.rollouts.abort(ADMIN, scheduled.id).state is RolloutState.ABORTED
    device.commits()
    assert get(hub, running).state is RolloutState.SUCCEEDED


def test_no_more_devices_are_asked_in_a_minute_than_the_rate_allows(hub: Hub) -> None:
    devices = fleet(hub, 40)
    launch(hub, "rate_per_minute: 12")
    per_minute = [sum(asked(hub, *devices))]
    for _ in range(2):
        told = 0
        for _ in range(60):
            hub.tick(1)
            told += sum(asked(hub, *devices))
        per_minute.append(told)
    assert per_minute == [1, 12, 12]


def test_a_hub_that_was_away_does_not_make_up_for_the_rate(hub: Hub) -> None:
    devices = fleet(hub, 30)
    launch(hub, "rate_per_minute: 60")
    asked(hub, *devices)
    hub.tick(3600)
    assert sum(asked(hub, *devices)) <= 3, "two seconds' worth, and the one that is due"


def test_devices_are_told_in_which_windows_to_install(hub: Hub) -> None:
    device = hub.device("cam-0")
    launch(hub, 'windows: [{from: "22:00", to: "04:00", local: true}]\nnot_before: 2026-03-02T00:00:00Z')
    twin = device.receives()
    assert twin is not None and len(twin.windows) == 1 and twin.windows[0].local
    assert twin.not_before == START + timedelta(hours=12)
    device.commits()
    hub.publish()
    launch(hub, version=2)
    twin = device.receives()
    assert twin is not None and twin.windows == () and twin.not_before is None, "the windows of a rollout go with it"


def test_who_is_sent_back_goes_back_at_once_in_no_window(hub: Hub) -> None:
    device = hub.device("cam-0")
    all_on_one(hub, device)
    hub.publish()
    rollout = launch(hub, 'windows: [{from: "22:00", to: "04:00"}]', version=2)
    device.commits()
    device.receives()
    hub.rollouts.rollback(ADMIN, rollout.id)
    twin = device.receives()
    assert twin is not None and twin.model is not None and (twin.model.version, twin.windows) == (1, ())


# -- from wave to wave --------------------------------------------------------------------------------------------------


def test_waves_go_by_count_percent_and_selector(hub: Hub) -> None:
    first = fleet(hub, 8)
    north = [hub.device(f"north-{number}", site="north") for number in range(3)]
    rollout = launch(hub, "waves: [{count: 1}, {percent: 25}, {selector: {site: north}}]")
    waves = [first[:1], first[1:4], north, first[4:]]
    assert [standing.waiting + standing.pending for standing in rollout.standings] == [1, 3, 3, 4]
    for wave in waves:
        others = [device for device in (*first, *north) if device not in wave]
        assert all(asked(hub, *wave)) and not any(asked(hub, *others))
        for device in wave:
            device.commits()
    assert get(hub, rollout).state is RolloutState.SUCCEEDED
    assert [standing.committed for standing in get(hub, rollout).standings] == [1, 3, 3, 4]


def test_a_wave_that_needs_approval_waits_for_a_person_and_failures_still_stop_it(hub: Hub) -> None:
    canary, rest = fleet(hub, 2)
    rollout = launch(hub, "waves: [{count: 1}, {rest: true, approval: true}]")
    canary.receives()
    canary.commits()
    hub.tick(3600)
    waiting = get(hub, rollout)
    assert (waiting.state, waiting.reason) == (RolloutState.AWAITING_APPROVAL, "wave 2 waits for approval")
    assert asked(hub, rest) == [False]
    with pytest.raises(Conflict, match="AWAITING_APPROVAL"):
        hub.rollouts.pause(ADMIN, rollout.id)
    with pytest.raises(NotFound):
        hub.rollouts.approve(STRANGER, rollout.id)
    approved = hub.rollouts.approve(ADMIN, rollout.id)
    assert (approved.state, approved.standings[1].approved_by) == (RolloutState.RUNNING, "ada")
    assert asked(hub, rest) == [True]


def test_a_rollback_while_it_waits_for_approval_is_a_failure(hub: Hub) -> None:
    canary, _rest = fleet(hub, 2)
    rollout = launch(hub, "waves: [{count: 1}, {rest: true, approval: true}]")
    canary.commits()
    canary.report(UpdateState.ROLLED_BACK, "crashed")
    assert get(hub, rollout).state is RolloutState.FAILED


def test_the_first_wave_can_need_approval_and_one_without_devices_never_does(hub: Hub) -> None:
    (device,) = fleet(hub, 1)
    rollout = launch(hub, "waves: [{count: 1, approval: true}, {percent: 50, approval: true}, {rest: true, approval: true}]")
    assert (rollout.state, asked(hub, device)) == (RolloutState.AWAITING_APPROVAL, [False])
    hub.rollouts.approve(ADMIN, rollout.id)
    device.commits()
    assert get(hub, rollout).state is RolloutState.SUCCEEDED


def test_a_wave_that_all_devices_have_left_waits_for_nobodys_approval(hub: Hub) -> None:
    canary, other = fleet(hub, 2)
    rollout = launch(hub, "waves: [{count: 1}, {rest: true, approval: true}]")
    canary.commits()
    hub.tick()
    assert get(hub, rollout).state is RolloutState.AWAITING_APPROVAL
    hub.fleet.delete(ADMIN, other.id)
    hub.tick()
    assert get(hub, rollout).state is RolloutState.SUCCEEDED


def test_a_rollout_that_waits_for_approval_ends_when_a_newer_one_has_all_its_devices(hub: Hub) -> None:
    fleet(hub, 2)
    older = launch(hub, "waves: [{rest: true, approval: true}]")
    hub.publish()
    launch(hub, version=2)
    assert get(hub, older).state is RolloutState.ABORTED
    assert "no device is left" in get(hub, older).reason


def test_a_device_that_never_answers_does_not_block_the_rest_and_is_still_heard_when_it_does(hub: Hub) -> None:
    one, two, away, rest = fleet(hub, 4)
    rollout = launch(hub, "waves: [{count: 3}]\nsuccess: {share: 0.6}")
    for device in (one, two):
        device.commits()
    assert get(hub, rollout).wave == 1
    rest.commits()
    assert get(hub, rollout).state is RolloutState.SUCCEEDED
    assert row(hub, rollout, away).state is UpdateState.OFFERED
    away.commits()
    assert row(hub, rollout, away).state is UpdateState.COMMITTED
    assert get(hub, rollout).standings[0].committed == 3


def test_a_wave_that_has_too_few_at_its_deadline_goes_wrong(hub: Hub) -> None:
    one, *_away = fleet(hub, 3)
    rollout = launch(hub, "success: {deadline_s: 3600}\non_breach: pause")
    one.commits()
    hub.tick(3599)
    assert get(hub, rollout).state is RolloutState.RUNNING
    hub.tick(1)
    paused = get(hub, rollout)
    assert paused.state is RolloutState.PAUSED
    assert paused.reason == "2 of 3 devices of the wave have not answered within 3600 s"
    hub.rollouts.resume(ADMIN, rollout.id)
    hub.tick(3599)
    assert get(hub, rollout).state is RolloutState.RUNNING, "whoever resumes it gives the wave its time again"
    hub.tick(1)
    assert get(hub, rollout).state is RolloutState.PAUSED


def test_a_pause_does_not_count_towards_a_deadline(hub: Hub) -> None:
    fleet(hub, 2)
    rollout = launch(hub, "success: {deadline_s: 100}\non_breach: abort")
    hub.tick(90)
    hub.rollouts.pause(ADMIN, rollout.id)
    hub.clock.advance(1000)
    hub.rollouts.resume(ADMIN, rollout.id)
    hub.tick(9)
    assert get(hub, rollout).state is RolloutState.RUNNING
    hub.tick(1)
    assert get(hub, rollout).state is RolloutState.ABORTED


def test_a_deadline_that_passes_during_a_pause_is_not_missed(hub: Hub) -> None:
    fleet(hub, 2)
    rollout = launch(hub, "success: {deadline_s: 100}\non_breach: abort")
    hub.tick(90)
    hub.rollouts.pause(ADMIN, rollout.id)
    hub.tick(1000)
    assert get(hub, rollout).state is RolloutState.PAUSED
    hub.rollouts.resume(ADMIN, rollout.id)
    hub.tick(9)
    assert get(hub, rollout).state is RolloutState.RUNNING
    hub.tick(1)
    assert get(hub, rollout).state is RolloutState.ABORTED


# -- when it goes wrong -------------------------------------------------------------------------------------------------


def _gone_wrong(hub: Hub, on_breach: str) -> tuple[Rollout, list[Device]]:
    """The first wave has committed version 2; in the second one device has too, and one fails."""
    devices = fleet(hub, 4)
    all_on_one(hub, *devices)
    hub.publish()
    rollout = launch(hub, f"waves: [{{count: 1}}, {{count: 2}}]\non_breach: {on_breach}", version=2)
    hub.tick()
    devices[0].commits()
    devices[1].commits()
    for device in devices:
        device.receives()
    devices[2].report(UpdateState.FAILED, "disk full")
    return get(hub, rollout), devices


def test_on_breach_pause_waits_for_a_person_who_forgives_what_was_seen(hub: Hub) -> None:
    rollout, devices = _gone_wrong(hub, "pause")
    assert rollout.state is RolloutState.PAUSED
    assert rollout.reason == "1 device failed, more than 0; first cam-2: disk full"
    assert asked(hub, *devices) == [False] * 4
    assert hub.rollouts.resume(ADMIN, rollout.id).wave == 2
    assert asked(hub, *devices) == [False, False, False, True]
    devices[3].report(UpdateState.FAILED, "disk full")
    assert get(hub, rollout).state is RolloutState.PAUSED, "a new failure is not forgiven"


def test_whoever_resumes_a_rollout_has_not_approved_its_next_wave(hub: Hub) -> None:
    canary, rest = fleet(hub, 2)
    rollout = launch(hub, "waves: [{count: 1}, {rest: true, approval: true}]\non_breach: pause")
    canary.commits()
    canary.report(UpdateState.ROLLED_BACK, "crashed")
    assert get(hub, rollout).state is RolloutState.PAUSED
    assert hub.rollouts.resume(ADMIN, rollout.id).state is RolloutState.AWAITING_APPROVAL
    hub.tick()
    assert asked(hub, rest) == [False]
    hub.rollouts.approve(ADMIN, rollout.id)
    assert asked(hub, rest) == [True]


def test_on_breach_abort_leaves_everyone_as_it_is(hub: Hub) -> None:
    rollout, devices = _gone_wrong(hub, "abort")
    assert rollout.state is RolloutState.ABORTED and "disk full" in rollout.reason
    assert asked(hub, *devices) == [False] * 4
    assert [row.state for row in rollout.devices] == [UpdateState.COMMITTED, UpdateState.COMMITTED, UpdateState.FAILED, None]


def test_on_breach_rollback_wave_sends_back_the_wave_that_went_wrong_only(hub: Hub) -> None:
    rollout, devices = _gone_wrong(hub, "rollback_wave")
    assert rollout.state is RolloutState.FAILED
    twins = [device.receives() for device in devices]
    assert [twin.model.version if twin and twin.model else None for twin in twins] == [None, 1, 1, None]
    assert [row.state for row in rollout.devices] == [UpdateState.COMMITTED, UpdateState.ROLLED_BACK, UpdateState.FAILED, None]


def test_the_waves_before_one_that_was_rolled_back_can_be_rolled_back_too(hub: Hub) -> None:
    rollout, devices = _gone_wrong(hub, "rollback_wave")
    assert asked(hub, *devices)[0] is False
    assert hub.rollouts.rollback(ADMIN, rollout.id).state is RolloutState.ROLLED_BACK
    twin = devices[0].receives()
    assert twin is not None and twin.model is not None and twin.model.version == 1


def test_on_breach_rollback_all_sends_back_everyone_it_touched(hub: Hub) -> None:
    rollout, devices = _gone_wrong(hub, "rollback_all")
    assert rollout.state is RolloutState.FAILED
    assert asked(hub, *devices) == [True, True, True, False]


def test_a_large_rollback_is_told_in_bounded_transactions_and_outlives_a_restart(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = fleet(hub, 7)
    all_on_one(hub, *devices)
    hub.publish()
    monkeypatch.setattr(dispatch, "BATCH", 2)
    rollout = launch(hub, version=2)
    hub.tick()
    for device in devices:
        device.commits()
        device.receives()
    assert hub.rollouts.rollback(ADMIN, rollout.id).state is RolloutState.ROLLED_BACK
    assert sum(asked(hub, *devices)) == 2, "no more in one transaction"
    again = hub.restarted()
    again.tick()
    assert sum(asked(again, *[device.on(again) for device in devices])) == 5
    again.tick()
    assert not any(asked(again, *[device.on(again) for device in devices])), "nobody is told twice"
    assert {row.state for row in get(again, rollout).devices} == {UpdateState.ROLLED_BACK}
    again.db.close()


# -- gates --------------------------------------------------------------------------------------------------------------

GATED = "waves: [{count: 1}]\ngates: [{metric: uncertain_rate, max: 0.5}]"


def _judged(hub: Hub, rollout: Rollout, monkeypatch: pytest.MonkeyPatch, outcome: rules.Outcome) -> None:
    """What its gates say from now on, whatever devices do."""
    gate = rollout.plan.gates[0]
    reading = rules.GateReading(gate=gate, outcome=outcome, reason=f"{gate}: 0.9")
    verdict = rules.GateVerdict(outcome=outcome, readings=(reading,))
    monkeypatch.setattr(hub.rollouts._gates, "look", lambda tx, id, now: verdict)


def test_a_wave_passes_only_when_its_gates_do(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    canary, rest = fleet(hub, 2)
    rollout = launch(hub, GATED)
    canary.commits()
    hub.tick(3600)
    assert asked(hub, rest) == [False], "nothing has been judged"
    _judged(hub, rollout, monkeypatch, rules.Outcome.PASS)
    hub.tick()
    assert asked(hub, rest) == [True]


def test_a_gate_that_is_breached_stops_a_rollout_while_devices_are_on_the_way(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet(hub, 3)
    rollout = launch(hub, GATED)
    _judged(hub, rollout, monkeypatch, rules.Outcome.BREACH)
    hub.tick()
    ended = get(hub, rollout)
    assert ended.state is RolloutState.FAILED
    assert ended.reason == "gate uncertain_rate max 0.5: 0.9"


def test_whoever_resumes_a_rollout_that_its_gates_paused_waives_them(hub: Hub) -> None:
    canary, rest = fleet(hub, 2)
    rollout = launch(hub, GATED + "\non_breach: pause")
    with pytest.MonkeyPatch.context() as patch:
        _judged(hub, rollout, patch, rules.Outcome.BREACH)
        hub.tick()
    assert get(hub, rollout).state is RolloutState.PAUSED
    hub.rollouts.resume(ADMIN, rollout.id)
    canary.commits()
    hub.tick()
    assert asked(hub, rest) == [True]


def test_whoever_resumes_a_rollout_that_failures_paused_keeps_its_gates(hub: Hub) -> None:
    one, two, rest = fleet(hub, 3)
    rollout = launch(hub, "waves: [{count: 2}]\ngates: [{metric: uncertain_rate, max: 0.5}]\non_breach: pause")
    one.report(UpdateState.FAILED, "disk full")
    assert get(hub, rollout).state is RolloutState.PAUSED
    hub.rollouts.resume(ADMIN, rollout.id)
    two.commits()
    hub.tick()
    assert asked(hub, rest) == [False], "nothing has been judged"


# -- counts -------------------------------------------------------------------------------------------------------------


def test_what_is_counted_is_what_there_is(hub: Hub) -> None:
    """After everything that moves a device."""
    devices = fleet(hub, 12, site="a")
    rollout = launch(hub, "selector: {site: a}\nwaves: [{count: 6}]\nfailure: {count: 9}")
    devices[0].commits()
    devices[1].report(UpdateState.FAILED, "no")
    devices[2].report(UpdateState.TRIAL)
    hub.fleet.delete(ADMIN, devices[3].id)
    hub.fleet.set_labels(ADMIN, devices[9].id, {})
    hub.device("late", site="a")
    hub.publish(name="other")
    hub.rollouts.launch(ADMIN, rollout_spec.parse("model: other\nversion: 1\nselector: {id: cam-4}"))
    hub.tick()
    devices[0].report(UpdateState.ROLLED_BACK, "crashed")
    with hub.db.write() as tx:
        counted = rollout_waves.of_rollout(tx, rollout.id)
        rollout_devices._recount(tx, rollout.id)
        assert rollout_waves.of_rollout(tx, rollout.id) == counted
    assert sum(wave.devices + wave.superseded for wave in counted) == len(get(hub, rollout).devices) == 11
    assert (counted[0].failed, counted[1].superseded) == (2, 1)


def test_devices_are_listed_in_pages_and_by_state(hub: Hub) -> None:
    devices = fleet(hub, 5)
    rollout = launch(hub, "waves: [{count: 2}]")
    devices[1].report(UpdateState.TRIAL)
    found, token = hub.rollouts.devices(ADMIN, rollout.id, page=Page(size=2))
    assert [one.device for one in found] == ["cam-0", "cam-1"]
    found, token = hub.rollouts.devices(ADMIN, rollout.id, page=Page(size=9, token=token))
    assert ([one.device for one in found], token) == (["cam-2", "cam-3", "cam-4"], "")
    (trial,) = hub.rollouts.devices(ADMIN, rollout.id, UpdateState.TRIAL)[0]
    assert trial.device == "cam-1"
    with pytest.raises(NotFound):
        hub.rollouts.devices(STRANGER, rollout.id)
