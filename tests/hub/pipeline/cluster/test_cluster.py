"""A real Ray cluster of two workers on this machine, beside what one process does with the same job."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud_hub.core.spec import TrainingSpec, parse
from cloud_hub.pipeline import learn
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.progress import Stages
from cloud_hub.pipeline.task import Task, predict
from cloud_hub.pipeline.train import unheard
from cloud_hub.pipeline.tune import Tuned
from tests.hub.pipeline.parts import LABELS, SMALL_SPEC, digits
from tests.hub.pipeline.test_tune import Memory

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


def loaded() -> tuple[Task, Splits]:
    task = tasks.make(spec())
    return task, task.load(LABELS, digits(600))


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
    alone, _ = taught(*loaded(), here, learn.alone)
    task, splits = loaded()
    together, lines = taught(task, splits, there, by_cluster(2, there, None, ""))
    assert len(lines) == task.spec.teacher.epochs and "epoch 1/" in lines[0]
    assert together > 0.8 and abs(together - alone) < 0.08, (together, alone)
    again, more = taught(task, splits, there, by_cluster(2, there, None, ""))
    assert (again, more) == (together, []), "what was trained is not trained again"


def test_what_stops_the_job_stops_its_workers_and_nothing_that_was_learned_is_lost(tmp_path: Path) -> None:
    from cloud_hub.pipeline.cluster.fit import by_cluster

    class Enough(Exception):
        pass

    def stop(fraction: float, line: str) -> None:
        if "epoch 2/" in line:
            raise Enough

    task, splits = loaded()
    fit = by_cluster(2, tmp_path, None, "")
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


def test_trials_run_side_by_side_and_those_of_a_killed_job_are_not_made_again(tmp_path: Path) -> None:
    from cloud_hub.pipeline.cluster.tune import tune

    class Killed(BaseException):
        pass

    def look(most: int) -> tuple[list[str], Tuned | None]:
        lines: list[str] = []

        def tell(stage: str, fraction: float, line: str, step: object = None) -> None:
            lines.append(line)
            if len(lines) == most:
                raise Killed

        stages = Stages(tell)
        with contextlib.suppress(Killed), stages.stage("student"):
            return lines, tune(*loaded(), stages, memory.journal(), folder=tmp_path, workers=2, address="")
        return lines, None

    memory = Memory()
    first, nothing = look(2)
    second, found = look(100)
    assert nothing is None and found is not None
    assert len(first) + len(second) == len(found.table) == 4, "what was over is kept, what was lost is made again"
    values = [row["accuracy"] for row in found.table if row["accuracy"] is not None]
    assert values == sorted(values, reverse=True) and np.isfinite(values).all()
    assert found.spec.train.lr == pytest.approx(found.table[0]["train.lr"])
    assert {3e-3} <= {row["train.lr"] for row in found.table}, "what the specification says is tried first"
    assert look(1)[1] == found, "a search that is over trains nothing"


def test_files_come_piece_by_piece_where_a_worker_sees_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cloud_hub.pipeline.cluster import files

    monkeypatch.setattr(files, "PIECE", 1000)
    here = tmp_path / "here"
    (here / "within").mkdir(parents=True)
    contents = {"within/large": bytes(range(250)) * 10, "within/exact": b"x" * 2000, "empty": b""}
    for name, content in contents.items():
        (here / name).write_bytes(content)
    with files.offered(here, {name: here / name for name in contents}) as offer:
        assert offer.take(tmp_path / "near") is True
        assert (tmp_path / "near" / "within/large").is_symlink()
        for number in range(2):  # a worker that is replaced asks again
            far = tmp_path / f"far-{number}"
            assert replace(offer, folder="/nowhere").take(far) is False
            assert {name: (far / name).read_bytes() for name in contents} == contents
        (here / "mark").write_text("of another job")
        assert offer.take(tmp_path / "other") is False, "a folder of the same name is not ours"


def test_no_process_of_the_cluster_tells_what_it_is_used_for() -> None:
    import ray

    wanted = {"RAY_USAGE_STATS_ENABLED": "0", "ORT_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
    found = {name: _environment(pid) for pid, name in _descendants(os.getpid()).items()}
    assert {"gcs_server", "raylet"} <= found.keys()
    for name, environment in found.items():
        if not name.startswith("ray::"):  # those name themselves anew, over a part of what they were started with
            assert wanted.items() <= environment.items(), name
    of_worker = ray.get(ray.remote(lambda: dict(os.environ)).remote())
    assert wanted.items() <= of_worker.items()


def _descendants(pid: int) -> dict[int, str]:
    """Their names, by number."""
    parents, names = {}, {}
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (each / "stat").read_text()
                parents[int(each.name)] = int(stat.rpartition(")")[2].split()[1])
                names[int(each.name)] = stat.partition("(")[2].rpartition(")")[0]
    found = {pid}
    while more := {each for each, parent in parents.items() if parent in found} - found:
        found |= more
    return {each: names[each] for each in found - {pid}}


def _environment(pid: int) -> dict[str, str]:
    try:
        content = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return dict(each.partition("=")[::2] for each in content.split("\0") if "=" in each)
