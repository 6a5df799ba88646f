"""Numbers from windows: from samples to a device's answer, quantiles, and the real engines."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import parse
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.clean import RawSample
from cloud_hub.pipeline.numbers import edges, numbers_of
from cloud_hub.pipeline.retrain import Published
from protos.contract.outputs import Values
from protos.contract.samples import Window, encode_window
from scripts.datasets import battery, cmapss, raw
from tests.hub.pipeline.tasks.trained import INT8, figure, fitted, on_device, on_test, published

SPEC = """
name: wear
task: window-regression
data: {dataset: wear, calibration: 64}
preprocess: {steps: 16, most: 40}
teacher: {width: 8, stages: 2, epochs: 4}
student: {width: 6, stages: 2, epochs: 10}
train: {lr: 0.01, augment: []}
gate: {bound: 6, min_speedup: 0}
"""


def window(left: float, seed: int = 0) -> Window:
    """The less is left, the hotter it is and the more it shakes."""
    draw = np.random.default_rng(seed)
    worn = max(0.0, 40 - left) / 40
    values = np.stack([300 + 20 * worn + draw.normal(0, 1, 16), draw.normal(0, 0.2 + worn, 16)], 1)
    return Window(channels=("heat", "shake"), values=values.astype(np.float32))


def engines(count: int = 16) -> Iterator[RawSample]:
    for engine in range(count):
        for left in range(60, -1, -2):
            content = encode_window(window(left, 1000 * engine + left))
            yield raw(content, str(left), source=f"engine-{engine}", name=f"{engine}/{left}", group=f"site-{engine % 2}")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return published(parse(SPEC), (), engines(), tmp_path_factory.mktemp("wear"))


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_readings_are_varied_by_the_noise_asked_for(noise: float) -> None:
    spec = SPEC.replace("most: 40", f"most: 40, noise: {noise}").replace("augment: []", "augment: [noise]")
    task = tasks.make(parse(spec))
    feeder = task.feeder(task.load((), engines()))
    varied, _ = feeder.vary(torch.zeros(64, 16, 2), torch.zeros(64, 1), torch.Generator().manual_seed(1))
    assert float(varied.std()) == pytest.approx(noise, rel=0.1)


@pytest.mark.parametrize("target", INT8)
def test_int8_is_off_by_hardly_more_than_the_network(made: Published, target: str) -> None:
    test = made.report["student"]["test"]  # type: ignore[index]
    assert test["rmse"] < 5 and test["r2"] > 0.85  # the mean is off by 14
    assert abs(figure(made, target, "rmse") / test["rmse"] - 1) < 0.05
    assert figure(made, target, "output_error") < 0.05


@pytest.mark.parametrize("target", INT8)
def test_a_device_tells_the_number_in_its_own_unit(made: Published, target: str) -> None:
    model = on_device(made.package, target)
    said = model.predict(window(10.0, 77777))
    assert said.value == pytest.approx(10, abs=9)
    assert said.values == (said.value,) and said.confidence == 1
    assert model.predict(window(60.0, 77777)).value == pytest.approx(40, abs=9)  # held at ``most``


def test_labels_are_deciles_of_what_was_trained(made: Published) -> None:
    output = on_device(made.package, INT8[0]).manifest.output
    assert isinstance(output, Values) and 5 <= len(output.labels) <= 10
    assert output.edges[-1] <= 40 and all(a < b for a, b in pairwise(output.edges))


def test_engines_never_part_and_the_scale_is_of_those_that_train() -> None:
    splits = tasks.make(parse(SPEC)).load((), engines())
    output = splits.facts["output"]
    assert len(splits.train) % 31 == len(splits.val) % 31 == len(splits.test) % 31 == 0
    assert abs(splits.train.targets.mean()) < 1e-4 and abs(splits.train.targets.std() - 1) < 1e-4
    assert output.std[0] == pytest.approx(13.7, abs=0.5)


def test_labels_far_off_the_others_are_counted_and_told() -> None:
    spec = parse(SPEC.replace("most: 40", "least: 0"))
    plain = tasks.make(spec).load((), engines())
    wild = [replace(one, label="99999") if one.name in ("3/10", "5/10", "9/10") else one for one in engines()]
    notes = [note for note in tasks.make(spec).load((), wild).report.notes if "far off" in note]
    assert len(notes) == 1 and f"of {len(plain.train)})" in notes[0]
    assert not any("far off" in note for note in plain.report.notes)


def test_quantiles_know_how_sure_they_are(tmp_path: Path) -> None:
    spec = SPEC.replace("augment: []", "augment: [], loss: quantile").replace("most: 40", "quantiles: [0.1, 0.5, 0.9]")
    task, splits, network = fitted(spec, (), engines(), tmp_path)
    outputs = on_test(task, splits, network)
    output = task.output(splits)
    assert isinstance(output, Values) and output.names == ("value p10", "value p50", "value p90") and output.headline == 1
    coverage = task.score(outputs, splits.test, splits).details["coverage"]
    assert coverage["p10"] < 0.35 < 0.65 < coverage["p90"]


def test_a_champion_in_another_scale_is_compared_in_ours() -> None:
    task = tasks.make(parse(SPEC))
    splits = task.load((), engines())
    theirs = Values(names=("other", "value"), mean=(0.0, 10.0), std=(1.0, 2.0), edges=(1.0,))
    ours = splits.facts["output"]
    told = splits.test.targets * ours.std[0] + ours.mean[0]
    outputs = np.concatenate([np.zeros_like(told), (told - 10) / 2], 1).astype(np.float32)
    assert task.value(task.translated(outputs, theirs, splits), splits.test, splits) < 1e-4
    strange = Values(names=("other",), mean=(0.0,), std=(1.0,), edges=(1.0,))
    with pytest.raises(Invalid, match="'value'"):
        task.translated(outputs[:, :1], strange, splits)


def test_labels_that_are_no_numbers_are_counted() -> None:
    odd = [raw(encode_window(window(5, 100 + i)), label) for i, label in enumerate(("", "soon", "[1, 2]", "NaN", "true"))]
    report = tasks.make(parse(SPEC)).load((), [*engines(), *odd]).report
    assert sorted(report.dropped.values()) == [1, 1, 3] and report.kept == 16 * 31


def test_targets_that_are_always_the_same_are_refused() -> None:
    same = (raw(encode_window(window(i, i)), "3", source=str(i)) for i in range(120))
    with pytest.raises(Invalid, match="always 3"):
        tasks.make(parse(SPEC)).load((), same)


@pytest.mark.parametrize(
    ("label", "values"), [("1", [1]), ("[1, 2.5]", [1, 2.5]), ("", None), ("[]", None), ('["a"]', None), ("1e999", None)]
)
def test_a_label_is_a_number_or_a_list_of_them(label: str, values: list[float] | None) -> None:
    read = numbers_of(label)
    assert (None if read is None else read.tolist()) == values


def test_edges_ascend_in_the_floats_of_a_manifest() -> None:
    close = edges(1e8 + np.arange(100) / 10)
    assert len(close) >= 1 and all(np.float32(a) < np.float32(b) for a, b in pairwise(close))


@pytest.mark.data
def test_an_engines_life_is_foretold_better_than_by_a_line(shared_data: Path, tmp_path: Path) -> None:
    spec = SPEC.replace("steps: 16, most: 40", "steps: 30, most: 125").replace(
        "width: 6, stages: 2, epochs: 10", "width: 12, epochs: 6"
    )
    task, splits, network = fitted(spec, (), cmapss.samples(shared_data, stride=4), tmp_path)
    assert task.value(on_test(task, splits, network), splits.test, splits) < 20.8  # linear regression


@pytest.mark.data
def test_a_cells_charge_is_read_from_five_minutes(shared_data: Path, tmp_path: Path) -> None:
    spec = SPEC.replace("steps: 16, most: 40", "steps: 32")
    task, splits, network = fitted(spec, (), battery.samples(shared_data), tmp_path)
    assert task.value(on_test(task, splits, network), splits.test, splits) < 0.1  # Ah; the mean: 0.4
