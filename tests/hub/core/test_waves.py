from datetime import UTC, datetime, timedelta

import pytest

from cloud_hub.core.rollout_plan import Component, Failure, RolloutPlan, Success, Wave
from cloud_hub.core.waves import Step, WaveStanding, judge, share_out
from protos.contract.ids import DeviceId

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FLEET = [DeviceId(f"cam-{number}") for number in range(10)]


def _plan(count: int, **options: object) -> RolloutPlan:
    given = {"soak_s": 0, "waves": (*(Wave(count=1) for _ in range(count - 1)), Wave()), **options}
    return RolloutPlan(component=Component.MODEL, name="signs", version="1", **given)  # type: ignore[arg-type]


def _step(*waves: WaveStanding, wave: int = 0, forgiven: int = 0, **options: object) -> Step:
    return judge(_plan(len(waves), **options), waves, wave, NOW, forgiven=forgiven).step


def _standing(**values: object) -> WaveStanding:
    return WaveStanding(**values)  # type: ignore[arg-type]


LATER = _standing(waiting=5)


def test_a_wave_waits_for_every_device() -> None:
    assert _step(_standing(committed=9, pending=1), LATER) is Step.WAIT
    assert _step(_standing(committed=9, waiting=1), LATER) is Step.WAIT


def test_a_wave_passes_when_all_have_ended_and_it_has_soaked() -> None:
    def soaked(seconds: int) -> WaveStanding:
        return _standing(committed=2, soaking_since=NOW - timedelta(seconds=seconds))

    assert _step(_standing(committed=2), LATER, soak_s=60) is Step.SOAK
    assert _step(soaked(59), LATER, soak_s=60) is Step.SOAK
    assert _step(soaked(60), LATER, soak_s=60) is Step.NEXT
    assert _step(soaked(60), soaked(60), wave=1, soak_s=60) is Step.SUCCEED
    assert _step(soaked(60), LATER, soak_s=60, waves=(Wave(count=2, soak_s=61), Wave())) is Step.SOAK, "a wave's own soak time"


def test_failures_over_all_waves_stop_it_even_while_devices_are_on_the_way() -> None:
    first = _standing(committed=1, failed=1)
    assert _step(first, _standing(pending=4, failed=1), wave=1, failure=Failure(count=1)) is Step.BREACH
    assert _step(first, _standing(committed=4), wave=1, failure=Failure(count=1)) is Step.SUCCEED


def test_a_share_of_failures_says_nothing_before_enough_devices_have_ended() -> None:
    failure = Failure(share=0.2, min_executed=5)
    assert failure.most is None, "a share alone sets no number"
    assert _step(_standing(committed=2, failed=2, pending=6), LATER, failure=failure) is Step.WAIT
    assert _step(_standing(committed=3, failed=2, pending=5), LATER, failure=failure) is Step.BREACH
    assert _step(_standing(committed=8, failed=2), LATER, failure=failure) is Step.NEXT, "as many as the share, not more"
    assert _step(_standing(committed=71, failed=29), LATER, failure=Failure(share=0.29)) is Step.NEXT, "whatever floats say"
    assert _step(_standing(committed=8, failed=2), LATER, failure=Failure(count=1, share=0.2)) is Step.BREACH, (
        "whichever is first"
    )


def test_a_version_that_no_canary_took_goes_nowhere_however_many_failures_are_tolerated() -> None:
    assert _step(_standing(failed=2), LATER, failure=Failure(count=100)) is Step.BREACH


def test_what_a_person_forgave_counts_no_more() -> None:
    wave = _standing(committed=3, failed=2)
    assert _step(wave, LATER) is Step.BREACH
    assert _step(wave, LATER, forgiven=1) is Step.BREACH
    assert _step(wave, LATER, forgiven=2) is Step.NEXT
    assert _step(_standing(failed=2), LATER, forgiven=2) is Step.NEXT, "nor does it that nobody took it so far"
    assert _step(wave, LATER, forgiven=2, success=Success(share=1)) is Step.NEXT, "nor in a share of the wave"


def test_one_device_that_never_answers_does_not_block_a_wave_with_a_share() -> None:
    success = Success(share=0.9)
    assert _step(_standing(committed=8, pending=2), LATER, success=success) is Step.WAIT
    assert _step(_standing(committed=9, pending=1), LATER, success=success) is Step.NEXT
    assert _step(_standing(committed=9, waiting=1), LATER, success=success) is Step.WAIT, "whom nobody has asked cannot answer"


def test_a_share_that_is_out_of_reach_is_a_breach_before_the_rest_have_answered() -> None:
    tolerant, success = Failure(count=100), Success(share=0.7)
    assert _step(_standing(committed=5, failed=3, pending=2), LATER, success=success, failure=tolerant) is Step.WAIT
    assert _step(_standing(committed=5, failed=4, pending=1), LATER, success=success, failure=tolerant) is Step.BREACH
    assert _step(_standing(committed=7, failed=3), LATER, success=success, failure=tolerant) is Step.NEXT, "7 of 10 is 0.7"


@pytest.mark.parametrize(
    ("committed", "share", "at_deadline"),
    [(9, None, Step.BREACH), (8, 0.9, Step.BREACH), (9, 0.9, Step.NEXT), (10, None, Step.NEXT)],
)
def test_a_wave_that_has_not_enough_at_its_deadline_is_a_breach(committed: int, share: float | None, at_deadline: Step) -> None:
    success = Success(share=share, deadline_s=60)
    for age, step in ((59, Step.NEXT if at_deadline is Step.NEXT else Step.WAIT), (60, at_deadline)):
        wave = _standing(committed=committed, pending=10 - committed, asked_at=NOW - timedelta(seconds=age))
        assert _step(wave, LATER, success=success) is step


def test_a_deadline_counts_from_when_the_last_device_was_asked() -> None:
    assert _step(_standing(committed=1, pending=9), LATER, success=Success(deadline_s=1)) is Step.WAIT


def test_a_wave_that_others_took_over_is_passed_and_a_rollout_with_no_device_left_is_empty() -> None:
    gone = _standing(superseded=3)
    assert _step(gone, LATER, soak_s=60) is Step.NEXT, "there is nothing to soak"
    assert _step(gone, _standing(), wave=1) is Step.EMPTY


def test_devices_are_shared_out_by_count_percent_and_selector_each_once() -> None:
    waves = (Wave(count=2), Wave(percent=25), Wave(selector={"site": "north"}), Wave())
    north = {FLEET[0], FLEET[3], FLEET[9]}
    shares = share_out(
        RolloutPlan(component=Component.MODEL, name="signs", version="1", waves=waves), FLEET, [(), (), north, ()]
    )
    assert shares == [FLEET[:2], FLEET[2:5], [FLEET[9]], FLEET[5:9]], (
        "a quarter of ten, rounded up; those before took two of north"
    )
    assert sorted(device for share in shares for device in share) == FLEET


def test_a_percentage_that_comes_to_whole_devices_takes_no_more_than_those() -> None:
    fleet = [DeviceId(f"cam-{number}") for number in range(3000)]
    plan = RolloutPlan(component=Component.MODEL, name="signs", version="1", waves=(Wave(percent=1.1), Wave()))
    assert 1.1 * 3000 / 100 > 33, "as floats have it"
    assert [len(share) for share in share_out(plan, fleet, [(), ()])] == [33, 2967]


def test_waves_that_ask_for_more_than_there_is_leave_the_later_ones_empty() -> None:
    plan = RolloutPlan(component=Component.MODEL, name="signs", version="1", waves=(Wave(count=99), Wave(percent=100), Wave()))
    assert share_out(plan, FLEET, [(), (), ()]) == [FLEET, [], []]
