"""One network by two processes, as torchrun starts them."""

import os
from pathlib import Path

import pytest

from cloud_hub.pipeline import learn, parallel
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.checkpoint import metadata
from cloud_hub.pipeline.progress import Cancelled
from tests.e2e.system import wait_for
from tests.hub.pipeline.parts import LABELS, digits
from tests.hub.pipeline.test_train import spec_with

pytestmark = pytest.mark.timeout(240)


def test_two_processes_train_what_one_would_and_a_cancelled_job_leaves_none_behind(tmp_path: Path) -> None:
    task = tasks.make(spec_with("processes: 2, batch_size: 32"))
    splits = task.load(LABELS, digits(260))
    fit = parallel.by_processes(2, tmp_path, None)
    lesson = learn.teachers(task, splits, tmp_path)[0]
    told: list[str] = []
    counted: list[int] = []

    def tell(fraction: float, line: str) -> None:
        told.append(line)
        if len(told) == 2:
            raise Cancelled("stop")

    def step(*, epoch: int, epochs: int, step: int, steps: int, loss: object) -> None:
        assert (epoch, epochs) in ((1, 6), (2, 6)) and 1 <= step <= steps
        counted.append(step)

    with pytest.raises(Cancelled):
        fit(lesson, splits, tell, step)
    assert told[0].startswith("epoch 1/6") and told[1].startswith("epoch 2/6") and counted
    assert metadata((tmp_path / "teacher-0.safetensors").read_bytes())
    wait_for(lambda: not _alive(str(tmp_path)), "the end of every process: the kernel ends them one after the other", 10.0)
    made, again = parallel.lesson(tmp_path, "teacher-0")
    assert made.epochs == lesson.epochs and again.fingerprint == splits.fingerprint
    done = learn.alone(made, again, lambda fraction, line: None, parallel.unheard)  # goes on after their second epoch
    assert done.epochs == 6
    assert [round(each["value"], 6) for each in done.history[:2]] == [_value(line) for line in told]


def _value(line: str) -> object:
    return pytest.approx(float(line.split("accuracy ")[1].split(" ")[0]), abs=5e-4)


def _alive(word: str) -> list[str]:
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                command = (process / "cmdline").read_bytes().decode(errors="replace")
                state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if word in command and state != "Z":
                found.append(command)
    return found
