"""The arithmetic of drift, on simulated readings."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud_hub.core.config import DriftConfig
from cloud_hub.core.drift import (
    Change,
    Streak,
    baseline_of,
    compare,
    confidence_histogram,
    follow,
    judge,
    label_histogram,
)
from cloud_hub.core.model import Baseline, DriftWindow
from protos.contract.ids import DeviceId, ModelName
from protos.contract.outputs import Values
from tests.hub.telemetry_parts import START, baseline, clean, dark

CONFIG = DriftConfig()


def window(labels: NDArray[Any], confidence: NDArray[Any]) -> DriftWindow:
    return DriftWindow(
        device=DeviceId("cam-1"),
        model=ModelName("digits"),
        version=1,
        start=START,
        end=START,
        readings=len(labels),
        label_counts=label_histogram(labels, 10),
        confidence_counts=confidence_histogram(confidence),
        confidence_sum=float(confidence.sum()),
    )


@pytest.mark.parametrize("readings", [30, 45, 70, 100, 200])
@pytest.mark.parametrize("samples", [100, 400, 2000])
def test_clean_windows_fire_less_than_once_in_a_hundred(readings: int, samples: int) -> None:
    rng = np.random.default_rng(readings * samples)
    fired = 0
    for seed in range(20):  # a baseline is off by chance too
        yardstick = baseline(samples, seed)
        fired += sum(judge(window(*clean(rng, readings)), yardstick, CONFIG).drifted for _ in range(50))
    assert fired < 10


@pytest.mark.parametrize("readings", [30, 60, 200])
def test_windows_of_a_camera_in_the_dark_fire_and_say_why(readings: int) -> None:
    rng = np.random.default_rng(readings)
    verdicts = [judge(window(*dark(rng, readings)), baseline(), CONFIG) for _ in range(200)]
    assert all(verdict.drifted for verdict in verdicts)
    reason = verdicts[0].reason
    assert "labels moved: PSI" in reason
    assert "most for '1'" in reason
    assert "mean confidence 0.5" in reason
    assert "bound 0.10" in reason


def test_confidence_alone_is_enough() -> None:
    rng = np.random.default_rng(3)
    labels, _ = clean(rng, 100)
    verdict = judge(window(labels, rng.beta(8, 4, 100)), baseline(), CONFIG)
    assert verdict.drifted
    assert "labels" not in verdict.reason
    assert verdict.confidence_shift < -0.1


def test_labels_alone_are_enough() -> None:
    rng = np.random.default_rng(4)
    _, confidence = clean(rng, 100)
    verdict = judge(window(rng.choice([3, 8], 100), confidence), baseline(), CONFIG)
    assert verdict.drifted
    assert "confidence" not in verdict.reason


def test_more_confidence_than_at_validation_is_no_drop() -> None:
    rng = np.random.default_rng(5)
    labels, confidence = clean(rng, 100)
    verdict = judge(window(labels, np.minimum(confidence + 0.05, 1.0)), baseline(), CONFIG)
    assert verdict.confidence_shift > 0
    assert "mean confidence" not in verdict.reason


def test_a_small_window_is_not_judged() -> None:
    verdict = judge(window(*dark(np.random.default_rng(6), CONFIG.min_readings - 1)), baseline(), CONFIG)
    assert (verdict.judged, verdict.drifted, verdict.reason) == (False, False, "")


def test_a_version_without_a_baseline_is_not_judged() -> None:
    empty = Baseline(labels=("a", "b"), label_share=(0.0, 0.0), confidence_share=(0.0,) * 10, confidence_mean=0.0, samples=0)
    verdict = judge(window(*dark(np.random.default_rng(6), 100)), empty, CONFIG)
    assert not verdict.judged


def test_psi_of_large_samples_is_the_textbook_value() -> None:
    moved = compare((700_000, 300_000), (0.5, 0.5), 1_000_000, bound=0.1)
    assert moved.psi == pytest.approx(0.2 * np.log(0.7 / 0.5) + -0.2 * np.log(0.3 / 0.5), rel=1e-3)
    assert moved.bound == 0.1


def test_a_class_the_baseline_never_saw_does_not_make_psi_infinite() -> None:
    moved = compare((50, 50, 0), (0.5, 0.0, 0.5), 100, bound=0.25)
    assert 1.0 < moved.psi < 20.0
    assert compare((0, 0, 0), (0.5, 0.0, 0.5), 100, bound=0.25).psi == 0.0


def test_histograms_hold_every_reading_once() -> None:
    assert confidence_histogram(np.array([0.0, 0.1, 0.999, 1.0], dtype=np.float32)) == (1, 1, 0, 0, 0, 0, 0, 0, 0, 2)
    assert label_histogram(np.array([0, 2, 2, 7], dtype=np.uint16), 3) == (1, 0, 2)


def test_an_episode_opens_once_and_closes_once() -> None:
    config = DriftConfig(open_after=2, close_after=3)
    streak, is_open, changes = Streak(), False, []
    for drifted in [True, False, True, True, True, True, False, True, False, False, False, False, True, True]:
        streak, change = follow(streak, is_open=is_open, drifted=drifted, config=config)
        is_open = {Change.OPEN: True, Change.CLOSE: False, Change.NONE: is_open}[change]
        changes.append(change)
    assert [number for number, change in enumerate(changes) if change is Change.OPEN] == [3, 13]
    assert [number for number, change in enumerate(changes) if change is Change.CLOSE] == [10]


def test_two_files_that_answer_the_same_frames_are_one_sample_each() -> None:
    labels, confidence = np.array([0, 1, 0, 1]), np.full(4, 0.9)
    assert baseline_of(("a", "b"), labels, confidence, files=2).samples == 2


# -- models that give numbers: their confidence is always 1, their labels are bins ---------------------------------------


def binned(rng: np.random.Generator, readings: int, shift: float = 0.0) -> NDArray[Any]:
    """Bins of a model whose edges are its own quintiles."""
    edges = np.array([-0.8416, -0.2533, 0.2533, 0.8416])
    return np.searchsorted(edges, rng.normal(shift, 1.0, readings)).astype(np.uint16)


def forecasts(seed: int, samples: int = 500) -> Baseline:
    labels = Values(names=("x",), mean=(0.0,), std=(1.0,), edges=(-0.8416, -0.2533, 0.2533, 0.8416)).labels
    return baseline_of(labels, binned(np.random.default_rng(seed), samples), np.ones(samples))


def counted(labels: NDArray[Any]) -> DriftWindow:
    ones = np.ones(len(labels))
    return replace(window(labels, ones), label_counts=label_histogram(labels, 5))


def test_a_confidence_that_is_always_1_says_nothing() -> None:
    rng = np.random.default_rng(1)
    verdicts = [judge(counted(binned(rng, 100)), forecasts(seed), CONFIG) for seed in range(100)]
    assert all(verdict.judged and verdict.confidence_psi == 0.0 == verdict.confidence_shift for verdict in verdicts)
    assert sum(verdict.drifted for verdict in verdicts) <= 1
    assert all(np.isfinite([verdict.label_psi for verdict in verdicts]))


def test_many_readings_of_an_unchanging_confidence_are_no_drift_from_a_small_validation() -> None:
    """The smoothing of the baseline gave each of nine empty bins half a reading, which ten thousand readings tell from none."""
    rng = np.random.default_rng(4)
    labels = rng.permutation(np.repeat(np.arange(5), 2000)).astype(np.uint16)
    few = replace(forecasts(5, samples=60), label_share=(0.2,) * 5)
    verdict = judge(counted(labels), few, CONFIG)
    assert (verdict.confidence_psi, verdict.drifted) == (0.0, False), verdict.reason


def test_numbers_that_have_moved_are_told_by_their_bins() -> None:
    rng = np.random.default_rng(2)
    verdicts = [judge(counted(binned(rng, 100, shift=1.5)), forecasts(3), CONFIG) for _ in range(50)]
    assert all(verdict.drifted for verdict in verdicts)
    assert "labels moved" in verdicts[0].reason and "most for '" in verdicts[0].reason
    assert "confidence" not in verdicts[0].reason
