"""One network trained by several processes of this machine, started by torchrun: ``python -m cloud_hub.pipeline.parallel``.

The job's own process writes what it trains on into the job's folder and starts them. Each builds the same lesson and works on
its share of every batch; the first one validates, keeps the checkpoint and tells. When they are done the job's process takes
the weights from the checkpoint. torchrun starts them again after a crash: they go on after the last whole epoch.
"""

import argparse
import ctypes
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from torch import distributed
from torch.distributed import run as torchrun

from cloud_hub.core import spec as specs
from cloud_hub.core.errors import Invalid, NotReady
from cloud_hub.core.spec import TrainingSpec
from cloud_hub.pipeline import finetune, learn
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.clean import RawSample
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.gate import Champion
from cloud_hub.pipeline.group import Group
from cloud_hub.pipeline.learn import STUDENT, Fit, Lesson
from cloud_hub.pipeline.progress import STEP_S, Step
from cloud_hub.pipeline.task import Task
from cloud_hub.pipeline.train import Fitted, Tell
from cloud_hub.pipeline.train import unheard as unheard
from protos.contract import codec

RESTARTS = 3  # one kill can take two of them
_TIMEOUT = timedelta(minutes=10)  # for a process that no longer answers
_PR_SET_PDEATHSIG = 1  # prctl(2)
_MODULE = "cloud_hub.pipeline.parallel"


class Failed(NotReady):
    """The processes ended without a result, again and again; the message is the end of what they wrote."""


# -- the job's process ----------------------------------------------------------------------------------------------------


def packed(samples: Iterable[RawSample], folder: Path) -> Iterator[RawSample]:
    """The same samples, each written to the folder on its way."""
    with (work(folder) / "samples").open("wb") as file:
        for sample in samples:
            about = {name: value for name, value in asdict(sample).items() if name != "content"}
            head = json.dumps(about).encode()
            file.write(len(head).to_bytes(4, "big") + len(sample.content).to_bytes(8, "big") + head + sample.content)
            yield sample


def by_processes(count: int, folder: Path, labels: tuple[str, ...], champion: Champion | None) -> Fit:
    """Lessons given by ``count`` processes. The samples must have gone through ``packed``; ``labels``: the data set's.

    The lessons' functions raise Failed, Invalid as the loop itself does, and whatever ``tell`` raises.
    """

    def fit(lesson: Lesson, splits: Splits, tell: Tell, step: Step) -> Fitted:
        if 0 < torch.cuda.device_count() < count:
            raise Invalid(
                f"'train.processes' is {count}, and this machine has {torch.cuda.device_count()} GPUs: one process each"
            )
        lay_out(lesson, splits, folder, labels, champion)
        _run(count, folder, lesson.name, tell, step)
        return lesson.fit(splits, tell, step)  # nothing is left to do but to take the weights

    return fit


def lay_out(lesson: Lesson, splits: Splits, folder: Path, labels: tuple[str, ...], champion: Champion | None) -> None:
    """Everything from which another process makes the lesson again, as files of ``work(folder)``."""
    lay_out_data(_own(lesson), splits, folder, labels, champion)


def lay_out_data(
    spec: TrainingSpec, splits: Splits, folder: Path, labels: tuple[str, ...], champion: Champion | None = None
) -> None:
    """The job's data as it stands, beside the samples that went through ``packed``."""
    place = work(folder)
    (place / "spec.yaml").write_text(specs.dump(spec))
    about = {
        "labels": list(labels),
        "fingerprint": splits.fingerprint,
        "validation": _print(splits.val),
        "champion": _keep(champion, place),
    }
    (place / "about.json").write_text(json.dumps(about))
    np.save(place / "inputs.npy", splits.train.inputs, allow_pickle=False)
    np.save(place / "targets.npy", splits.train.targets, allow_pickle=False)


def _print(split: Split) -> str:
    return hashlib.sha256(np.ascontiguousarray(split.targets).tobytes()).hexdigest()


def _own(lesson: Lesson) -> TrainingSpec:
    """The job's spec: a lesson's may have another seed."""
    number = int(lesson.name.rpartition("-")[2]) if lesson.name != STUDENT else 0
    spec = lesson.task.spec
    return replace(spec, train=replace(spec.train, seed=spec.train.seed - 1000 * number))


def _keep(champion: Champion | None, place: Path) -> dict[str, object] | None:
    if champion is None:
        return None
    (place / "weights.safetensors").write_bytes(champion.weights)
    (place / "manifest").write_bytes(codec.encode_manifest(champion.manifest))
    return {"version": champion.version, "target": champion.target}


def _run(count: int, folder: Path, name: str, tell: Tell, step: Step) -> None:
    log = work(folder) / f"{name}.log"
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


def work(folder: Path) -> Path:
    """Where a job keeps what its processes need."""
    place = folder / "processes"
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    return place


# -- each of the processes ------------------------------------------------------------------------------------------------


def unpacked(folder: Path) -> Iterator[RawSample]:
    """What ``packed`` has written."""
    with (work(folder) / "samples").open("rb") as file:
        while lengths := file.read(12):
            head = json.loads(file.read(int.from_bytes(lengths[:4], "big")))
            yield RawSample(**head, content=file.read(int.from_bytes(lengths[4:], "big")))


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
    """The lesson that the job's process has laid out, made again. Raises Invalid where the data is not the same."""
    task, splits = task_and_data(folder)
    champion = _champion(work(folder))
    if champion is not None and learn.goes_on(task, champion):
        return learn.further(task, splits, folder, champion), splits
    return _from_chance(task, splits, folder, name), splits


def task_and_data(folder: Path) -> tuple[Task, Splits]:
    """What ``lay_out_data`` has written. Raises Invalid where it does not come out the same."""
    place = work(folder)
    about = json.loads((place / "about.json").read_text())
    task = tasks.make(specs.parse((place / "spec.yaml").read_text()))
    splits = task.load(tuple(about["labels"]), unpacked(folder))
    if _print(splits.val) != about["validation"]:
        raise Invalid("a process that trains sees other data than its job: a task's 'load' must depend on its samples alone")
    champion = _champion(place)
    if champion is not None and learn.goes_on(task, champion):
        splits = finetune.with_input_of(champion, splits)
    # what the job has made of the training split since: labels of a teacher, say
    inputs, targets = (np.load(place / f"{part}.npy", mmap_mode="c", allow_pickle=False) for part in ("inputs", "targets"))
    train = Split(contents=(), inputs=np.asarray(inputs), targets=np.asarray(targets), groups=("",) * len(targets))
    return task, replace(splits, train=train, fingerprint=about["fingerprint"])


def _from_chance(task: Task, splits: Splits, folder: Path, name: str) -> Lesson:
    teachers = learn.teachers(task, splits, folder)
    if name != STUDENT:
        return next(each for each in teachers if each.name == name)
    for each in teachers:
        if not each.checkpoint.take_best(each.network):
            raise Invalid(f"{each.name} has left no weights")
    return learn.student(task, splits, folder, learn.heard([each.network for each in teachers]))


def _champion(place: Path) -> Champion | None:
    about = json.loads((place / "about.json").read_text())["champion"]
    if about is None:
        return None
    manifest = codec.decode_manifest((place / "manifest").read_bytes())
    return Champion(**about, manifest=manifest, model=b"", weights=(place / "weights.safetensors").read_bytes())


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
