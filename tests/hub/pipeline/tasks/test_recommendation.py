"""Choices of users: what is asked for, the metric, and the way to a device. The choices are made up."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import parse
from cloud_hub.pipeline import finetune
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.gate import Champion
from cloud_hub.pipeline.retrain import Published
from cloud_hub.pipeline.task import Task, predict
from cloud_hub.pipeline.tasks.recommendation.ranks import gain, popular_ranks, ranks
from cloud_hub.pipeline.tasks.recommendation.task import _seen
from protos.contract.ids import digest_of, model_name
from protos.contract.inputs import CategoryColumn, RowInput
from protos.contract.manifest import Blob, Format, GoldenRef, Manifest, Precision
from protos.contract.outputs import Ranking
from protos.contract.samples import encode_row
from scripts.datasets import movielens, raw, shop
from tests.hub.pipeline.tasks.trained import INT8, figure, fitted, on_device, on_test, published

SPEC = """
name: shop
task: recommendation
data: {dataset: shop, val_share: 0.2, test_share: 0.3, calibration: 64}
preprocess: {top: 5}
teacher: {hidden: 32, width: 16, forget: 0.3, epochs: 10}
student: {hidden: 24, width: 12, forget: 0.3, epochs: 12}
train: {batch_size: 32, lr: 0.01, label_smoothing: 0.0, temperature: 1}
gate: {bound: 0.3, min_speedup: 0}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return published(parse(SPEC), shop.LABELS, shop.samples(users=500), tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def splits() -> Splits:
    return tasks.make(parse(SPEC)).load(shop.LABELS, shop.samples(users=100))


def test_it_beats_what_is_popular_by_far(made: Published) -> None:
    test = made.report["student"]["test"]
    assert test["hit_rate_10"] > test["popular_hit_rate_10"] + 0.12
    assert test["hit_rate_10"] < shop.best_hit_rate() + 0.1  # more than can be known would be a leak; 150 users are asked


@pytest.mark.parametrize("target", INT8)
def test_int8_ranks_as_the_network_does(made: Published, target: str) -> None:
    assert abs(figure(made, target, "hit_rate_10") - made.report["student"]["test"]["hit_rate_10"]) < 0.06
    assert figure(made, target, "output_error") < 0.05


@pytest.mark.parametrize("target", INT8)
def test_a_device_is_told_items_of_the_kinds_it_looked_at(made: Published, target: str) -> None:
    model = on_device(made.package, target)
    labels = model.manifest.output.labels
    told = model.predict({"seen": ("item-2-0", "item-2-3", "item-5-1", "item-5-0"), "hour": 9.0}).ranked
    assert len(told) == 5
    assert sum(labels[item].split("-")[1] in ("2", "5") for item, _ in told) >= 4
    assert [share for _, share in told] == sorted((share for _, share in told), reverse=True)
    unknown = model.predict({"seen": ("nothing we sell",)})
    assert "-0" in labels[unknown.label]  # what is popular


def test_no_user_is_in_two_splits_and_each_is_tested_once(splits: Splits) -> None:
    users = {name: [origin.source for origin in getattr(splits, name).origins] for name in ("train", "val", "test")}
    assert not set(users["train"]) & set(users["val"]) and not set(users["train"] + users["val"]) & set(users["test"])
    assert len(users["test"]) == len(set(users["test"]))
    assert all(origin.at_ms == 11 for origin in splits.test.origins)  # the newest choice


def test_items_come_most_popular_first_and_stand_where_they_were_seen(splits: Splits) -> None:
    counts = np.bincount(splits.train.targets[:, 0])
    assert (np.diff(counts) <= 0).all()
    input, output = splits.input, tasks.make(parse(SPEC)).output(splits)
    assert isinstance(input, RowInput) and isinstance(output, Ranking)
    first = input.columns[0]
    assert isinstance(first, CategoryColumn) and first.values[: len(output.labels)] == output.labels


def champion_of(task: Task, splits: Splits) -> Champion:
    blob = Blob(digest=digest_of(b"-"), size_bytes=1)
    manifest = Manifest(
        name=model_name("shop"),
        version=3,
        task=task.spec.task,
        artifact=blob,
        format=Format.ONNX,
        precision=Precision.INT8,
        input=splits.input,
        output=task.output(splits),
        golden=GoldenRef(blob=blob, tolerance=1.0),
    )
    return Champion(version=3, target="onnx-int8", manifest=manifest, model=b"")


def test_who_goes_on_from_a_version_keeps_its_order_of_items() -> None:
    """By now others are popular; its weights know the items by their places."""
    task, samples = tasks.make(parse(SPEC)), list(shop.samples(users=300))
    first = set(sorted({each.source for each in samples})[:200])
    splits, later = task.load(shop.LABELS, (each for each in samples if each.source in first)), task.load(shop.LABELS, samples)
    assert later.labels != splits.labels and set(later.labels) == set(splits.labels)
    kept = finetune.with_units_of(champion_of(task, splits), task, later)
    assert (kept.labels, kept.input) == (splits.labels, splits.input)
    network = task.network(task.spec.student, kept)
    outputs = predict(network, task.feeder(kept), kept.test.inputs)
    assert task.score(outputs, kept.test, kept).samples == len(later.test)
    for name in ("train", "val", "test"):
        before, after = (getattr(each, name) for each in (later, kept))
        said = [[each.labels[target] for target in part.targets[:, 0]] for each, part in ((later, before), (kept, after))]
        assert said[0] == said[1]
    counts = np.bincount(kept.train.targets[:, 0], minlength=len(kept.labels))
    assert kept.facts["chosen"] == tuple(counts.tolist())
    seen = [{later.labels[i] for i in np.flatnonzero(row)} for row in _seen(later.test, len(later.labels))]
    assert seen == [{kept.labels[i] for i in np.flatnonzero(row)} for row in _seen(kept.test, len(kept.labels))]
    strange = replace(splits, labels=("item-new", *splits.labels[1:]))
    with pytest.raises(Invalid, match="knows other items"):
        finetune.with_units_of(champion_of(task, strange), task, later)


def test_two_who_saw_the_same_may_choose_differently() -> None:
    row = encode_row({"seen": ["item-0-0"]})
    same = [raw(row, label, source=f"user {user}", name=f"{user}") for user, label in (("a", "item-1-0"), ("b", "item-1-1"))]
    report = tasks.make(parse(SPEC)).load(shop.LABELS, [*same, same[0], *shop.samples(users=60)]).report
    assert "the same under different labels" not in report.dropped
    assert "a" in report.examples["the same again"]


def test_rows_without_the_list_of_items_are_no_choices() -> None:
    with pytest.raises(Invalid, match=r"preprocess.seen: 'basket'"):
        tasks.make(parse(SPEC.replace("top: 5", "top: 5, seen: basket"))).load(shop.LABELS, shop.samples(users=60))


def test_choices_of_items_nobody_chose_before_are_said() -> None:
    samples = [each for each in shop.samples(users=60)]
    rare = raw(encode_row({"seen": ["item-0-0"]}), "item-new", source="user x", split="test", at_ms=99)
    report = tasks.make(parse(SPEC)).load((*shop.LABELS, "item-new"), [*samples, rare]).report
    assert any("'test' are of items that are not learned" in note for note in report.notes)


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(2, 12)), elements=st.sampled_from([-np.inf, 0, 1])))
def test_ranks_are_the_places_a_device_gives(outputs: np.ndarray) -> None:
    targets = np.arange(len(outputs)) % outputs.shape[1]
    order = np.argsort(-outputs, axis=1, kind="stable")
    expected = [list(row).index(target) for row, target in zip(order, targets, strict=True)]
    assert ranks(outputs, targets).tolist() == expected


def test_the_popular_ones_are_told_without_those_seen() -> None:
    seen = np.array([[True, True, False, False], [False, False, False, True]])
    assert popular_ranks(seen, np.array([2, 2])).tolist() == [0, 2]


def test_gain_falls_with_the_place() -> None:
    assert gain(np.array([0]), 10) == 1.0
    assert gain(np.array([1]), 10) == pytest.approx(0.6309, abs=1e-4)
    assert gain(np.array([10]), 10) == 0.0


@pytest.mark.data
@pytest.mark.slow
def test_films_are_told_better_than_by_popularity(shared_data: Path, tmp_path: Path) -> None:
    if not (shared_data / "movielens_100k").is_dir():
        pytest.skip("MovieLens 100k is not there: scripts/datasets/movielens.py says where it goes")
    text = (Path(__file__).parents[4] / "docs" / "examples" / "specs" / "films.yaml").read_text()
    task, splits, network = fitted(text, movielens.labels(shared_data), movielens.samples(shared_data), tmp_path)
    details = task.score(on_test(task, splits, network), splits.test, splits).details
    assert details["ndcg_10"] > details["popular_ndcg_10"]
