"""The search for settings on a Ray cluster: many trials at once, the worse ones stopped (Ray Tune, with Optuna's sampler)."""

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune as ray_tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from cloud_hub.core import spec as specs
from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec_sections.tuning import Dimension
from cloud_hub.pipeline import networks, parallel, train
from cloud_hub.pipeline.checkpoint import State, Unkept
from cloud_hub.pipeline.cluster.session import cluster
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.progress import Stages
from cloud_hub.pipeline.task import Task
from cloud_hub.pipeline.tune import Tuned


def tune(
    task: Task, splits: Splits, stages: Stages, folder: Path, labels: tuple[str, ...], *, workers: int, address: str
) -> Tuned:
    """As ``tune.tune``. The samples must have gone through ``parallel.packed``. Raises Invalid, Unavailable."""
    tuning, metric = task.spec.tuning, task.metric
    parallel.lay_out_data(task.spec, splits, folder, labels)
    with cluster(address, workers + 1):
        bundle = ray.put({path.name: path.read_bytes() for path in parallel.work(folder).iterdir() if path.is_file()})
        tuner = ray_tune.Tuner(
            ray_tune.with_parameters(_trial, bundle=bundle, kept=parallel.work(folder).name),
            param_space={key: _space(each) for key, each in tuning.space.items()},
            tune_config=ray_tune.TuneConfig(
                metric=metric.name,
                mode="max" if metric.higher_is_better else "min",
                search_alg=OptunaSearch(seed=task.spec.train.seed),
                scheduler=_scheduler(tuning.pruner, tuning.epochs),
                num_samples=tuning.trials,
                max_concurrent_trials=workers,
                time_budget_s=tuning.minutes * 60,
            ),
            run_config=ray_tune.RunConfig(storage_path=str((folder / "ray").resolve()), verbose=0),
        )
        results = tuner.fit()
    table = [_row(metric.name, number, each) for number, each in enumerate(results, 1)]
    good = [row for row in table if row[metric.name] is not None]
    if not good:
        raise Invalid(f"tuning: not one of {len(table)} trials came to its end; look at tuning.space")
    ranked = sorted(good, key=lambda row: row[metric.name], reverse=metric.higher_is_better)
    stages.tell(1, f"{len(table)} trials on {workers} workers; best {metric.name} {ranked[0][metric.name]:.4f}")
    best = {key: ranked[0][key] for key in tuning.space}
    rest = [row for row in table if row[metric.name] is None]
    return Tuned(spec=specs.changed(task.spec, best), table=(*ranked, *rest))


class _Told(Unkept):
    """Tells Ray after each epoch; nothing is kept."""

    def __init__(self, metric: str, sign: int) -> None:
        super().__init__()
        self._metric, self._sign = metric, sign

    def judged(self, state: State, network: Any, value: float, loss: float, *, seconds: float) -> State:
        ray_tune.report({self._metric: self._sign * max(value, state.best_value), "epochs": state.epoch + 1})
        return super().judged(state, network, value, loss, seconds=seconds)


def _trial(settings: Mapping[str, Any], bundle: dict[str, bytes], kept: str) -> None:
    with tempfile.TemporaryDirectory(prefix="tideline-") as made:
        folder = Path(made)
        (folder / kept).mkdir()
        for name, content in bundle.items():
            (folder / kept / name).write_bytes(content)
        given, splits = parallel.task_and_data(folder)
        task = given.under(specs.changed(given.spec, settings))
        sign = 1 if task.metric.higher_is_better else -1
        network = task.network(task.spec.student, splits).to(networks.device())
        train.fit(
            task,
            network,
            splits,
            epochs=min(task.spec.tuning.epochs, task.spec.student.epochs),
            loss=task.loss(splits),
            checkpoint=_Told(task.metric.name, sign),
            tell=parallel.silent,
        )


def _space(dimension: Dimension) -> Any:
    if dimension.choices:
        return ray_tune.choice(list(dimension.choices))
    low, high = dimension.low, dimension.high
    assert low is not None and high is not None
    if dimension.whole:
        whole = (int(low), int(high) + 1)  # Ray's upper end is left out
        return ray_tune.lograndint(*whole) if dimension.log else ray_tune.randint(*whole)
    return ray_tune.loguniform(low, high) if dimension.log else ray_tune.uniform(low, high)


def _scheduler(name: str, epochs: int) -> TrialScheduler:
    if name == "none":
        return FIFOScheduler()
    return ASHAScheduler(time_attr="training_iteration", max_t=epochs, grace_period=min(2, epochs))


def _row(metric: str, number: int, result: Any) -> dict[str, Any]:
    told = result.metrics or {}
    value = told.get(metric) if result.error is None else None
    value = value if value is not None and math.isfinite(value) else None
    state = "failed" if value is None else "complete"
    return {"trial": number, "state": state, metric: value, "epochs": told.get("epochs", 0), **(result.config or {})}
