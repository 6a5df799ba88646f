"""A real Ray cluster of two workers on this machine, beside what one process does with the same job."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cloud_hub.core.spec import TrainingSpec, parse
from cloud_hub.pipeline import learn, parallel
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.progress import Stages
from cloud_hub.pipeline.task import Task, predict
from cloud_hub.pipeline.train import unheard
from tests.hub.pipeline.parts import LABELS, SMALL_SPEC, digits

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SPEC = (
    SMALL_SPEC
    + """
tuning:
  trials: 4
  epochs: 2
  space:
    train.lr: {low: 1.0e-4, high: 1.0e-2, log: true}
    student.width: {choices: [4, 8]}
"""
)


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    """Started once: it takes seconds."""
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    from cloud_hub.pipeline.cluster.session import cluster

    with cluster("", 3):
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        yield


def spec() -> TrainingSpec:
    return parse(SPEC)


def loaded(folder: Path) -> tuple[Task, Splits]:
    task = tasks.make(spec())
    return task, task.load(LABELS, parallel.packed(digits(600), folder))


def taught(task: Task, splits: Splits, folder: Path, fit: learn.Fit) -> tuple[float, list[str]]:
    """Accuracy of a teacher on the test split, and what was told."""
    lines: list[str] = []
    (lesson,) = learn.teachers(task, splits, folder)
    fit(lesson, splits, lambda fraction, line: lines.append(line), unheard)
    outputs = predict(lesson.network, task.feeder(splits), splits.test.inputs)
    return task.value(outputs, splits.test, splits), lines


def test_two_workers_train_as_well_as_one_process(tmp_path: Path) -> None:
    from cloud_hub.pipeline.cluster.fit import by_cluster

    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    alone, _ = taught(*loaded(here), here, learn.alone)
    task, splits = loaded(there)
    together, lines = taught(task, splits, there, by_cluster(2, there, LABELS, None, ""))
    assert len(lines) == task.spec.teacher.epochs and "epoch 1/" in lines[0]
    assert together > 0.8 and abs(together - alone) < 0.08, (together, alone)
    again, more = taught(task, splits, there, by_cluster(2, there, LABELS, None, ""))
    assert (again, more) == (together, []), "what was trained is not trained again"


def test_what_stops_the_job_stops_its_workers_and_nothing_that_was_learned_is_lost(tmp_path: Path) -> None:
    from cloud_hub.pipeline.cluster.fit import by_cluster

    class Enough(Exception):
        pass

    def stop(fraction: float, line: str) -> None:
        if "epoch 2/" in line:
            raise Enough

    task, splits = loaded(tmp_path)
    fit = by_cluster(2, tmp_path, LABELS, None, "")
    (lesson,) = learn.teachers(task, splits, tmp_path)
    with pytest.raises(Enough):
        fit(lesson, splits, stop, unheard)
    lines: list[str] = []
    (lesson,) = learn.teachers(task, splits, tmp_path)
    fit(lesson, splits, lambda fraction, line: lines.append(line), unheard)
    assert len(lines) <= task.spec.teacher.epochs - 2


def test_a_user_reads_what_went_wrong_and_no_stack() -> None:
    from cloud_hub.pipeline.cluster.fit import _end

    assert (
        _end(RuntimeError("Traceback (most recent call last):\n  File 'a.py', line 1\nValueError: no room\n"))
        == "ValueError: no room"
    )


def test_trials_of_a_search_run_side_by_side(tmp_path: Path) -> None:
    from cloud_hub.pipeline.cluster.tune import tune

    task, splits = loaded(tmp_path)
    stages = Stages(lambda stage, fraction, line, step=None: None)
    with stages.stage("student"):
        found = tune(task, splits, stages, tmp_path, LABELS, workers=2, address="")
    values = [row["accuracy"] for row in found.table if row["accuracy"] is not None]
    assert len(found.table) == 4 and values == sorted(values, reverse=True)
    assert found.spec.train.lr == pytest.approx(found.table[0]["train.lr"])
    assert np.isfinite(values).all()
