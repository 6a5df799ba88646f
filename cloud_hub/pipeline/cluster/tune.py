"""The search for settings on a Ray cluster: many trials at once, by Ray Tune, asked for and judged as those of one process are.

Ray Tune runs them. Which settings come next, which trials are given up and what is kept of each is ``tune.Search``'s, so that a
job that was killed goes on, here or in one process.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import Trial
from ray import tune as ray_tune
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from cloud_hub.core.errors import Invalid
from cloud_hub.pipeline import handover, parallel
from cloud_hub.pipeline.cluster.files import Offer, offered, room
from cloud_hub.pipeline.cluster.session import cluster
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.progress import Stages
from cloud_hub.pipeline.task import Task
from cloud_hub.pipeline.tune import Search, Tuned, train_one

RETRIES = 2  # of a trial whose worker was lost
_NOW, _BEST, _EPOCH, _PROBLEM = "now", "best", "epoch", "problem"  # what a trial reports


def tune(
    task: Task,
    splits: Splits,
    stages: Stages,
    journal: BaseJournalBackend | None = None,
    *,
    folder: Path,
    workers: int,
    address: str,
) -> Tuned:
    """As ``tune.tune``, with ``workers`` trials at a time. Raises Invalid, Unavailable, and whatever ``stages`` raise."""
    search = Search(task, splits, journal)
    if search.left:
        handover.lay_out(task, splits, folder)
        with cluster(address, workers + 1), offered(folder, handover.files(folder)) as offer:
            _run(search, stages, offer, folder, workers)
    return search.result()


def _run(search: Search, stages: Stages, offer: Offer, folder: Path, workers: int) -> None:
    trials = _Trials(search, stages)
    gpu = min(1.0, ray.cluster_resources().get("GPU", 0) / workers)  # a trial that asks for none would see all of them
    ray_tune.Tuner(
        ray_tune.with_resources(ray_tune.with_parameters(_trial, offer=offer), {"cpu": 1, "gpu": gpu}),
        tune_config=ray_tune.TuneConfig(
            metric=_BEST, mode="max", search_alg=trials, num_samples=search.left, max_concurrent_trials=workers
        ),
        run_config=ray_tune.RunConfig(
            storage_path=str((folder / "ray").resolve()),
            stop=_GivenUp(trials),
            failure_config=ray_tune.FailureConfig(max_failures=RETRIES),
            verbose=0,
        ),
    ).fit()


class _Trials(Searcher):  # type: ignore[misc]  # see mypy's part of pyproject.toml
    """Ray Tune's view of the search."""

    def __init__(self, search: Search, stages: Stages) -> None:
        super().__init__(metric=_BEST, mode="max")
        self._search, self._stages = search, stages
        self._trials: dict[str, Trial] = {}
        self._heard: dict[str, int] = {}  # the last epoch of each
        self._bad: set[str] = set()  # that are given up

    def suggest(self, trial_id: str) -> Any:
        if not self._search.left:
            return Searcher.FINISHED
        self._trials[trial_id], settings = self._search.ask()
        return {"settings": settings}

    def hear(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """One more epoch; whether the trial is given up."""
        if _PROBLEM in result or result[_EPOCH] <= self._heard.get(trial_id, -1):  # Ray says the last one twice
            return False
        trial, self._heard[trial_id] = self._trials[trial_id], result[_EPOCH]
        trial.report(result[_NOW], result[_EPOCH])
        if trial.should_prune():
            self._bad.add(trial_id)
        return trial_id in self._bad

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        trial = self._trials.pop(trial_id)
        told = result or {}
        problem = told.get(_PROBLEM) or ("its worker was lost" if error or _BEST not in told else "")
        self._search.end(trial, None if trial_id in self._bad else told.get(_BEST), problem)
        self._search.tell(self._stages, trial)

    def save(self, checkpoint_path: str) -> None:
        """Not here: the journal keeps the trials."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing was saved."""


class _GivenUp(Stopper):  # type: ignore[misc]
    def __init__(self, trials: _Trials) -> None:
        self._trials = trials

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        return self._trials.hear(trial_id, result)

    def stop_all(self) -> bool:
        return False


# -- a worker -------------------------------------------------------------------------------------------------------------


def _report(value: float, best: float, epoch: int) -> None:
    ray_tune.report({_NOW: value, _BEST: best, _EPOCH: epoch})


def _trial(config: Mapping[str, Any], offer: Offer) -> None:
    with room() as folder:
        offer.take(folder)
        try:
            task, splits, _ = handover.taken(folder)
            train_one(task, config["settings"], splits, _report, parallel.silent)
        except Invalid as error:  # nothing can be learned under these settings, or on this machine; the others go on
            ray_tune.report({_PROBLEM: str(error), _BEST: math.nan})
