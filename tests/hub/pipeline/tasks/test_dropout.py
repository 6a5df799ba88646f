"""A ``dropout`` that a specification takes is one that a network has."""

import pytest
from torch import nn

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import parse
from cloud_hub.pipeline.tasks.anomaly_detection import network as autoencoder
from cloud_hub.pipeline.tasks.forecasting import network as forecaster
from cloud_hub.pipeline.tasks.image_classification import network as pictures
from cloud_hub.pipeline.tasks.recommendation import network as towers
from cloud_hub.pipeline.tasks.tabular_classification import network as tables
from cloud_hub.pipeline.tasks.text_classification import network as texts
from cloud_hub.pipeline.tasks.window_classification import network as classes
from cloud_hub.pipeline.tasks.window_regression import network as values

NETWORKS = {
    "image-classification": lambda of: pictures.build(of, channels=3, side=32, classes=2, seed=0),
    "anomaly-detection": lambda of: autoencoder.build(of, steps=64, channels=2, seed=0),
    "anomaly-detection\nstudent: {kind: dense}": lambda of: autoencoder.build(of, steps=64, channels=2, seed=0),
    "forecasting\nstudent: {kind: conv}": lambda of: forecaster.build(
        of, lookback=96, horizon=24, channels=2, told=(0, 1), levels=1, seed=0
    ),
    "recommendation": lambda of: towers.build(of, features=30, chosen=[1] * 20, seed=0),
    "tabular-classification": lambda of: tables.build(of, features=8, classes=2, seed=0),
    "text-classification": lambda of: texts.build(of, buckets=64, classes=2, seed=0),
    "window-classification": lambda of: classes.build(of, channels=2, classes=2, seed=0),
    "window-regression": lambda of: values.build(of, channels=2, values=1, seed=0),
}


@pytest.mark.parametrize("task", NETWORKS)
def test_what_a_specification_says_of_dropout_reaches_the_network(task: str) -> None:
    spec = parse(f"name: m\ndata: {{dataset: d}}\ntrain: {{dropout: 0.37}}\ntask: {task}\n")
    layers = NETWORKS[task](spec.student).modules()
    assert any(isinstance(layer, nn.Dropout) and layer.p == 0.37 for layer in layers)


@pytest.mark.parametrize("said", ["", "train: {dropout: 0.1}\n"])
def test_a_dropout_that_another_one_overrides_is_not_searched_for(said: str) -> None:
    space = {"student.dropout": (0.0, 0.3), **({} if said else {"train.dropout": (0.0, 0.3)})}
    ends = ", ".join(f"{key}: {{low: {low}, high: {high}}}" for key, (low, high) in space.items())
    with pytest.raises(Invalid, match=r"tuning\.space\.student\.dropout"):
        parse(f"name: m\ndata: {{dataset: d}}\n{said}tuning: {{trials: 2, space: {{{ends}}}}}\n")
