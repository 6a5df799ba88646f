"""Curves, calibration and conditions against cases whose answers are known."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from cloud_hub.core.tasks import Metric
from cloud_hub.pipeline.evaluation import conditions, curves
from cloud_hub.pipeline.evaluation.calibration import calibration
from tests.hub.pipeline.evaluation import tries


def test_areas_are_those_of_scikit_learn_ties_included() -> None:
    draw = np.random.default_rng(0)
    positive = draw.random(300) < 0.3
    scores = np.round(positive * 0.3 + draw.random(300), 1)
    roc, pr = curves.roc(scores, positive), curves.precision_recall(scores, positive)
    assert roc is not None and pr is not None
    assert roc.area == pytest.approx(roc_auc_score(positive, scores))
    assert pr.area == pytest.approx(average_precision_score(positive, scores))


def test_a_class_without_samples_has_no_curve_and_what_was_not_found_costs_recall() -> None:
    scores = np.array([0.9, 0.8, 0.1])
    assert curves.roc(scores, np.zeros(3, bool)) is None
    assert curves.precision_recall(scores, np.zeros(3, bool)) is None
    assert curves.precision_recall(np.empty(0), np.empty(0, bool), 4) is None
    found = curves.precision_recall(scores, np.array([True, True, False]), 4)
    assert found is not None and found.x.max() == pytest.approx(0.5)
    assert found.area == pytest.approx(0.5)


def test_confidence_that_tells_right_from_wrong_has_no_risk_until_the_wrong_ones_are_answered() -> None:
    right = np.arange(100) < 90
    curve = curves.risk_coverage(np.linspace(1, 0.1, 100), right)
    assert curve.y[89] == 0.0 and curve.y[-1] == pytest.approx(0.1)
    assert curve.area < curves.risk_coverage(np.linspace(0.1, 1, 100), right).area


def test_a_missing_truth_counts_for_no_residual() -> None:
    answers = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    truths = np.array([[1.0, np.nan], [1.0, np.nan], [1.0, np.nan]])
    (only,) = curves.residuals(answers, truths, ("now", "later"))
    assert (only.name, only.mae, only.bias) == ("now", 1.0, 1.0)
    assert only.rmse == pytest.approx((5 / 3) ** 0.5)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    draw = np.random.default_rng(1)
    sure = draw.uniform(0.5, 1, 20_000)
    honest = calibration(sure, draw.random(20_000) < sure)
    boastful = calibration(sure, draw.random(20_000) < sure - 0.2)
    assert honest.ece < 0.02
    assert boastful.ece == pytest.approx(0.2, abs=0.02)
    assert boastful.brier > honest.brier
    assert sum(each.count for each in honest.bins) == 20_000


def test_what_goes_wrong_in_the_dark_is_found_and_named() -> None:
    targets = np.arange(240) % 2
    split = tries.split_of(targets)
    right = (np.arange(240) % 256 >= 80) | (np.arange(240) % 3 == 0)  # a picture is as bright as its row number
    splits, task = tries.splits_of(split), tries.task()
    parts = conditions.slices(split, splits)
    found = conditions.judge(task, tries.said(targets, right), split, splits, parts)
    worst = conditions.worst(found, task.metric)
    assert worst is not None and worst.surely_worse
    assert (worst.condition, worst.name.split(":")[0], worst.samples) == ("brightness", "low", 80)
    assert [each.name for each in found if each.condition == "device"] == ["camera-0", "camera-1"]
    assert not any(each.condition == "source" for each in found)  # each has one sample


def test_devices_that_share_a_label_are_a_group_and_a_label_of_each_alone_is_none() -> None:
    cameras = [f"camera-{i}" for i in range(4)]
    split = replace(tries.split_of(np.arange(240) % 2), groups=tuple(cameras[i % 4] for i in range(240)))
    devices = {name: {"site": "north" if i < 3 else "south", "serial": name} for i, name in enumerate(cameras)}
    parts = conditions.slices(split, tries.splits_of(split), devices=devices)
    found = {each.name: len(each.rows) for each in parts if each.condition == "devices by site"}
    assert found == {"north": 180, "south": 60}
    assert not any(each.condition == "devices by serial" for each in parts)


def test_a_column_to_part_by_that_no_sample_has_is_found() -> None:
    split = replace(tries.split_of(np.arange(40) % 2), contents=[{"region": "north", "speed": 0.0}] * 40)
    assert conditions.unknown(split, ["region", "speed", "regoin"]) == ["regoin"]


def test_of_an_error_the_worst_condition_is_the_largest() -> None:
    targets = np.arange(240) % 2
    split = tries.split_of(targets)
    splits = tries.splits_of(split)
    judged = conditions.judge(tries.task(), tries.said(targets, targets > 0), split, splits, conditions.slices(split, splits))
    found = [replace(each, surely_worse=False) for each in judged]
    high = conditions.worst(found, Metric(name="rmse", higher_is_better=False))
    assert high is not None and high.value.middle == max(each.value.middle for each in found)
