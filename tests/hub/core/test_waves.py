from datetime import UTC, datetime, timedelta

from cloud_hub.core.waves import Step, Tally, judge

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def _step(*tallies: Tally, wave: int = 0, max_failures: int = 0, soak_s: int = 0) -> Step:
    return judge(tallies, wave, max_failures=max_failures, soak_s=soak_s, now=NOW).step


def test_a_wave_waits_for_every_device() -> None:
    assert _step(Tally(committed=9, pending=1, last_commit=NOW), Tally(pending=5)) is Step.WAIT


def test_a_wave_passes_when_all_are_committed_and_soaked() -> None:
    committed = Tally(committed=2, last_commit=NOW - timedelta(seconds=60))
    assert _step(committed, Tally(pending=5), soak_s=61) is Step.WAIT
    assert _step(committed, Tally(pending=5), soak_s=60) is Step.NEXT
    assert _step(committed, committed, wave=1, soak_s=60) is Step.SUCCEED


def test_failures_over_all_waves_stop_it_even_while_devices_are_pending() -> None:
    assert _step(Tally(committed=1, failed=1), Tally(pending=4, failed=1), wave=1, max_failures=1) is Step.FAIL
    assert _step(Tally(committed=1, failed=1), Tally(committed=4), wave=1, max_failures=1) is Step.SUCCEED


def test_a_version_that_no_canary_took_goes_nowhere_however_many_failures_are_tolerated() -> None:
    assert _step(Tally(failed=2), Tally(pending=5), max_failures=100) is Step.FAIL


def test_a_wave_that_others_took_over_is_passed_and_a_rollout_with_no_device_left_is_empty() -> None:
    assert _step(Tally(), Tally(pending=5)) is Step.NEXT
    assert _step(Tally(), Tally(), wave=1) is Step.EMPTY
