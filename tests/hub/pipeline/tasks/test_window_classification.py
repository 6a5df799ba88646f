"""Windows of one of several classes: from samples to a device's answer, and the real drives."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import parse
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.clean import RawSample
from cloud_hub.pipeline.data import Split
from cloud_hub.pipeline.retrain import Published
from protos.contract.inputs import WindowInput
from protos.contract.samples import Window, encode_window
from scripts.datasets import carobd, driver_events, raw
from tests.hub.pipeline.tasks.trained import INT8, figure, fitted, on_device, on_test, published

LABELS = ("calm", "bump", "sway")
CHANNELS = ("x", "y", "still")
SPEC = """
name: ride
task: window-classification
data: {dataset: ride, calibration: 64}
preprocess: {steps: 40}
teacher: {width: 8, stages: 2, epochs: 4}
student: {width: 6, stages: 2, epochs: 8}
train: {lr: 0.01}
gate: {bound: 0.8, min_speedup: 0}
"""


def window(kind: str, seed: int, *, steps: int = 48) -> Window:
    """Noise; a bump somewhere on x, or a wave on y. The third channel says nothing."""
    draw = np.random.default_rng((LABELS.index(kind), seed))
    values = draw.normal(0, 0.3, (steps, 3)).astype(np.float32) + np.float32([5, -2, 0])
    at = np.arange(steps)
    if kind == "bump":
        values[:, 0] += 4 * np.exp(-((at - draw.uniform(15, 40)) ** 2) / 8)
    elif kind == "sway":
        values[:, 1] += 1.5 * np.sin(at / 4 + draw.uniform(0, 6))
    values[:, 2] = 7
    return Window(channels=CHANNELS, values=values)


def rides(count: int = 80) -> Iterator[RawSample]:
    """Calm far more often than the others; five windows in a row come from one ride."""
    for kind, times in (("calm", 4), ("bump", 1), ("sway", 1)):
        for i in range(count * times):
            yield raw(encode_window(window(kind, i)), kind, source=f"{kind}-{i // 5}", name=f"{kind}-{i}", group=f"car-{i % 2}")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return published(parse(SPEC), LABELS, rides(), tmp_path_factory.mktemp("ride"))


@pytest.mark.parametrize("target", INT8)
def test_int8_tells_windows_apart_as_the_network_does(made: Published, target: str) -> None:
    network = made.report["student"]["test"]["macro_f1"]  # type: ignore[index]
    assert network > 0.85
    assert abs(figure(made, target, "macro_f1") - network) < 0.05
    assert figure(made, target, "output_error") < 0.06


@pytest.mark.parametrize("target", INT8)
def test_a_device_names_what_happened_in_readings_it_takes_in_its_own_order(made: Published, target: str) -> None:
    model = on_device(made.package, target)
    labels = model.manifest.output.labels
    seen = window("bump", 9001)
    turned = Window(channels=("y", "x"), values=np.ascontiguousarray(seen.values[:, [1, 0]]))
    assert labels[model.predict(seen).label] == labels[model.predict(turned).label] == "bump"
    assert labels[model.predict(window("calm", 9001)).label] == "calm"


def test_a_channel_that_never_changes_is_left_out_and_said(made: Published) -> None:
    notes = made.report["data"]["notes"]  # type: ignore[index]
    assert any("always the same" in note and "still" in note for note in notes)


def test_the_metric_is_not_fooled_by_one_answer_for_all(tmp_path: Path) -> None:
    task, splits, network = fitted(SPEC.replace("epochs: 8", "epochs: 1"), LABELS, rides(), tmp_path)
    always = np.zeros((len(splits.test), 3), np.float32)
    always[:, 0] = 1
    assert task.value(always, splits.test, splits) < 0.35
    right = np.eye(3, dtype=np.float32)[splits.test.targets]
    assert task.value(right, splits.test, splits) == 1.0
    score = task.score(on_test(task, splits, network), splits.test, splits)
    assert set(score.by_class) == set(LABELS) and 0 <= score.details["accuracy"] <= 1


def test_what_is_no_window_and_what_is_too_short_is_counted() -> None:
    task = tasks.make(parse(SPEC))
    odd = [
        raw(b"TLW1 nonsense", "calm", name="torn"),
        raw(encode_window(window("calm", 1, steps=10)), "calm", name="short"),
        raw(encode_window(Window(channels=CHANNELS, values=np.full((48, 3), np.nan, np.float32))), "calm", name="silent"),
    ]
    report = task.load(LABELS, [*odd, *rides()]).report
    assert report.dropped == {"not a readable window": 1, "fewer than 40 steps": 1, "every value is missing": 1}


def test_a_channel_nobody_has_is_refused_by_name() -> None:
    task = tasks.make(parse(SPEC.replace("{steps: 40}", "{steps: 40, channels: [x, z]}")))
    with pytest.raises(Invalid, match=r"no channel 'z'"):
        task.load(LABELS, rides(5))


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("preprocess: {steps: 2}", r"preprocess\.steps"),
        ("preprocess: {chanels: [x]}", r"channels"),
        ("student: {width: 6, stages: 7}", r"student\.stages"),
        ("student: {kernel: 4}", r"student\.kernel"),
    ],
)
def test_a_section_that_cannot_be_is_refused_by_its_key(section: str, key: str) -> None:
    with pytest.raises(Invalid, match=key):
        parse(f"name: ride\ntask: window-classification\ndata: {{dataset: ride}}\n{section}\n")


@pytest.mark.data
def test_no_reading_of_a_manoeuvre_is_in_two_splits(shared_data: Path) -> None:
    samples = list(driver_events.samples(shared_data))
    splits_of: dict[str, set[str]] = {}
    for each in samples:
        splits_of.setdefault(each.source, set()).add(each.split)
    assert all(len(found) == 1 for found in splits_of.values())
    task = tasks.make(parse(SPEC.replace("{steps: 40}", "{steps: 100}")))
    splits = task.load(driver_events.LABELS, samples)
    assert set(splits.labels) == set(driver_events.LABELS)
    assert not _rows(splits.train) & _rows(splits.test) and not _rows(splits.train) & _rows(splits.val)


@pytest.mark.data
def test_manoeuvres_are_told_apart(shared_data: Path, tmp_path: Path) -> None:
    spec = SPEC.replace("{steps: 40}", "{steps: 100}").replace("width: 6, stages: 2, epochs: 8", "width: 12, epochs: 12")
    task, splits, network = fitted(spec, driver_events.LABELS, driver_events.samples(shared_data), tmp_path)
    assert isinstance(splits.input, WindowInput) and splits.input.channels == driver_events.CHANNELS
    assert task.value(on_test(task, splits, network), splits.test, splits) > 0.7  # always "normal": 0.17


@pytest.mark.data
def test_every_drive_is_read_whole(shared_data: Path) -> None:
    samples = list(carobd.samples(shared_data, steps=60, stride=60))
    assert {each.label for each in samples} == set(carobd.LABELS)
    assert len({each.source for each in samples}) == 16


def _rows(split: Split) -> set[bytes]:
    """Every reading, as bytes."""
    return {row.tobytes() for each in split.contents if isinstance(each, Window) for row in each.values}
