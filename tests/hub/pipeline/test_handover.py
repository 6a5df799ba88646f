"""What a process that trains is given is what its job has, whatever the task; and it is mapped, not read."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import parse
from cloud_hub.pipeline import handover, train
from cloud_hub.pipeline.clean import RawSample
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.feed import Feed
from cloud_hub.pipeline.task import Task, make
from protos.contract.samples import Window, encode_row, encode_window
from tests.hub.pipeline.parts import LABELS, digits, sample

COUNT = 160
PAIR = ("a", "b")


def window(i: int, steps: int = 64) -> bytes:
    values = np.random.default_rng(i).normal(size=(steps, 2)).astype(np.float32)
    return encode_window(Window(channels=("x", "y"), values=values))


def row(i: int) -> bytes:
    draw = np.random.default_rng(i)
    return encode_row({"x": float(draw.normal()), "kind": f"k{i % 3}", "user": f"u{i % 9}", "item": f"i{i % 7}"})


def of(content: Callable[[int], bytes], labels: Sequence[str]) -> list[RawSample]:
    return [sample(content(i), labels[i % len(labels)], source=f"s{i}") for i in range(COUNT)]


TASKS: dict[str, tuple[str, tuple[str, ...], Callable[[], list[RawSample]]]] = {
    "image-classification": ("", LABELS, lambda: digits(COUNT)),
    "window-classification": ("", PAIR, lambda: of(window, PAIR)),
    "window-regression": ("", (), lambda: of(window, ("1.5", "2.5", "4"))),
    "tabular-classification": ("", PAIR, lambda: of(row, PAIR)),
    "text-classification": ("", PAIR, lambda: of(lambda i: f"some words {i}".encode(), PAIR)),
    "forecasting": (
        "preprocess: {lookback: 24, horizon: 4}",
        (),
        lambda: [sample(window(i, 400), "", source=f"s{i}", name=f"{i}") for i in range(8)],
    ),
}


def loaded(name: str) -> tuple[Task, Splits]:
    extra, labels, samples = TASKS[name]
    task = make(parse(f"name: x\ntask: {name}\ndata: {{dataset: d, min_samples: 100}}\n{extra}"))
    return task, task.load(labels, samples())


@pytest.mark.parametrize("name", TASKS)
def test_another_process_sees_the_same_task_and_data(name: str, tmp_path: Path) -> None:
    task, splits = loaded(name)
    handover.lay_out(task, splits, tmp_path)
    made, given, champion = handover.taken(tmp_path)
    assert champion is None and made.spec == task.spec
    for mine, theirs in ((splits.train, given.train), (splits.val, given.val)):
        np.testing.assert_array_equal(mine.inputs, theirs.inputs)
        np.testing.assert_array_equal(mine.targets, theirs.targets)
    assert (given.labels, given.fingerprint, repr(given.input)) == (splits.labels, splits.fingerprint, repr(splits.input))
    assert dict(given.facts) == dict(splits.facts)
    networks = [one.network(one.spec.student, its) for one, its in ((task, splits), (made, given))]
    assert all(torch.equal(a, b) for a, b in zip(*(each.state_dict().values() for each in networks), strict=True))
    outputs, loss = train.validate(networks[0], task.feeder(splits), task.loss(splits), splits.val)
    again, same = train.validate(networks[1], made.feeder(given), made.loss(given), given.val)
    np.testing.assert_array_equal(outputs, again)
    assert (loss, task.value(outputs, splits.val, splits)) == (same, made.value(again, given.val, given))


def test_training_data_stays_in_its_file(tmp_path: Path) -> None:
    """A set larger than the memory of a process that trains must not end it."""
    task, splits = loaded("image-classification")
    size = 24 << 20
    many = size // splits.train.inputs[0].nbytes
    train_split = replace(
        splits.train,
        contents=(),
        inputs=np.zeros((many, *splits.train.inputs.shape[1:]), np.uint8),
        targets=np.arange(many) % len(splits.labels),
        groups=(),
        origins=(),
    )
    handover.lay_out(task, replace(splits, train=train_split), tmp_path)
    del train_split
    _, given, _ = handover.taken(tmp_path)
    before = _own_memory()
    feed = Feed(given.train, task.feeder(given), torch.device("cpu"))
    order = feed.order(task.spec.train, 0)
    seen = sum(len(part.targets) for parts in feed.batches(task.spec.train, 0, order) for part in parts)
    assert seen >= many - task.spec.train.batch_size
    assert _own_memory() - before < size // 2


class Pair(NamedTuple):
    first: int
    second: int


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize("fact", [{1, 2}, Pair(1, 2), Colour.RED, np.array([Pair, None]), np.datetime64("2024-01-01")])
def test_a_fact_that_cannot_be_written_down_is_named(tmp_path: Path, fact: object) -> None:
    """And does not come to the other process as something else."""
    task, splits = loaded("image-classification")
    with pytest.raises(Invalid, match=f"fact 'mine' holds a {type(fact).__name__}"):
        handover.lay_out(task, replace(splits, facts={"mine": [fact]}), tmp_path)


def _own_memory() -> int:
    """Bytes of this process that lie in no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))
