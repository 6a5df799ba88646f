"""Data that nobody could train on, for every task: a report in words, and nothing is published, not even half."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from cloud_hub.core import tasks
from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import TrainingSpec, parse
from cloud_hub.pipeline.clean import RawSample, clean
from cloud_hub.pipeline.images import decoder
from cloud_hub.pipeline.retrain import retrain
from cloud_hub.pipeline.task import make
from protos.contract.inputs import SampleKind
from protos.contract.samples import Window, encode_row, encode_window
from tests.hub.pipeline.parts import noise, sample

LABELS = ("a", "b")
COUNT = 120


def _spec(task: str, extra: str = "") -> TrainingSpec:
    return parse(f"name: x\ntask: {task}\ndata: {{dataset: d, min_samples: 100}}\n{extra}")


def _refused(spec: TrainingSpec, samples: list[RawSample], folder: Path, labels: tuple[str, ...] = LABELS) -> str:
    def reserve() -> NoReturn:
        raise AssertionError("nothing may be published")

    with pytest.raises(Invalid) as caught:
        retrain(spec, labels, samples, folder=folder, reserve=reserve)
    assert not list(folder.iterdir()), "no work was done on data that cannot be used"
    assert "cannot be trained on" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("task", tasks.names())
def test_zero_rows(task: str, tmp_path: Path) -> None:
    assert "0 samples given, 0 kept" in _refused(_spec(task), [], tmp_path)


@pytest.mark.parametrize("task", tasks.names())
def test_corrupt_samples(task: str, tmp_path: Path) -> None:
    samples = [sample(b"\xff\x00 broken %d" % i, LABELS[i % 2], name=f"f{i}") for i in range(COUNT)]
    said = _refused(_spec(task), samples, tmp_path)
    assert f"{COUNT} left out: not a readable" in said
    assert "f0, f1, f2" in said


def _content(kind: SampleKind, i: int) -> bytes:
    draw = np.random.default_rng(i)
    if kind is SampleKind.IMAGE:
        return noise(i)
    if kind is SampleKind.WINDOW:
        return encode_window(Window(channels=("x", "y"), values=draw.normal(size=(64, 2)).astype(np.float32)))
    if kind is SampleKind.ROW:
        return encode_row({"x": float(draw.normal()), "user": f"u{i % 9}", "item": f"i{i % 7}"})
    return f"some words {i}".encode()


CLASSIFIERS = [name for name in tasks.names() if name.endswith("-classification")]


@pytest.mark.parametrize("task", CLASSIFIERS)
def test_one_class_only(task: str, tmp_path: Path) -> None:
    samples = [sample(_content(tasks.find(task).kind, i), "a", source=f"s{i}") for i in range(COUNT)]
    assert "a classifier needs two classes or more" in _refused(_spec(task), samples, tmp_path)


@pytest.mark.parametrize("task", CLASSIFIERS)
def test_labels_that_the_data_set_does_not_have(task: str, tmp_path: Path) -> None:
    samples = [sample(_content(tasks.find(task).kind, i), "zebra", source=f"s{i}") for i in range(COUNT)]
    assert f"{COUNT} left out: label 'zebra' is not in the data set" in _refused(_spec(task), samples, tmp_path)


@pytest.mark.parametrize("task", [name for name in tasks.names() if tasks.find(name).annotation is tasks.Annotation.VALUES])
def test_labels_that_are_no_numbers(task: str, tmp_path: Path) -> None:
    samples = [sample(_content(tasks.find(task).kind, i), "many", source=f"s{i}") for i in range(COUNT)]
    said = _refused(_spec(task), samples, tmp_path)
    assert f"{COUNT} samples given, 0 kept" in said


def test_a_column_that_is_always_missing_is_left_out_and_said() -> None:
    draw = np.random.default_rng(0)
    samples = [
        sample(json.dumps({"x": float(draw.normal()), "y": None}).encode(), LABELS[i % 2], source=f"s{i}") for i in range(COUNT)
    ]
    splits = make(_spec("tabular-classification")).load(LABELS, samples)
    assert any("always missing" in note and "y" in note for note in splits.report.notes)
    assert np.isfinite(splits.train.inputs).all()


def test_columns_that_are_no_numbers_are_no_rows(tmp_path: Path) -> None:
    samples = [sample(b'{"x": NaN, "n": %d}' % i, LABELS[i % 2], source=f"s{i}") for i in range(COUNT)]
    assert "not a readable row" in _refused(_spec("tabular-classification"), samples, tmp_path)


def test_a_channel_that_never_reads_anything_poisons_no_network() -> None:
    samples = []
    for i in range(COUNT):
        values = np.random.default_rng(i).normal(size=(64, 2)).astype(np.float32)
        values[:, 1] = np.nan
        samples.append(sample(encode_window(Window(channels=("x", "y"), values=values)), LABELS[i % 2], source=f"s{i}"))
    splits = make(_spec("window-classification")).load(LABELS, samples)
    assert np.isfinite(splits.train.inputs).all()


def test_more_than_fits_into_memory_is_held_to_the_bound_and_said() -> None:
    def endless() -> Iterator[RawSample]:
        for i in range(400):
            yield sample(noise(i, side=96), LABELS[i % 2], name=f"{i}.png")

    each = 96 * 96 * 3
    tracemalloc.start()
    items, report = clean(endless(), decoder(96, 96, 3), LABELS, limit=10_000, limit_bytes=100 * each)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [len(items), report.given, report.kept] == [100, 400, 100]
    assert any("300 left out: more than data.max_bytes" in line for line in report.lines())
    assert peak < 200 * each, "what is left out is let go of"
