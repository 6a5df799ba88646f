"""One network trained by workers of a Ray cluster, which need share no disk with the job: the same loop as on one machine.

Each worker takes the files that the lesson is made of, and makes it again; the first one brings what it has to say, and after
each epoch its checkpoint, to a desk, an actor beside the job. A worker that is lost is replaced by Ray, and all go on after the
last whole epoch.
"""

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from torch import distributed

from cloud_hub.core.errors import Invalid
from cloud_hub.pipeline import handover, parallel, train
from cloud_hub.pipeline.cluster.files import Offer, offered, room
from cloud_hub.pipeline.cluster.session import cluster
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.gate import Champion
from cloud_hub.pipeline.group import Group
from cloud_hub.pipeline.learn import Fit, Lesson
from cloud_hub.pipeline.progress import STEP_S, Step
from cloud_hub.pipeline.train import Fitted, Tell
from edge_agent.core.files import write_atomic

RETRIES = 3  # of all workers together, after one was lost
_LOOK_S = 0.3

Said = tuple[str, dict[str, Any]]  # "line", "step" or "invalid", with its values


class Desk:
    """Between the job and its workers. An actor: one call at a time."""

    def __init__(self) -> None:
        self._said: list[Said] = []
        self._checkpoint = b""

    def checkpoint(self) -> bytes:
        """The newest; empty: the one among the files."""
        return self._checkpoint

    def say(self, kind: str, values: dict[str, Any], checkpoint: bytes = b"") -> None:
        self._said.append((kind, values))
        self._checkpoint = checkpoint or self._checkpoint

    def hear(self, start: int) -> tuple[list[Said], bytes]:
        """What was said from that on, and the newest checkpoint."""
        return self._said[start:], self._checkpoint


def by_cluster(workers: int, folder: Path, champion: Champion | None, address: str) -> Fit:
    """Lessons given by ``workers`` of the cluster at ``address``; "": one of our own, on this machine.

    The lessons' functions raise ``parallel.Failed``, Unavailable, Invalid as the loop itself does, and what ``tell`` raises.
    """

    def fit(lesson: Lesson, splits: Splits, tell: Tell, step: Step) -> Fitted:
        parallel.lay_out(lesson, splits, folder, champion)
        with cluster(address, workers + 1), offered(folder, handover.files(folder)) as offer:
            _run(workers, folder, offer, lesson, tell, step)
        return lesson.fit(splits, tell, step)  # nothing is left to do but to take the weights

    return fit


def _run(workers: int, folder: Path, offer: Offer, lesson: Lesson, tell: Tell, step: Step) -> None:
    desk: Any = ray.remote(num_cpus=0)(Desk).remote()
    gpus = ray.cluster_resources().get("GPU", 0) >= workers
    trainer = TorchTrainer(
        _work,
        train_loop_config={"desk": desk, "offer": offer, "name": lesson.name},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus),
        run_config=RunConfig(storage_path=str((folder / "ray").resolve()), failure_config=FailureConfig(max_failures=RETRIES)),
    )
    ended: list[BaseException | None] = []
    thread = threading.Thread(target=lambda: ended.append(_outcome(trainer.fit)), name="ray-train", daemon=True)
    thread.start()
    heard = 0
    while True:
        over = not thread.is_alive()
        said, checkpoint = ray.get(desk.hear.remote(heard))
        if checkpoint:
            write_atomic(_checkpoint_path(folder, lesson.name), checkpoint)
        heard += len(said)
        for kind, values in said:
            _heard(kind, values, tell, step)
        if over:
            break
        thread.join(_LOOK_S)
    if ended and (error := ended[0]) is not None:
        raise parallel.Failed(f"{lesson.name}: {workers} workers failed {RETRIES + 1} times: {_end(error)}") from error


def _outcome(call: Callable[[], object]) -> BaseException | None:
    try:
        call()
    except Exception as error:  # noqa: BLE001  # whatever it is, it is told by the thread that waits
        return error
    return None


def _end(error: BaseException) -> str:
    """Its last line: before it Ray writes the worker's whole stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][-500:] if lines else type(error).__name__


def _heard(kind: str, values: dict[str, Any], tell: Tell, step: Step) -> None:
    match kind:
        case "invalid":
            raise Invalid(values["reason"])
        case "line":
            tell(values["fraction"], values["line"])
        case "step":
            loss = values.pop("loss")
            step(**values, loss=lambda: loss)


def _checkpoint_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


# -- a worker -------------------------------------------------------------------------------------------------------------


def _work(config: dict[str, Any]) -> None:
    desk, name = config["desk"], config["name"]
    with room() as folder:
        config["offer"].take(folder)
        if newest := ray.get(desk.checkpoint.remote()):
            write_atomic(_checkpoint_path(folder, name), newest)
        group = Group(rank=distributed.get_rank(), world=distributed.get_world_size())
        torch.set_num_threads(max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))))
        try:
            lesson, splits = parallel.lesson(folder, name)
            if group.leads:
                lesson.fit(
                    splits,
                    _tell(desk, _checkpoint_path(folder, name)),
                    parallel.seldom(lambda **values: desk.say.remote("step", values), STEP_S),
                    group,
                )
            else:
                lesson.fit(splits, parallel.silent, train.unheard, group)
        except Invalid as error:
            ray.get(desk.say.remote("invalid", {"reason": str(error)}))


def _tell(desk: Any, checkpoint: Path) -> Tell:
    """With the checkpoint that was saved just before."""

    def tell(fraction: float, line: str) -> None:
        content = b""
        with contextlib.suppress(FileNotFoundError):
            content = checkpoint.read_bytes()
        ray.get(desk.say.remote("line", {"fraction": fraction, "line": line}, content))

    return tell
