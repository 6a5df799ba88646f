"""Token buckets by a clock that the test turns."""

import pytest

from cloud_hub.ingest.quota import EPISODE_S, Quota
from protos.contract.ids import DeviceId
from tests.hub.fleet_parts import Clock

CAM, OTHER = DeviceId("cam-a"), DeviceId("cam-b")


def test_a_device_may_send_its_burst_at_once_and_then_its_rate() -> None:
    clock = Clock()
    quota = Quota(100, 1000, clock)
    assert [quota.admits(CAM, 250) for _ in range(5)] == [True, True, True, True, False]
    clock.advance(2.4)
    assert not quota.admits(CAM, 250)
    clock.advance(0.2)
    assert quota.admits(CAM, 250)
    assert quota.admits(OTHER, 1000), "each has a bucket of its own"


def test_over_a_long_time_a_device_gets_its_rate_whatever_it_tries() -> None:
    clock = Clock()
    quota = Quota(100, 1000, clock)
    admitted = 0
    for _ in range(10_000):
        clock.advance(0.01)
        admitted += 30 * quota.admits(CAM, 30)
    assert 100 * 100 <= admitted <= 100 * 100 + 1000


def test_a_message_larger_than_the_bucket_passes_when_it_is_full_and_is_paid_off() -> None:
    clock = Clock()
    quota = Quota(100, 1000, clock)
    assert quota.admits(CAM, 3000)
    clock.advance(29)
    assert not quota.admits(CAM, 1000)
    clock.advance(1)
    assert quota.admits(CAM, 1000)


def test_an_episode_is_told_once_and_again_only_after_a_time_without() -> None:
    clock = Clock()
    quota = Quota(100, 1000, clock)
    quota.admits(CAM, 1000)
    for _ in range(50):
        assert not quota.admits(CAM, 1000)
        clock.advance(1)
        quota.admits(CAM, 90)
    assert quota.episodes() == [CAM]
    assert quota.episodes() == []
    clock.advance(EPISODE_S + 1)
    assert quota.admits(CAM, 1000)
    assert not quota.admits(CAM, 1000)
    assert quota.episodes() == [CAM]


def test_devices_that_are_silent_again_take_no_memory() -> None:
    clock = Clock()
    quota = Quota(100, 1000, clock)
    for number in range(100_000):
        quota.admits(DeviceId(f"cam-{number}"), 100)
        clock.advance(0.01)
    assert len(quota) < 5_000


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (1, 0), (-1, 1)])
def test_a_quota_that_admits_nothing_is_refused(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Quota(rate, burst, Clock())
