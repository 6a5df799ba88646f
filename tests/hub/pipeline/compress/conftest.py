"""A student of digits and its files; every test of this package looks at the same ones."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from torch import nn

from cloud_hub.pipeline import export, train
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.checkpoint import Checkpoint
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.export import Artifact
from cloud_hub.pipeline.task import Task
from tests.hub.pipeline.parts import LABELS, digits, small_spec

EXTRA = """
preprocess: {width: 16, height: 16}
compress: {search: small, prune: [0.3, 0.6], finetune_epochs: 3}
"""


def silent(fraction: float, line: str) -> None:
    """A Tell nobody listens to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    task: Task
    splits: Splits
    network: nn.Module
    files: dict[str, Artifact]  # by target


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Student]:
    folder = tmp_path_factory.mktemp("student")
    task = tasks.make(small_spec(EXTRA))
    splits = task.load(LABELS, digits(900))
    network = task.network(task.spec.student, splits)
    checkpoint = Checkpoint(folder / "student.safetensors", "student")
    train.fit(task, network, splits, epochs=8, loss=task.loss(splits), checkpoint=checkpoint, tell=silent)
    files = export.export(network, splits, task.spec.targets, folder, silent)
    yield Student(task=task, splits=splits, network=network, files={file.target: file for file in files})
