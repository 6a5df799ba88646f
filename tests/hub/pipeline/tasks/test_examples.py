"""The specifications that the table of tasks is made with."""

from pathlib import Path

import pytest

from cloud_hub.core import tasks
from cloud_hub.core.spec import parse
from scripts.datasets import SPECS, Example, examples


def test_every_task_has_an_example() -> None:
    assert {each.spec().task for each in examples()} >= set(tasks.names()) - {"image-classification"}


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.yaml")), ids=lambda each: each.stem)
def test_every_specification_can_be_read(path: Path) -> None:
    assert parse(path.read_text(encoding="utf-8")).name == path.stem


@pytest.mark.parametrize("example", examples(), ids=lambda each: each.name)
def test_it_can_be_trained_in_earnest_and_in_a_hurry(example: Example) -> None:
    spec, quick = example.spec(), example.spec(quick=True)
    assert spec.name == example.name and quick.task == spec.task
    assert quick.student.epochs <= spec.student.epochs
