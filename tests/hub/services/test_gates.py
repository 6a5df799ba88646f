from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from cloud_hub.core.datasets import LabelOrigin
from cloud_hub.core.gates import Outcome, Reading
from cloud_hub.core.model import RolloutState
from cloud_hub.core.tallies import Side
from cloud_hub.services import gate_evidence, gate_figures, gate_judge
from cloud_hub.services.fleet import RESTARTED
from cloud_hub.store import gate_counts
from protos.contract.twin import Presence, Status
from protos.contract.update import UpdateState
from tests.hub.fleet_parts import ADMIN, TENANT
from tests.hub.gate_parts import FPS, STEP_S, Field, a_field, worse


@pytest.fixture
def field(tmp_path: Path, database_url: str) -> Iterator[Field]:
    yield from a_field(tmp_path, database_url)


def _treated(field: Field, id: str) -> Reading:
    reading = field.verdict(id).readings[0].treated
    assert reading is not None
    return reading


# -- the way of a rollout -----------------------------------------------------------------------------------------------


BAD_WAYS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"metric": "uncertain_rate", "max_rise": 0.1}, {"uncertain": 0.6}),
    ({"metric": "confidence_shift", "max_fall": 0.1}, {"confidence": 0.5}),
    ({"metric": "latency_p95_ms", "max_ratio": 1.5}, {"latency_ms": 9.0}),
    ({"metric": "drift_score", "max_rise": 0.3}, {"labels": (0.99, 0.01)}),
    ({"metric": "error_rate", "max": 0.05}, {"errors": 0.3}),
]


@pytest.mark.parametrize(("gate", "way"), BAD_WAYS, ids=[gate["metric"] for gate, _ in BAD_WAYS])
@pytest.mark.parametrize("versus", ["control", "before"])
def test_a_version_that_is_worse_in_the_field_is_stopped_in_the_first_wave(
    field: Field, gate: dict[str, Any], way: dict[str, Any], versus: str
) -> None:
    field.goes_by(120)
    worse(field, **way)
    relative = {"versus": versus} if "max" not in gate else {}
    id = field.roll_out(gate | relative, soak_s=80)
    assert field.versions() == [2, 2, 1, 1]
    field.goes_by(200, until=lambda: field.ended(id))
    rollout = field.rollout(id)
    assert rollout.state is RolloutState.FAILED
    assert gate["metric"] in rollout.reason
    assert rollout.wave == 0
    field.settle()
    assert field.versions() == [1, 1, 1, 1]
    assert [row.state for row in rollout.devices][2:] == [None, None], "the others were never asked"


def test_a_version_that_is_as_good_goes_to_all(field: Field) -> None:
    field.goes_by(120)
    gates = [gate for gate, _ in BAD_WAYS]
    id = field.roll_out(*gates, {"metric": "crash_rate", "max": 5}, {"metric": "install_success", "min": 0.9})
    field.goes_by(600, until=lambda: field.ended(id))
    assert field.rollout(id).state is RolloutState.SUCCEEDED, field.verdict(id).reason
    assert field.versions() == [2, 2, 2, 2]


def test_what_befalls_all_devices_alike_does_not_stop_a_rollout_that_is_compared_with_the_others(field: Field) -> None:
    field.goes_by(60)
    id = field.roll_out({"metric": "uncertain_rate", "max_rise": 0.1, "versus": "control"})
    field.sight = {version: replace(sight, uncertain=0.7) for version, sight in field.sight.items()}
    field.goes_by(65)
    assert field.verdict(id).outcome is Outcome.PASS
    assert field.rollout(id).wave == 1


def test_a_verdict_that_was_passed_does_not_stand_while_nothing_can_be_judged(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    field.goes_by(60)
    id = field.roll_out({"metric": "uncertain_rate", "max_rise": 0.1, "versus": "control"})
    field.goes_by(55)
    assert (field.verdict(id).outcome, field.rollout(id).wave) == (Outcome.PASS, 0)

    def broken(*_: object) -> None:
        raise RuntimeError("no figures")

    with monkeypatch.context() as patched:
        patched.setattr(gate_judge.GateJudge, "_judged", broken)
        field.goes_by(60)
        assert (field.verdict(id).outcome, field.rollout(id).wave) == (Outcome.WAIT, 0)
    field.goes_by(30)
    assert field.rollout(id).wave == 1


def test_the_same_stops_one_that_is_compared_with_what_was_before(field: Field) -> None:
    field.goes_by(60)
    id = field.roll_out({"metric": "uncertain_rate", "max_rise": 0.1, "versus": "before"})
    field.sight = {version: replace(sight, uncertain=0.7) for version, sight in field.sight.items()}
    field.goes_by(60, until=lambda: field.ended(id))
    assert field.rollout(id).state is RolloutState.FAILED


def test_a_wave_that_shows_nothing_does_not_pass(field: Field) -> None:
    field.goes_by(60)
    id = field.roll_out({"metric": "uncertain_rate", "max_rise": 0.1}, soak_s=30)
    for camera in field.cameras:
        camera.on = False
    field.goes_by(300)
    assert (field.rollout(id).state, field.rollout(id).wave) == (RolloutState.RUNNING, 0)
    assert "0 samples of 200" in field.verdict(id).reason
    for camera in field.cameras:
        camera.on = True
    field.goes_by(120)
    assert field.rollout(id).wave == 1


def test_the_last_wave_has_nobody_left_to_be_compared_with(field: Field) -> None:
    field.goes_by(60)
    id = field.roll_out({"metric": "uncertain_rate", "max_rise": 0.1, "versus": "control"}, canary=4)
    field.goes_by(120, until=lambda: field.ended(id))
    assert field.rollout(id).state is RolloutState.SUCCEEDED
    assert "no device to compare with" in field.verdict(id).readings[0].reason


def test_devices_that_ran_nothing_before_cannot_be_compared_with_it(field: Field) -> None:
    id = field.roll_out({"metric": "uncertain_rate", "max_rise": 0.1, "versus": "before"}, canary=4)
    field.goes_by(120, until=lambda: field.ended(id))
    assert field.rollout(id).state is RolloutState.SUCCEEDED
    assert "there will be no more" in field.verdict(id).readings[0].reason


def test_who_goes_on_in_spite_of_a_breach_is_not_stopped_by_it_again(field: Field) -> None:
    field.goes_by(120)
    worse(field, uncertain=0.9)
    id = field.roll_out({"metric": "uncertain_rate", "max_rise": 0.1}, on_breach="pause", soak_s=80)
    field.goes_by(200, until=lambda: field.ended(id))
    assert field.rollout(id).state is RolloutState.PAUSED
    field.hub.rollouts.resume(ADMIN, id)
    field.goes_by(400, until=lambda: field.ended(id))
    assert field.rollout(id).state is RolloutState.SUCCEEDED


def test_a_verdict_is_not_that_of_devices_that_committed_after_it(field: Field) -> None:
    field.goes_by(60)
    field.cameras[1].on = False
    id = field.roll_out({"metric": "uncertain_rate", "max_rise": 0.5}, soak_s=80)
    field.goes_by(120)
    assert field.verdict(id).outcome is Outcome.PASS
    field.cameras[1].on = True
    field.settle()
    assert field.versions() == [2, 2, 1, 1]
    assert "not judged yet" in field.verdict(id).reason
    field.judge.tick(field.clock.now())
    assert field.verdict(id).outcome is Outcome.PASS


# -- what is counted ----------------------------------------------------------------------------------------------------


def _readings(field: Field, id: str, side: Side) -> dict[str, int]:
    counted: dict[str, int] = {}
    with field.hub.db.read() as tx:
        for tally in gate_counts.tallies(tx, id)[side]:
            counted[tally.device] = counted.get(tally.device, 0) + tally.readings
    return counted


def test_every_reading_counts_once_for_one_side_whoever_folds_it(field: Field) -> None:
    field.goes_by(60)
    id = field.roll_out({"metric": "uncertain_rate", "max_rise": 0.5, "versus": "before"}, soak_s=3600)
    field.judge.tick(field.clock.now())
    for number in range(10):
        field.goes_by(STEP_S)
        if number % 3 == 2:
            field.fold = field.folding()
    shown = 10 * round(STEP_S * FPS)
    assert _readings(field, id, Side.TREATED) == {"cam-0": shown, "cam-1": shown}
    assert _readings(field, id, Side.CONTROL) == {"cam-2": shown, "cam-3": shown}
    assert _readings(field, id, Side.BEFORE) == {f"cam-{i}": 12 * round(STEP_S * FPS) for i in range(2)}


def test_rows_do_not_grow_with_time(field: Field) -> None:
    field.goes_by(60)
    field.roll_out({"metric": "uncertain_rate", "max_rise": 0.5, "min_samples": 1e9}, soak_s=80)
    field.goes_by(80)
    with field.hub.db.read() as tx:
        before = tx.execute(select(func.count()).select_from(gate_counts.gate_tallies)).scalar_one()
    field.goes_by(200)
    with field.hub.db.read() as tx:
        after = tx.execute(select(func.count()).select_from(gate_counts.gate_tallies)).scalar_one()
    assert after <= before + 16, "of slots that had not come yet"


def test_of_many_devices_one_row_each_is_enough(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_judge, "MANY", 2)
    monkeypatch.setattr(gate_evidence, "MANY", 2)
    field.goes_by(60)
    id = field.roll_out({"metric": "uncertain_rate", "max_rise": 0.5, "versus": "before"}, soak_s=80)
    field.judge.tick(field.clock.now())
    field.goes_by(60)
    with field.hub.db.read() as tx:
        tallies = gate_counts.tallies(tx, id)
    assert {side: len([t for t in counted if t.readings]) for side, counted in tallies.items()} == dict.fromkeys(Side, 2)
    assert _readings(field, id, Side.TREATED) == {f"cam-{i}": 12 * round(STEP_S * FPS) for i in range(2)}


def test_a_side_of_many_that_few_are_left_of_can_still_be_judged(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_judge, "MANY", 3)
    for module, name in ((gate_judge, "DEVICES"), (gate_figures, "DEVICES"), (gate_figures, "_CLUSTERS")):
        monkeypatch.setattr(module, name, 3)
    waves = [{"count": 1}, {"count": 2}]
    id = field.roll_out({"metric": "uncertain_rate", "max_rise": 0.5, "versus": "control"}, waves=waves, soak_s=20)
    field.goes_by(200, until=lambda: field.ended(id))
    assert field.rollout(id).state is RolloutState.SUCCEEDED, field.verdict(id).reason


def test_what_was_counted_goes_with_its_rollout_and_the_verdict_stays(field: Field) -> None:
    field.goes_by(60)
    id = field.roll_out({"metric": "uncertain_rate", "max_rise": 0.5})
    field.goes_by(60)
    field.hub.rollouts.abort(ADMIN, id)
    field.rounds()
    assert _readings(field, id, Side.TREATED) == {}
    assert field.verdict(id).readings[0].treated is not None


def test_errors_are_counted_over_a_restart_of_the_agent_and_not_twice(field: Field) -> None:
    field.goes_by(60)
    id = field.roll_out({"metric": "error_rate", "max": 0.9}, soak_s=150)
    field.goes_by(STEP_S)
    worse(field, errors=0.2)
    before = [(camera.inferences, camera.errors) for camera in field.cameras[:2]]
    field.goes_by(60)
    done = [(c.inferences - good, c.errors - bad) for c, (good, bad) in zip(field.cameras[:2], before, strict=True)]
    field.restarts(field.cameras[0])
    field.goes_by(40)
    good, bad = field.cameras[0].inferences, field.cameras[0].errors
    more = [field.cameras[1].inferences - before[1][0], field.cameras[1].errors - before[1][1]]
    reading = _treated(field, id)
    assert reading.samples == sum(done[0]) + good + bad + sum(more)
    assert reading.value == pytest.approx((done[0][1] + bad + more[1]) / reading.samples)


def test_crashes_are_those_of_workers_of_the_agent_and_restarts_that_nobody_announced(field: Field) -> None:
    field.goes_by(60)
    id = field.roll_out({"metric": "crash_rate", "max": 5000}, soak_s=3600)
    one, two = field.cameras[:2]
    for number in (1, 2, 4, 8):
        field.goes_by(STEP_S)
        field.tells(one, "inference.worker_lost", f"{number} so far: killed by signal 11")
    field.tells(two, "agent.fault", "the spool is gone")
    field.tells(two, "camera.moved")
    _starts(field, two.device.id, "b2", goodbye=False)
    _starts(field, two.device.id, "b3", goodbye=True)
    field.goes_by(STEP_S)
    hours = 2 * 5 * STEP_S / 3600
    reading = _treated(field, id)
    assert reading.value == pytest.approx((8 + 1 + 1) / hours)
    assert reading.samples == pytest.approx(hours * 60)
    kinds = [event.kind for event in field.events(two)]
    assert kinds.count(RESTARTED) == 1


@pytest.mark.parametrize("ahead_s", [-3600, 3600])
def test_a_crash_counts_when_it_was_by_the_clock_of_the_hub(field: Field, ahead_s: int) -> None:
    field.goes_by(60)
    id = field.roll_out({"metric": "crash_rate", "max": 5000}, soak_s=3600)
    field.ahead_s = ahead_s
    one, two = field.cameras[:2]
    _connects(field, one.device.id, "b1")
    field.goes_by(STEP_S)
    field.tells(one, "agent.fault", "the spool is gone")
    _starts(field, two.device.id, "b2", goodbye=False)
    field.goes_by(STEP_S)
    assert _treated(field, id).value == pytest.approx(2 / (2 * 2 * STEP_S / 3600))


def _starts(field: Field, device: Any, boot: str, *, goodbye: bool) -> None:
    if goodbye:
        with field.hub.db.write() as tx:
            last = "b1" if boot == "b2" else "b2"
            gone = Status(presence=Presence.STOPPED, boot_id=last, agent_version="1", at=field.clock.now())
            field.hub.fleet.on_status(tx, TENANT, device, gone)
    _connects(field, device, boot)


def _connects(field: Field, device: Any, boot: str) -> None:
    with field.hub.db.write() as tx:
        there = Status(presence=Presence.ONLINE, boot_id=boot, agent_version="1", at=field.device_now())
        field.hub.fleet.on_status(tx, TENANT, device, there)


@pytest.mark.parametrize(("right", "state"), [(0.3, RolloutState.FAILED), (0.95, RolloutState.SUCCEEDED)])
def test_accuracy_is_that_of_labelled_control_samples_of_the_version(field: Field, right: float, state: RolloutState) -> None:
    field.goes_by(60)
    field.sampled(range(4), share_right=0.95, count=160)
    id = field.roll_out({"metric": "accuracy", "max_fall": 0.1, "versus": "before"}, soak_s=30)
    field.goes_by(STEP_S)
    field.sampled(range(2), share_right=right, count=60)
    field.sampled(range(2), share_right=0.0, count=60, reason="uncertain")
    field.sampled(range(2), share_right=1.0 - right, count=600, origin=LabelOrigin.TEACHER)
    field.goes_by(600, until=lambda: field.ended(id))
    assert field.rollout(id).state is state, field.verdict(id).reason
    assert ("accuracy" in field.rollout(id).reason) is (state is RolloutState.FAILED)


def test_a_device_that_went_back_by_itself_is_a_failed_install(field: Field) -> None:
    field.goes_by(60)
    field.cameras[0].on = field.cameras[1].on = False
    id = field.roll_out({"metric": "install_success", "min": 0.9, "min_samples": 2}, failure={"count": 10}, soak_s=30)
    for camera in field.cameras[:2]:
        camera.device.receives()
        camera.device.report(UpdateState.TRIAL)
        camera.device.report(UpdateState.ROLLED_BACK, "too slow")
    field.goes_by(20, until=lambda: field.ended(id))
    assert field.rollout(id).state is RolloutState.FAILED
