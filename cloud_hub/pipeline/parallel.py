"""One network trained by several processes of this machine, started by torchrun: ``python -m cloud_hub.pipeline.parallel``.

The job's own process writes what it trains on into the job's folder and starts them. Each builds the same lesson and works on
its share of every batch; the first one validates, keeps the checkpoint and tells. When they are done the job's process takes
the weights from the checkpoint. torchrun starts them again after a crash: they go on after the last whole epoch.
"""

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed
from torch.distributed import run as torchrun

from cloud_hub.core.errors import Invalid, NotReady
from cloud_hub.core.spec import TrainingSpec
from cloud_hub.pipeline import handover, learn
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.gate import Champion
from cloud_hub.pipeline.group import Group
from cloud_hub.pipeline.learn import STUDENT, Fit, Lesson
from cloud_hub.pipeline.progress import STEP_S, Step
from cloud_hub.pipeline.task import Task
from cloud_hub.pipeline.train import Fitted, Tell
from cloud_hub.pipeline.train import unheard as unheard

RESTARTS = 3  # one kill can take two of them
_TIMEOUT = timedelta(minutes=10)  # for a process that no longer answers
_PR_SET_PDEATHSIG = 1  # prctl(2)
_MODULE = "cloud_hub.pipeline.parallel"


class Failed(NotReady):
    """The processes ended without a result, again and again; the message is the end of what they wrote."""


# -- the job's process ----------------------------------------------------------------------------------------------------


def by_processes(count: int, folder: Path, champion: Champion | None) -> Fit:
    """Lessons given by ``count`` processes.

    The lessons' functions raise Failed, Invalid as the loop itself does, and whatever ``tell`` raises.
    """

    def fit(lesson: Lesson, splits: Splits, tell: Tell, step: Step) -> Fitted:
        if 0 < torch.cuda.device_count() < count:
            raise Invalid(
                f"'train.processes' is {count}, and this machine has {torch.cuda.device_count()} GPUs: one process each"
            )
        lay_out(lesson, splits, folder, champion)
        _run(count, folder, lesson.name, tell, step)
        return lesson.fit(splits, tell, step)  # nothing is left to do but to take the weights

    return fit


def lay_out(lesson: Lesson, splits: Splits, folder: Path, champion: Champion | None) -> None:
    """Everything from which another process makes the lesson again, with ``lesson``."""
    handover.lay_out(lesson.task.under(_own(lesson)), splits, folder, champion)


def _own(lesson: Lesson) -> TrainingSpec:
    """The job's spec: a lesson's may have another seed."""
    number = int(lesson.name.rpartition("-")[2]) if lesson.name != STUDENT else 0
    spec = lesson.task.spec
    return replace(spec, train=replace(spec.train, seed=spec.train.seed - 1000 * number))


def _run(count: int, folder: Path, name: str, tell: Tell, step: Step) -> None:
    log = handover.work(folder) / f"{name}.log"
    threads = max(1, torch.get_num_threads() // count)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", _MODULE, "--launch", str(count), str(folder.resolve()), name]
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True, start_new_session=True
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                _heard(line, tell, step)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # what they have done is in the checkpoint
            raise
    if process.returncode != 0:
        lines = log.read_text(errors="replace").splitlines()
        wrong = [each for each in lines if "Error" in each] or lines
        raise Failed(f"{name}: {count} processes failed {RESTARTS + 1} times: {' / '.join(wrong[-3:])[-500:]}")


def _heard(line: str, tell: Tell, step: Step) -> None:
    try:
        said = json.loads(line)
    except ValueError:
        return  # somebody's warning
    if "invalid" in said:
        raise Invalid(said["invalid"])
    if "step" in said:
        loss = float(said.pop("loss"))
        step(**said, loss=lambda: loss)
    elif "line" in said:
        tell(said["fraction"], said["line"])


# -- each of the processes ------------------------------------------------------------------------------------------------


def _give(folder: Path, name: str) -> None:
    """One process's part of a lesson."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=_TIMEOUT)
    group = Group(rank=distributed.get_rank(), world=distributed.get_world_size())
    try:
        given, splits = lesson(folder, name)
        given.fit(splits, _tell if group.leads else silent, seldom(_say, STEP_S / 2) if group.leads else unheard, group)
    except Invalid as error:
        _say(invalid=str(error))
        raise
    finally:
        distributed.destroy_process_group()


def lesson(folder: Path, name: str) -> tuple[Lesson, Splits]:
    """The lesson that the job's process has laid out, made again."""
    task, splits, champion = handover.taken(folder)
    if champion is not None and learn.goes_on(task, champion):
        return learn.further(task, splits, folder, champion), splits
    return _from_chance(task, splits, folder, name), splits


def _from_chance(task: Task, splits: Splits, folder: Path, name: str) -> Lesson:
    teachers = learn.teachers(task, splits, folder)
    if name != STUDENT:
        return next(each for each in teachers if each.name == name)
    for each in teachers:
        if not each.checkpoint.take_best(each.network):
            raise Invalid(f"{each.name} has left no weights")
    return learn.student(task, splits, folder, learn.heard([each.network for each in teachers]))


def _say(**values: object) -> None:
    print(json.dumps(values), flush=True)  # noqa: T201  # to the job's process


def _tell(fraction: float, line: str) -> None:
    _say(fraction=fraction, line=line)


def silent(fraction: float, line: str) -> None:
    """A Tell nobody listens to."""


def seldom(say: Callable[..., None], every_s: float) -> Step:
    """A Step that passes on what it is told, by name, at most once in ``every_s``."""
    last = [float("-inf")]

    def told(*, epoch: int, epochs: int, step: int, steps: int, loss: Callable[[], float]) -> None:
        now = time.monotonic()
        if now - last[0] >= every_s:
            last[0] = now
            say(epoch=epoch, epochs=epochs, step=step, steps=steps, loss=loss())

    return told


def _die_with_parent() -> None:
    """Nobody waits for what an orphan computes."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(prog=_MODULE, description=__doc__)
    parser.add_argument("--launch", type=int, default=0, help="processes to start; 0: be one of them")
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    arguments = parser.parse_args()
    _die_with_parent()
    if not arguments.launch:
        return _give(arguments.folder, arguments.name)
    options = ["--standalone", f"--nproc-per-node={arguments.launch}", f"--max-restarts={RESTARTS}"]
    torchrun.main([*options, "-m", _MODULE, str(arguments.folder), arguments.name])
    return None


if __name__ == "__main__":
    main()
