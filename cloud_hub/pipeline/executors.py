"""Where a job's networks are trained: in its own process, in several on this machine, or by a Ray cluster."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import TrainingSpec
from cloud_hub.pipeline import learn, parallel
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.gate import Champion
from cloud_hub.pipeline.journal import Journal
from cloud_hub.pipeline.progress import Stages
from cloud_hub.pipeline.task import Task
from cloud_hub.pipeline.tune import Tuned, tune


@dataclass(frozen=True, slots=True, kw_only=True)
class Executor:
    fit: learn.Fit
    tune: Callable[[Task, Splits, Stages], Tuned]


def of(
    spec: TrainingSpec,
    folder: Path,
    champion: Champion | None,
    *,
    journal: Journal | None = None,
    ray_address: str = "",
) -> Executor:
    """As the specification says. Raises Invalid where the extra that it takes is not installed."""
    if spec.resources.executor == "ray":
        return _ray(spec.resources.workers, folder, champion, journal, ray_address)
    processes = max(spec.train.processes, spec.resources.gpus or 1)  # a GPU takes a process
    fit = learn.alone if processes == 1 else parallel.by_processes(processes, folder, champion)
    return Executor(fit=fit, tune=partial(tune, journal=journal))


def _ray(workers: int, folder: Path, champion: Champion | None, journal: Journal | None, address: str) -> Executor:
    if find_spec("ray") is None:
        raise Invalid("training spec: 'resources.executor' is ray, which is not installed here: pip install 'tideline[ray]'")
    # Imported where it is needed: it takes seconds, and most hubs do without.
    from cloud_hub.pipeline.cluster import fit, tune  # noqa: PLC0415

    settings = partial(tune.tune, folder=folder, journal=journal, workers=workers, address=address)
    return Executor(fit=fit.by_cluster(workers, folder, champion, address), tune=settings)
