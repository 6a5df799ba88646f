import math
from collections import Counter

import numpy as np
import pytest

from cloud_hub.archive.histograms import latency_buckets
from cloud_hub.core.drift import CONFIDENCE_BINS
from cloud_hub.core.gates import Gate, Metric, Outcome, Reading, judge
from cloud_hub.core.gates import Group as Versus
from cloud_hub.core.model import Baseline
from cloud_hub.core.tallies import SLOTS, Tally
from cloud_hub.services import gate_figures
from cloud_hub.services.gate_figures import DEVICES, ERROR, Crashes, Group, readings

YARDSTICK = Baseline(
    labels=("a", "b"), label_share=(0.5, 0.5), confidence_share=(0.0,) * 8 + (0.2, 0.8), confidence_mean=0.95, samples=1000
)


def _nothing(version: str) -> Baseline | None:
    return None


def _of(tallies: list[Tally], metric: Metric) -> Reading:
    return readings(Group(tallies=tallies), lambda version: YARDSTICK)[metric]


def _tally(device: int, slot: int, **counted: object) -> Tally:
    return Tally(device=f"cam-{device}", slot=slot, version="signs:1", **counted)  # type: ignore[arg-type]


def _soak(rng: np.random.Generator, devices: int, looks: int, *, worse: float = 0.0) -> list[list[Tally]]:
    """What gates see at each look: frames that are like those before them, on devices that are not alike."""
    own, scene = rng.normal(0, 0.3, devices), rng.normal(0, 1, devices)
    tallies: dict[tuple[int, int], Tally] = {}
    seen = []
    for look in range(looks):
        scene = 0.8 * scene + 0.6 * rng.normal(0, 1, devices)
        for device in range(devices):
            share = 1 / (1 + math.exp(2 - worse - 1.2 * scene[device] - own[device]))
            one = _tally(device, look * SLOTS // looks, readings=50, uncertain=int(rng.binomial(50, share)))
            one.latency = Counter({200: 50})
            if (device, one.slot) in tallies:
                tallies[device, one.slot].add(one)
            else:
                tallies[device, one.slot] = one
        seen.append([_tally(int(t.device[4:]), t.slot, readings=t.readings, uncertain=t.uncertain) for t in tallies.values()])
    return seen


def _stopped(rng: np.random.Generator, devices: int, others: int, *, worse: float, rise: float) -> bool:
    gate = Gate(metric="uncertain_rate", max_rise=rise)
    for treated, control in zip(_soak(rng, devices, 40, worse=worse), _soak(rng, others, 40), strict=True):
        uncertain = (_only_uncertain(treated), _only_uncertain(control))
        if judge((gate,), uncertain[0], {Versus.CONTROL: uncertain[1]}).outcome is Outcome.BREACH:
            return True
    return False


def _only_uncertain(tallies: list[Tally]) -> dict[Metric, Reading]:
    for tally in tallies:
        tally.latency = Counter({200: tally.readings})
    return readings(Group(tallies=tallies), _nothing)


@pytest.mark.parametrize(("devices", "others"), [(2, 6), (4, 4), (12, 16)])
def test_looking_again_and_again_hardly_ever_stops_a_version_that_is_no_worse(devices: int, others: int) -> None:
    rng = np.random.default_rng(11)
    stopped = sum(_stopped(rng, devices, others, worse=0.0, rise=0.02) for _ in range(50))
    assert stopped <= 1


@pytest.mark.parametrize(("devices", "others"), [(2, 6), (12, 24)])
def test_a_version_that_is_much_worse_is_stopped(devices: int, others: int) -> None:
    rng = np.random.default_rng(12)
    stopped = sum(_stopped(rng, devices, others, worse=2.5, rise=0.02) for _ in range(10))
    assert stopped >= 9


def test_moments_of_one_device_that_differ_make_the_interval_wide() -> None:
    steady = [_tally(0, slot, readings=100, uncertain=50, latency=Counter({200: 100})) for slot in range(SLOTS)]
    moody = [_tally(0, slot, readings=100, uncertain=100 * (slot % 2), latency=Counter({200: 100})) for slot in range(SLOTS)]
    narrow, wide = _of(steady, Metric.UNCERTAIN_RATE), _of(moody, Metric.UNCERTAIN_RATE)
    assert narrow.value == wide.value == 0.5
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)


def test_from_so_many_devices_on_only_what_differs_between_them_counts() -> None:
    moody = [
        _tally(device, slot, readings=100, uncertain=100 * (slot % 2), latency=Counter({200: 100}))
        for device in range(DEVICES)
        for slot in range(SLOTS)
    ]
    reading = _of(moody, Metric.UNCERTAIN_RATE)
    assert reading.high - reading.low == pytest.approx(2 * gate_figures.WIDTH * 0.5 / math.sqrt(len(moody) * 100), rel=0.01)


def test_a_few_moments_say_nothing() -> None:
    short = [_tally(0, slot, readings=1000, uncertain=1000, latency=Counter({200: 1000})) for slot in range(11)]
    assert readings(Group(tallies=short), _nothing) == {}


def test_what_never_happened_may_still_happen() -> None:
    clean = [_tally(0, slot, readings=20, attempts=20, latency=Counter({200: 20})) for slot in range(SLOTS)]
    reading = _of(clean, Metric.ERROR_RATE)
    assert (reading.value, reading.low) == (0.0, 0.0)
    assert 0.002 < reading.high < 0.05


def test_latency_is_the_95th_percentile_within_a_bucket_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(5)
    latency = rng.lognormal(1.0, 0.4, (SLOTS, 400))
    tallies = [
        _tally(0, slot, readings=400, latency=Counter(latency_buckets(latency[slot].astype("f4")).tolist()))
        for slot in range(SLOTS)
    ]
    reading = _of(tallies, Metric.LATENCY_P95_MS)
    assert reading.value == pytest.approx(float(np.percentile(latency, 95)), rel=0.05)
    assert reading.low < reading.value < reading.high < 2 * reading.value


def test_confidence_is_told_as_a_shift_from_validation() -> None:
    fallen = [_tally(0, slot, readings=10, shift=-2.0, latency=Counter({200: 10})) for slot in range(SLOTS)]
    assert _of(fallen, Metric.CONFIDENCE_SHIFT).value == pytest.approx(-0.2)


def _drift(labels: dict[int, int], bins: dict[int, int]) -> Reading:
    confidence = np.array([bins.get(i, 0) for i in range(CONFIDENCE_BINS)], dtype=float)
    made = [
        _tally(0, slot, readings=100, labels=Counter(labels), confidence=confidence, latency=Counter({200: 100}))
        for slot in range(SLOTS)
    ]
    return _of(made, Metric.DRIFT_SCORE)


def test_drift_is_nothing_on_what_the_version_was_validated_with_and_much_on_anything_else() -> None:
    assert _drift({0: 50, 1: 50}, {8: 20, 9: 80}).value == pytest.approx(0.0, abs=0.01)
    assert _drift({0: 95, 1: 5}, {8: 20, 9: 80}).value > 1
    assert _drift({0: 50, 1: 50}, {4: 80, 9: 20}).value > 1


def test_drift_of_a_version_without_a_yardstick_is_not_told() -> None:
    tallies = [_tally(0, slot, readings=10, latency=Counter({200: 10})) for slot in range(SLOTS)]
    assert Metric.DRIFT_SCORE not in readings(Group(tallies=tallies), _nothing)


def test_an_interval_of_single_events_leaves_the_truth_out_in_one_of_a_hundred_sequences_at_most() -> None:
    rng, wrong = np.random.default_rng(8), 0
    for _ in range(300):
        hits = np.cumsum(rng.random(60) < 0.9)
        seen = [gate_figures.proportion(int(hit), of, devices=of) for of, hit in enumerate(hits, 1)]
        wrong += any(not reading.low <= 0.9 <= reading.high for reading in seen)
    assert wrong <= 300 * ERROR * 2


@pytest.mark.parametrize(("committed", "ended", "breached"), [(0, 1, False), (0, 2, True), (19, 20, False), (14, 20, True)])
def test_installs_that_fail_are_believed_when_they_are_enough(committed: int, ended: int, breached: bool) -> None:
    told = readings(Group(installs=(committed, ended)), _nothing)
    verdict = judge((Gate(metric="install_success", min=0.95),), told, {})
    assert (verdict.outcome is Outcome.BREACH) is breached


def test_crashes_are_told_by_the_hour_as_surely_as_their_number_allows() -> None:
    few = readings(Group(crashes=[Crashes(count=1, hours=0.5)] * 2), _nothing)[Metric.CRASH_RATE]
    many = readings(Group(crashes=[Crashes(count=100, hours=50)] * 2), _nothing)[Metric.CRASH_RATE]
    none = readings(Group(crashes=[Crashes(count=0, hours=1)]), _nothing)[Metric.CRASH_RATE]
    assert few.value == many.value == 2.0
    assert few.low < 1 < 1.4 < many.low < many.high < 2.7 < few.high
    assert none.low == none.value == 0.0 < 1 < none.high
    assert many.samples == 6000, "device-minutes"


def test_one_device_that_crashes_all_day_does_not_speak_for_twenty() -> None:
    even = [Crashes(count=5, hours=1)] * 20
    one = [Crashes(count=100, hours=1), *[Crashes(count=0, hours=1)] * 19]
    rate = {name: readings(Group(crashes=told), _nothing)[Metric.CRASH_RATE] for name, told in (("even", even), ("one", one))}
    assert rate["even"].value == rate["one"].value == 5.0
    assert rate["even"].low > 3 and rate["one"].low == 0.0


def test_accuracy_is_that_of_the_labels_that_came() -> None:
    reading = readings(Group(answers=(45, 50, 4)), _nothing)[Metric.ACCURACY]
    assert (reading.value, reading.samples, reading.devices) == (0.9, 50, 4)
    assert reading.low < 0.8 < 0.97 < reading.high


def test_a_confidence_that_is_always_1_gives_finite_figures_and_stops_nothing() -> None:
    """Models that give numbers: their labels are bins, and nothing is uncertain."""
    yardstick = Baseline(
        labels=("low", "high"), label_share=(0.5, 0.5), confidence_share=(0.0,) * 9 + (1.0,), confidence_mean=1.0, samples=1000
    )
    sure = np.zeros(CONFIDENCE_BINS)
    sure[-1] = 100
    tallies = [
        _tally(device, slot, readings=100, confidence=sure, labels=Counter({0: 50, 1: 50}), latency=Counter({200: 100}))
        for device in range(DEVICES + 2)
        for slot in range(6)
    ]
    told = readings(Group(tallies=tallies), lambda version: yardstick)
    assert all(math.isfinite(one.value) for one in told.values())
    assert told[Metric.CONFIDENCE_SHIFT].value == 0.0 == told[Metric.DRIFT_SCORE].value == told[Metric.UNCERTAIN_RATE].value
    gates = (Gate(metric="confidence_shift", min=-0.05), Gate(metric="drift_score", max=0.2))
    assert judge(gates, told, {}).outcome is not Outcome.BREACH
