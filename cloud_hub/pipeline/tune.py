"""Settings looked for before the training: trials of few epochs, judged on the validation split (Optuna)."""

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages.journal import BaseJournalBackend, JournalStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from torch import nn

from cloud_hub.core import spec as specs
from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import TrainingSpec
from cloud_hub.core.spec_sections.tuning import Dimension
from cloud_hub.pipeline import networks, train
from cloud_hub.pipeline.checkpoint import State, Unkept
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.progress import Stages
from cloud_hub.pipeline.task import Task

STARTUP_TRIALS = 5  # before any is given up, or learned from

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    spec: TrainingSpec  # with the best settings in place
    table: tuple[Mapping[str, Any], ...]  # JSON: a row for each trial, best first


def tune(task: Task, splits: Splits, stages: Stages, journal: BaseJournalBackend | None = None) -> Tuned:
    """The best settings of the search space. Trials that the journal knows of are not made again.

    Args:
        journal: where the trials are kept; None: in memory.
    Raises:
        Invalid: not one trial came to its end.
    """
    spec, tuning = task.spec, task.spec.tuning
    study = optuna.create_study(
        storage=JournalStorage(journal) if journal is not None else None,
        study_name=_name(spec, splits),
        load_if_exists=True,
        direction="maximize" if task.metric.higher_is_better else "minimize",
        pruner=_pruner(tuning.pruner),
    )
    # another seed after an interruption: the same one would draw the same settings again
    seed = spec.train.seed + len(study.trials)
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
    _bury(study)
    if not study.trials:
        study.enqueue_trial(_as_given(spec))
    deadline = time.monotonic() + tuning.minutes * 60
    while len(_over(study)) < tuning.trials and time.monotonic() < deadline:
        trial = study.ask()
        _try(study, trial, task, splits)
        stages.tell(len(_over(study)) / tuning.trials, _line(task, study, study.trials[-1]))
    good = [each for each in study.trials if each.state is TrialState.COMPLETE]
    if not good:
        raise Invalid(f"tuning: not one of {len(study.trials)} trials came to its end; look at tuning.space")
    return Tuned(spec=specs.changed(spec, study.best_params), table=_table(task, study))


def _name(spec: TrainingSpec, splits: Splits) -> str:
    """Trials of other data, or under another specification, are not comparable: a job that waits may be given a new one."""
    tuning = (spec.tuning.space, spec.tuning.epochs)
    shaped_by = (splits.fingerprint, spec.task, spec.preprocess, spec.student, spec.train, *tuning)
    return f"settings-{hashlib.sha256(repr(shaped_by).encode()).hexdigest()[:16]}"


class _Judge(Unkept):
    """Remembers how good a trial is; nothing of it is kept on the disk."""

    def __init__(self, trial: Trial, sign: int) -> None:
        super().__init__()
        self._trial, self._sign = trial, sign

    def judged(self, state: State, network: nn.Module, value: float, loss: float, *, seconds: float) -> State:
        if not math.isfinite(value):  # nor would a database keep it
            raise Invalid(f"the metric on the validation split became {value}")
        self._trial.report(self._sign * value, state.epoch)
        return super().judged(state, network, value, loss, seconds=seconds)


def _try(study: optuna.Study, trial: Trial, task: Task, splits: Splits) -> None:
    space, sign = task.spec.tuning.space, 1 if task.metric.higher_is_better else -1

    def tell(fraction: float, line: str) -> None:
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        settings = {key: _suggest(trial, key, each) for key, each in space.items()}
        candidate = task.under(specs.changed(task.spec, settings))
        network: nn.Module = candidate.network(candidate.spec.student, splits).to(networks.device())
        epochs = min(task.spec.tuning.epochs, candidate.spec.student.epochs)
        fitted = train.fit(
            candidate, network, splits, epochs=epochs, loss=candidate.loss(splits), checkpoint=_Judge(trial, sign), tell=tell
        )
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except Invalid as error:  # settings under which nothing can be learned; the others go on
        trial.set_user_attr("problem", str(error))
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, fitted.value)


def _suggest(trial: Trial, key: str, dimension: Dimension) -> Any:
    if dimension.choices:
        return trial.suggest_categorical(key, list(dimension.choices))
    assert dimension.low is not None and dimension.high is not None
    if dimension.whole:
        return trial.suggest_int(key, int(dimension.low), int(dimension.high), log=dimension.log)
    return trial.suggest_float(key, dimension.low, dimension.high, log=dimension.log)


def _as_given(spec: TrainingSpec) -> dict[str, Any]:
    """What the specification says already is the first trial, where it lies within the space."""
    given = {}
    for key, dimension in spec.tuning.space.items():
        value: Any = spec
        for part in key.split("."):
            value = getattr(value, part)
        within = value in dimension.choices if dimension.choices else _between(value, dimension)
        if within:
            given[key] = value
    return given


def _between(value: Any, dimension: Dimension) -> bool:
    low, high = dimension.low, dimension.high
    return isinstance(value, int | float) and low is not None and high is not None and low <= value <= high


def _pruner(name: str) -> optuna.pruners.BasePruner:
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=1)
    return optuna.pruners.NopPruner()


def _bury(study: optuna.Study) -> None:
    """Trials that a killed worker has left."""
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)


def _over(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])


def _line(task: Task, study: optuna.Study, trial: FrozenTrial) -> str:
    settings = ", ".join(f"{key} {_short(value)}" for key, value in trial.params.items())
    done = [each for each in study.trials if each.state is TrialState.COMPLETE]
    best = f"; best {study.best_value:.4f} of trial {study.best_trial.number + 1}" if done else ""
    end = f"{task.metric.name} {trial.value:.4f}" if trial.state is TrialState.COMPLETE else trial.state.name.lower()
    return f"trial {trial.number + 1}: {settings}: {end}{best}"


def _table(task: Task, study: optuna.Study) -> tuple[Mapping[str, Any], ...]:
    sign = -1 if task.metric.higher_is_better else 1
    ranked = sorted(_over(study), key=lambda each: (each.state is not TrialState.COMPLETE, sign * (each.value or 0.0)))
    return tuple(
        {
            "trial": each.number + 1,
            "state": each.state.name.lower(),
            task.metric.name: round(each.value, 5) if each.value is not None else None,
            "epochs": len(each.intermediate_values),
            **each.params,
            **each.user_attrs,
        }
        for each in ranked
    )


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
