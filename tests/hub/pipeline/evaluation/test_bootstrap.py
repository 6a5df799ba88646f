"""An interval must hold the truth as often as it says, and chance alone must not promote."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.evaluation.bootstrap import interval, paired_gain, student, tail_of
from cloud_hub.pipeline.task import Outputs
from cloud_hub.pipeline.tasks.image_classification.task import ImageClassification
from cloud_hub.pipeline.tasks.window_classification.task import WindowClassification
from tests.hub.pipeline.evaluation import tries

TRIALS = 300


class _NoMean(ImageClassification):
    """The same metric by the slow way."""

    def each(self, outputs: Outputs, split: Split, splits: Splits) -> NDArray[np.float64] | None:
        return None


def _held(draw: np.random.Generator, rows: int, sources: int, spread: float) -> tuple[float, float]:
    """(share of trials whose interval holds the true accuracy, mean width); ``spread``: of accuracy between sources."""
    truth, held, widths = 0.85, 0, []
    named = np.arange(rows) % sources
    task = tries.task()
    for _ in range(TRIALS):
        targets = draw.integers(0, 2, rows)
        chance = np.clip(truth + draw.choice([-spread, spread], sources), 0, 1)[named]
        split = tries.split_of(targets, named)
        found = interval(task, tries.said(targets, draw.random(rows) < chance), split, tries.splits_of(split), rounds=400)
        held += found.low <= truth <= found.high
        widths.append(found.high - found.low)
    return held / TRIALS, float(np.mean(widths))


@pytest.mark.parametrize(("rows", "sources", "spread"), [(300, 300, 0.0), (400, 40, 0.1), (300, 10, 0.1)])
def test_an_interval_holds_the_truth_about_as_often_as_it_says(rows: int, sources: int, spread: float) -> None:
    share, width = _held(np.random.default_rng(rows + sources), rows, sources, spread)
    assert 0.91 <= share <= 0.99, (share, width)


def test_rows_of_few_sources_say_less_than_as_many_strangers() -> None:
    _, apart = _held(np.random.default_rng(1), 400, 400, 0.0)
    _, together = _held(np.random.default_rng(1), 400, 20, 0.14)
    assert together > 1.3 * apart


def _promoted(accuracy: float, champion: float, *, sources: int = 60, rows: int = 240) -> float:
    """How often ours surely beats theirs, where half of what they get wrong is hard for both."""
    draw, won = np.random.default_rng(7), 0
    named, task = np.arange(rows) % sources, tries.task()
    for _ in range(TRIALS):
        targets = draw.integers(0, 2, rows)
        hard = draw.random(rows) < 0.08
        ours, theirs = ((draw.random(rows) < each) & ~hard for each in (accuracy, champion))
        split = tries.split_of(targets, named)
        answers = (tries.said(targets, right) for right in (ours, theirs))
        won += paired_gain(task, *answers, split, tries.splits_of(split), rounds=400).above(0.0)
    return won / TRIALS


def test_chance_does_not_promote_and_a_better_model_is_promoted() -> None:
    assert _promoted(0.92, 0.92) <= 0.05
    assert _promoted(0.98, 0.88) >= 0.9


def test_two_that_differ_by_one_lucky_sample_are_not_told_apart() -> None:
    targets = np.zeros(200, np.int64)
    right = np.ones(200, bool)
    less = right.copy()
    less[3] = False
    split = tries.split_of(targets)
    found = paired_gain(tries.task(), tries.said(targets, right), tries.said(targets, less), split, tries.splits_of(split))
    assert (found.low, found.middle) == (pytest.approx(-0.005), pytest.approx(0.005))
    assert not found.above(0.0)


def test_nor_are_they_by_a_metric_that_is_no_share() -> None:
    """More than a third of the draws do not have the one sample: their gain is 0, and that is no proof of a match."""
    targets = np.zeros(200, np.int64)
    targets[:40] = 1
    right = np.ones(200, bool)
    less = right.copy()
    less[3] = False
    task, split = WindowClassification(tries.spec("task: window-classification")), tries.split_of(targets)
    ours, theirs = tries.said(targets, right), tries.said(targets, less)
    found = paired_gain(task, ours, theirs, split, tries.splits_of(split), rounds=200)
    assert found.middle == pytest.approx(1 - (2 * 39 / 79 + 320 / 321) / 2)  # of macro F1
    assert found.low == pytest.approx(-0.005) and not found.above(0.0)
    turned = paired_gain(task, theirs, ours, split, tries.splits_of(split), rounds=200)
    assert (turned.low, turned.high) == (pytest.approx(-found.high), pytest.approx(0.005))


def test_a_metric_that_is_no_mean_gives_the_same_interval_the_slow_way() -> None:
    draw = np.random.default_rng(3)
    targets = draw.integers(0, 2, 250)
    split = tries.split_of(targets, np.arange(250) % 50)
    outputs, splits = tries.said(targets, draw.random(250) < 0.8), tries.splits_of(split)
    quick, slow = (interval(kind(tries.spec()), outputs, split, splits) for kind in (ImageClassification, _NoMean))
    assert (slow.middle, slow.unit, slow.units) == (quick.middle, "sources", 50)
    assert slow.low == pytest.approx(quick.low, abs=0.012)
    assert slow.high == pytest.approx(quick.high, abs=0.012)


def test_the_same_seed_gives_the_same_interval_and_one_row_gives_none() -> None:
    targets = np.arange(40) % 2
    split = tries.split_of(targets)
    outputs, splits = tries.said(targets, np.arange(40) % 5 > 0), tries.splits_of(split)
    assert interval(tries.task(), outputs, split, splits) == interval(tries.task(), outputs, split, splits)
    one = split.take(np.array([0]))
    alone = interval(tries.task(), outputs[:1], one, splits)
    assert math.isnan(alone.low) and alone.as_json()["low"] is None
    assert not alone.above(-1.0)


def test_without_a_single_mistake_the_interval_still_has_a_width() -> None:
    targets = np.arange(60) % 2
    split = tries.split_of(targets)
    found = interval(tries.task(), tries.said(targets, targets >= 0), split, tries.splits_of(split))
    assert (found.low, found.high) == (pytest.approx(0.9404, abs=1e-3), 1.0)


def test_few_units_widen_the_interval_as_students_t_does() -> None:
    assert student(1.959964, 9) == pytest.approx(2.262, abs=0.002)
    assert student(1.959964, 4) == pytest.approx(2.776, abs=0.02)
    assert tail_of(0.95, 10**6) == pytest.approx(0.025, abs=1e-5)
    assert tail_of(0.95, 6) < 0.005
