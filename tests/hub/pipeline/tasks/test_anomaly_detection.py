"""Windows that are like normal ones, or not: from samples to a device's verdict, and real failures."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import parse
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.auc import auc
from cloud_hub.pipeline.clean import RawSample
from cloud_hub.pipeline.data import Split
from cloud_hub.pipeline.evaluation.bootstrap import interval
from cloud_hub.pipeline.evaluation.conditions import Slice, judge
from cloud_hub.pipeline.retrain import Published
from cloud_hub.pipeline.tasks.anomaly_detection.network import Balance
from cloud_hub.pipeline.tasks.anomaly_detection.task import best_f1, errors_of, explained
from edge_agent.infer.inputs import tensors_of
from protos.contract.codec import decode_manifest
from protos.contract.inputs import WindowInput
from protos.contract.outputs import ANOMALY, NORMAL, Reconstruction
from protos.contract.samples import Window, encode_window
from scripts.datasets import nab, raw
from tests.hub.pipeline.tasks.trained import INT8, figure, fitted, on_device, on_test, published

SPEC = """
name: pump
task: anomaly-detection
data: {dataset: pump, calibration: 64}
preprocess: {steps: 32, quantile: 0.98}
teacher: {width: 8, stages: 2, code: 2, epochs: 4}
student: {width: 8, stages: 2, code: 2, epochs: 10}
train: {lr: 0.01}
gate: {bound: 0.85, min_speedup: 0}
"""


def window(seed: int, *, broken: bool = False) -> Window:
    """Pressure and flow of a pump go up and down together; of a broken one they do not."""
    draw = np.random.default_rng((seed, broken))
    at = np.arange(32) / 5 + draw.uniform(0, 6)
    flow = np.sin(at + (draw.uniform(2, 4) if broken else 0)) * (1.8 if broken else 1)
    values = np.stack([20 + 3 * np.sin(at), 5 + flow], 1) + draw.normal(0, 0.05, (32, 2))
    return Window(channels=("pressure", "flow"), values=values.astype(np.float32))


def pumps(count: int = 400, broken: int = 60, *, labelled: bool = True) -> Iterator[RawSample]:
    for i in range(count):
        label = NORMAL if labelled and i % 2 else ""  # without a label: normal
        yield raw(encode_window(window(i)), label, source=f"pump-{i // 10}", name=f"n{i}")
    for i in range(broken):
        yield raw(encode_window(window(i, broken=True)), ANOMALY, source=f"broken-{i // 3}", name=f"a{i}")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return published(parse(SPEC), (), pumps(), tmp_path_factory.mktemp("pump"))


@pytest.mark.parametrize("target", INT8)
def test_int8_parts_them_as_the_network_does(made: Published, target: str) -> None:
    test = made.report["student"]["test"]  # type: ignore[index]
    assert test["measure"] == "auroc" and test["separation"] > 0.9
    assert abs(figure(made, target, "separation") - test["separation"]) < 0.03


@pytest.mark.parametrize("target", INT8)
def test_a_device_tells_what_is_broken_and_how_far_off_it_is(made: Published, target: str) -> None:
    model = on_device(made.package, target)
    output = model.manifest.output
    assert isinstance(output, Reconstruction)
    normal = [model.predict(window(90_000 + i)) for i in range(40)]
    broken = [model.predict(window(90_000 + i, broken=True)) for i in range(40)]
    assert np.mean([output.labels[each.label] == ANOMALY for each in broken]) > 0.7
    assert np.mean([output.labels[each.label] == ANOMALY for each in normal]) < 0.15
    assert all((each.value or 0) > output.threshold for each in broken if each.label)


def test_the_threshold_lets_the_share_of_normal_windows_pass_that_was_asked_for(tmp_path: Path) -> None:
    task, splits, network = fitted(SPEC, (), pumps(), tmp_path)
    outputs = tasks.predict(network, task.feeder(splits), splits.val.inputs)
    normal = errors_of(outputs, splits.val)[splits.val.targets == 0]
    for files in (1, 2):
        output = task.output(splits, np.concatenate([outputs] * files))
        assert isinstance(output, Reconstruction)
        assert np.mean(normal > output.threshold) == pytest.approx(0.02, abs=2 / len(normal))


def test_anomalies_never_train_and_shape_no_scale() -> None:
    task = tasks.make(parse(SPEC))
    splits = task.load((), pumps())
    without = task.load((), pumps(broken=0))
    assert not splits.train.targets.any() and splits.test.targets.any()
    assert splits.input == without.input
    assert any("anomalies came with sources that train" in note for note in splits.report.notes)


def test_files_are_held_against_their_network_by_normal_windows_alone() -> None:
    task = tasks.make(parse(SPEC))
    test = task.load((), pumps()).test
    assert set(test.targets) == {0, 1}
    assert set(test.targets[task.usual_rows(test)]) == {0}


def test_rows_drawn_without_an_anomaly_are_not_judged_by_another_measure() -> None:
    task = tasks.make(parse(SPEC))
    splits = task.load((), pumps())
    rows = np.concatenate([np.flatnonzero(splits.test.targets == kind)[:count] for kind, count in ((0, 57), (1, 3))])
    part = replace(splits.test.take(rows), origins=())
    outputs = part.inputs.reshape(len(part), -1) * np.where(part.targets == 0, 0.5, 0.0)[:, None]
    found = interval(task, outputs.astype(np.float32), part, splits)
    assert (found.low, found.middle, found.high) == (1.0, 1.0, 1.0)
    alone = Slice(condition="mood", name="good", rows=np.arange(30))
    assert judge(task, outputs, part, splits, [alone]) == []


def test_where_nothing_is_known_to_be_broken_the_metric_is_what_is_explained(tmp_path: Path) -> None:
    task, splits, network = fitted(SPEC, (), pumps(broken=0, labelled=False), tmp_path)
    outputs = on_test(task, splits, network)
    score = task.score(outputs, splits.test, splits)
    assert score.details["measure"] == "explained variance" and 0.8 < score.value < 1
    assert task.value(np.zeros_like(outputs), splits.test, splits) == pytest.approx(0, abs=0.01)


def test_a_champion_that_scaled_otherwise_is_compared_by_its_own_error(made: Published, tmp_path: Path) -> None:
    task = tasks.make(parse(SPEC))
    splits = task.load((), pumps())
    assert isinstance(splits.input, WindowInput)
    variant = made.package.variants[0]
    manifest = decode_manifest(made.package.blobs[variant.manifest_digest])
    other = replace(splits.input, mean=(0.0, 0.0), std=(10.0, 10.0))
    perfect = tensors_of(splits.test.contents, other).reshape(len(splits.test), -1)
    told = task.from_champion(perfect, replace(manifest, input=other), splits)
    assert errors_of(told, splits.test).max() < 1e-6
    with pytest.raises(Invalid, match="other channels"):
        task.from_champion(perfect, replace(manifest, input=replace(other, channels=("a", "b"))), splits)


def test_labels_that_mean_nothing_here_are_counted() -> None:
    odd = [raw(encode_window(window(5000)), "strange", name="odd")]
    report = tasks.make(parse(SPEC)).load((), [*odd, *pumps()]).report
    assert report.dropped == {"its label is neither 'normal' nor 'anomaly'": 1}


def test_a_level_that_was_never_seen_is_an_anomaly_though_it_is_reproduced() -> None:
    draw, balance = torch.Generator().manual_seed(7), Balance()

    def windows(level: Tensor) -> tuple[Tensor, Tensor]:
        """What a network makes of them that tells every level, and they themselves."""
        return level.expand(-1, 32), level + 0.3 * torch.randn(len(level), 32, generator=draw)

    for _ in range(100):
        made, seen = windows(torch.randn(64, 1, generator=draw))
        assert torch.equal(balance(made, seen), made)
    balance.eval()
    made, seen = windows(torch.cat([torch.randn(500, 1, generator=draw), torch.full((50, 1), 4.0)]))
    anomalous = np.arange(550) >= 500
    hidden, told = ((seen - given).square().mean(1).double().numpy() for given in (made, balance(made, seen)))
    assert auc(hidden, anomalous) < 0.7 and auc(told, anomalous) > 0.97
    assert told[:500].mean() == pytest.approx(2 * hidden[:500].mean(), rel=0.2)  # half of it what was made
    assert balance(torch.zeros(2, 32), seen[:2]).count_nonzero() == 0


def test_a_network_that_explains_nothing_yet_is_not_turned_round_without_end() -> None:
    balance = Balance()
    for _ in range(200):
        balance(torch.zeros(8, 4), torch.randn(8, 4))
    assert -2.1 < float(balance.share) < -1.9


def test_what_is_explained_does_not_depend_on_how_much_is_given_back() -> None:
    splits = tasks.make(parse(SPEC)).load((), pumps())
    given = splits.test.inputs.reshape(len(splits.test), -1) + np.float32(0.5)
    assert explained(given, splits.test) == pytest.approx(explained(np.float32(-0.2) * given, splits.test), abs=1e-5)
    assert 0.5 < explained(given, splits.test) < 0.95


def test_a_student_hears_its_teacher_whatever_the_scale() -> None:
    task, own, teacher = tasks.make(parse(SPEC)), torch.randn(4, 64), torch.randn(4, 64)
    near = task.distance(own, own * 0.3)
    assert float(near) < 1e-6
    torch.testing.assert_close(task.distance(own, teacher), task.distance(own, -3 * teacher))


def test_a_dense_one_is_there_for_what_has_no_shape_in_time(tmp_path: Path) -> None:
    spec = SPEC.replace("student: {width: 8", "student: {kind: dense, width: 32")
    task, splits, network = fitted(spec, (), pumps(), tmp_path)
    assert task.value(on_test(task, splits, network), splits.test, splits) > 0.6


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("preprocess: {steps: 36}", r"student\.stages|teacher\.stages"),  # 36 cannot be halved three times
        ("preprocess: {quantile: 1.0}", r"preprocess\.quantile"),
        ("student: {kind: deep}", r"student\.kind"),
        ("student: {code: 0}", r"student\.code"),
    ],
)
def test_a_section_that_cannot_be_is_refused_by_its_key(section: str, key: str) -> None:
    with pytest.raises(Invalid, match=key):
        parse(f"name: pump\ntask: anomaly-detection\ndata: {{dataset: pump}}\n{section}\n")


def test_the_best_threshold_is_found() -> None:
    assert best_f1(np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, True, False, False])) == 1.0
    assert best_f1(np.array([3.0, 2.0, 1.0, 0.0]), np.array([False, True, False, False])) == pytest.approx(2 / 3)


@pytest.mark.data
def test_a_machines_failure_is_seen_and_no_reading_is_in_two_splits(shared_data: Path, tmp_path: Path) -> None:
    spec = SPEC.replace("{steps: 32,", "{steps: 64,").replace(
        "stages: 2, code: 2, epochs: 10", "stages: 3, code: 2, epochs: 20"
    )
    task, splits, network = fitted(spec, (), nab.samples(shared_data), tmp_path)
    assert task.value(on_test(task, splits, network), splits.test, splits) > 0.75
    samples = list(nab.samples(shared_data, steps=64, stride=64))
    names = [each.name for each in samples]
    assert len(set(names)) == len(names) and {each.split for each in samples} == {"train", "val", "test"}
    assert _end(splits.train) != _end(splits.val)


def _end(split: Split) -> bytes:
    last = split.contents[-1]
    assert isinstance(last, Window)
    return last.values.tobytes()
