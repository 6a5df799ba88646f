"""Rows of a table: costs, odd cells, the metric, and the way to a device."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import parse
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.auc import auc, mean_auc
from cloud_hub.pipeline.clean import RawSample
from cloud_hub.pipeline.retrain import Published
from edge_agent.infer.inputs import tensors_of
from protos.contract.inputs import RowInput
from protos.contract.samples import encode_row
from scripts.datasets import credit_german, raw
from tests.hub.pipeline.tasks.trained import INT8, figure, fitted, on_device, on_test, published

LABELS = ("good", "bad")
SPEC = """
name: loans
task: tabular-classification
data: {dataset: loans, val_share: 0.2, test_share: 0.3, calibration: 64}
teacher: {hidden: 16, layers: 1, epochs: 6}
student: {hidden: 8, layers: 1, dropout: 0.0, epochs: 8}
train: {lr: 0.01}
gate: {bound: 0.75, min_speedup: 0}
"""


def loans(count: int = 500) -> Iterator[RawSample]:
    """Bad where much is asked for and little earned, or by chance; some cells are missing or of the wrong kind."""
    draw = np.random.default_rng(3)
    for i in range(count):
        income, amount, purpose = draw.normal(40, 10), draw.normal(10, 4), draw.choice(["car", "house", "tour"])
        risk = 0.4 * (amount - 10) - 0.15 * (income - 40) + (1.5 if purpose == "tour" else 0.0)
        row = {"income": income, "amount": amount, "purpose": str(purpose), "number": float(i % 7)}
        if i % 10 == 0:
            del row["income"]
        if i % 97 == 5:
            row["amount"] = "n/a"
        yield raw(encode_row(row), LABELS[int(draw.random() < 1 / (1 + np.exp(1.0 - risk)))], name=f"loan-{i}")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return published(parse(SPEC), LABELS, loans(), tmp_path_factory.mktemp("loans"))


@pytest.mark.parametrize("target", INT8)
def test_int8_orders_rows_as_the_network_does(made: Published, target: str) -> None:
    network = made.report["student"]["test"]["auc"]
    assert network > 0.75
    assert abs(figure(made, target, "auc") - network) < 0.01
    assert figure(made, target, "output_error") < 0.05


@pytest.mark.parametrize("target", INT8)
def test_a_device_answers_for_rows_it_never_saw(made: Published, target: str) -> None:
    model = on_device(made.package, target)
    labels = model.manifest.output.labels
    risky = model.predict({"income": 20.0, "amount": 25.0, "purpose": "tour"})
    safe = model.predict({"income": 60.0, "amount": 3.0, "purpose": "house"})
    unknown = model.predict({"purpose": "boat"})
    assert (labels[risky.label], labels[safe.label]) == ("bad", "good")
    assert min(risky.confidence, safe.confidence) > 0.6
    assert 0.5 <= unknown.confidence < max(risky.confidence, safe.confidence)


def test_what_is_odd_about_columns_is_said(made: Published) -> None:
    notes = made.report["data"]["notes"]
    assert any("texts among the numbers" in note and "amount" in note for note in notes)
    assert any("sometimes missing" in note and "income" in note for note in notes)


def test_a_dear_mistake_is_made_less_often(tmp_path: Path) -> None:
    recall = {}
    for costs in ("{}", "{bad: 8}"):
        spec = f"{SPEC}preprocess: {{costs: {costs}}}\n"
        task, splits, network = fitted(spec, LABELS, loans(), tmp_path / str(len(costs)))
        recall[costs] = task.score(on_test(task, splits, network), splits.test, splits)
    plain, dear = recall["{}"], recall["{bad: 8}"]
    assert dear.by_class["bad"] > plain.by_class["bad"] + 0.1
    assert dear.details["cost"] < dear.details["cost_of_one_answer"]
    assert dear.details["calibration_error"] < 0.15  # of what is likely, not of what is dear


def test_costs_of_a_label_nobody_has_are_refused() -> None:
    task = tasks.make(parse(f"{SPEC}preprocess: {{costs: {{ugly: 5}}}}\n"))
    with pytest.raises(Invalid, match=r"preprocess.costs.ugly"):
        task.load(LABELS, loans(10))


@pytest.mark.parametrize("costs", ["{bad: 0}", "{bad: -1}", "{bad: .nan}", "{bad: .inf}"])
def test_costs_are_positive_numbers(costs: str) -> None:
    with pytest.raises(Invalid, match=r"preprocess.costs.bad"):
        parse(f"{SPEC}preprocess: {{costs: {costs}}}\n")


def test_excluded_columns_are_not_looked_at() -> None:
    splits = tasks.make(parse(f"{SPEC}preprocess: {{exclude: [purpose]}}\n")).load(LABELS, loans())
    assert isinstance(splits.input, RowInput)
    assert {column.name for column in splits.input.columns} == {"income", "amount", "number"}


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=60))
def test_auc_is_the_one_others_compute(pairs: list[tuple[int, bool]]) -> None:
    scores, positive = np.array([float(s) for s, _ in pairs]), np.array([p for _, p in pairs])
    if positive.all() or not positive.any():
        assert np.isnan(auc(scores, positive))
    else:
        assert auc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))


def test_auc_of_a_champion_that_does_not_know_a_class_is_a_number() -> None:
    outputs = np.array([[1.0, -np.inf, 0.0], [0.5, -np.inf, 2.0], [-1.0, -np.inf, -np.inf]], np.float32)
    assert 0 <= mean_auc(outputs, np.array([0, 1, 0]), 2) <= 1
    assert mean_auc(outputs, np.array([0, 0, 0]), 2) == 0.5  # nothing to part


@pytest.mark.data
def test_credits_are_judged_as_well_as_by_logistic_regression(shared_data: Path, tmp_path: Path) -> None:
    text = (Path(__file__).parents[4] / "docs" / "examples" / "specs" / "credit.yaml").read_text()
    task, splits, network = fitted(text, LABELS, credit_german.samples(shared_data), tmp_path)
    score = task.score(on_test(task, splits, network), splits.test, splits)
    train = tensors_of(splits.train.contents, splits.input)
    reference = LogisticRegression(C=0.1, max_iter=1000).fit(train, splits.train.targets)
    theirs = auc(reference.decision_function(splits.test.inputs), splits.test.targets == 1)
    assert score.value > max(0.74, theirs - 0.02)
    assert score.details["cost"] < 0.85 * score.details["cost_of_one_answer"]
