"""Settings looked for before the training: trials of few epochs, judged on the validation split (Optuna)."""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
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
from cloud_hub.pipeline.progress import Stages, Step
from cloud_hub.pipeline.task import Task

STARTUP_TRIALS = 5  # before any is given up, or learned from
_AGAIN = "instead_of"  # the trial that was lost when the job died

Report = Callable[[float, float, int], None]  # the metric, the best so far, and the epoch, counted from 0

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    spec: TrainingSpec  # with the best settings in place
    table: tuple[Mapping[str, Any], ...]  # JSON: a row for each trial, best first


class Search:
    """The trials of a job, each kept by the journal from its beginning on. For one process, which may make several at once."""

    def __init__(self, task: Task, splits: Splits, journal: BaseJournalBackend | None = None) -> None:
        """``journal``: where the trials are kept; None: in memory. Those that it knows of are not made again."""
        self._task, spec = task, task.spec
        self._study = optuna.create_study(
            storage=JournalStorage(journal) if journal is not None else None,
            study_name=_name(spec, splits),
            load_if_exists=True,
            direction="maximize" if task.metric.higher_is_better else "minimize",
            pruner=_pruner(spec.tuning.pruner),
        )
        # another seed after an interruption: the same one would draw the same settings again
        seed = spec.train.seed + len(self._study.trials)
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
        _bury(self._study)
        if not self._study.trials:
            self._study.enqueue_trial(_as_given(spec))
        self._deadline = time.monotonic() + spec.tuning.minutes * 60

    @property
    def left(self) -> int:
        """Trials that may still begin."""
        begun = _over(self._study) + self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        return max(0, self._task.spec.tuning.trials - len(begun)) if time.monotonic() < self._deadline else 0

    @property
    def done(self) -> float:
        """Share of the trials that are over."""
        return len(_over(self._study)) / self._task.spec.tuning.trials

    def ask(self) -> tuple[Trial, dict[str, Any]]:
        """A trial that begins now, and its settings."""
        trial = self._study.ask()
        return trial, {key: _suggest(trial, key, each) for key, each in self._task.spec.tuning.space.items()}

    def end(self, trial: Trial, value: float | None, problem: str = "") -> None:
        """Over: with the metric of its best epoch, with what was wrong, or given up where there is neither."""
        if problem:
            trial.set_user_attr("problem", problem)
        state = TrialState.FAIL if problem else TrialState.PRUNED if value is None else TrialState.COMPLETE
        self._study.tell(trial, value if state is TrialState.COMPLETE else None, state=state)

    def tell(self, stages: Stages, trial: Trial) -> None:
        """Of a trial that is over."""
        found = next(each for each in self._study.get_trials(deepcopy=False) if each.number == trial.number)
        stages.tell(self.done, _line(self._task, self._study, found))

    def result(self) -> Tuned:
        """Raises Invalid: not one trial came to its end."""
        good = [each for each in self._study.trials if each.state is TrialState.COMPLETE]
        if not good:
            raise Invalid(f"tuning: not one of {len(_over(self._study))} trials came to its end; look at tuning.space")
        return Tuned(spec=specs.changed(self._task.spec, self._study.best_params), table=_table(self._task, self._study))


def tune(task: Task, splits: Splits, stages: Stages, journal: BaseJournalBackend | None = None) -> Tuned:
    """The best settings of the search space, one trial after the other. Raises Invalid: not one came to its end."""
    search = Search(task, splits, journal)
    while search.left:
        trial, settings = search.ask()
        _try(search, trial, settings, task, splits, stages.part(search.done, 1 / task.spec.tuning.trials))
        search.tell(stages, trial)
    return search.result()


def train_one(
    task: Task,
    settings: Mapping[str, Any],
    splits: Splits,
    report: Report,
    tell: train.Tell,
    step: Step = train.unheard,
) -> train.Fitted:
    """One trial: a student from chance, under these settings. Raises Invalid where nothing can be learned."""
    candidate = task.under(specs.changed(task.spec, settings))
    network: nn.Module = candidate.network(candidate.spec.student, splits).to(networks.device())
    epochs = min(task.spec.tuning.epochs, candidate.spec.student.epochs)
    judge, loss = _Judge(report, 1 if task.metric.higher_is_better else -1), candidate.loss(splits)
    return train.fit(candidate, network, splits, epochs=epochs, loss=loss, checkpoint=judge, tell=tell, step=step)


def _name(spec: TrainingSpec, splits: Splits) -> str:
    """Trials of other data, or under another specification, are not comparable: a job that waits may be given a new one."""
    tuning = (spec.tuning.space, spec.tuning.epochs)
    shaped_by = (splits.fingerprint, spec.task, spec.preprocess, spec.student, spec.train, *tuning)
    return f"settings-{hashlib.sha256(repr(shaped_by).encode()).hexdigest()[:16]}"


class _Judge(Unkept):
    """Tells how good a trial is after each epoch; nothing of it is kept on the disk."""

    def __init__(self, report: Report, sign: int) -> None:
        super().__init__()
        self._report, self._sign = report, sign

    def judged(self, state: State, network: nn.Module, value: float, loss: float, *, seconds: float) -> State:
        if not math.isfinite(value):  # nor would a database keep it
            raise Invalid(f"the metric on the validation split became {value}")
        following = super().judged(state, network, value, loss, seconds=seconds)
        self._report(self._sign * value, self._sign * following.best_value, state.epoch)
        return following


def _try(search: Search, trial: Trial, settings: Mapping[str, Any], task: Task, splits: Splits, step: Step) -> None:
    def tell(fraction: float, line: str) -> None:
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        fitted = train_one(task, settings, splits, lambda value, best, epoch: trial.report(value, epoch), tell, step)
    except optuna.TrialPruned:
        search.end(trial, None)
    except Invalid as error:  # settings under which nothing can be learned; the others go on
        search.end(trial, None, str(error))
    else:
        search.end(trial, fitted.value)


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
    """Trials that a killed job has left: each is made again, once: perhaps the job died of it."""
    made_again = _made_again(study)
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        if _AGAIN not in trial.user_attrs and trial.number not in made_again:
            study.enqueue_trial(trial.params, user_attrs={_AGAIN: trial.number + 1})
        study.tell(trial.number, state=TrialState.FAIL)


def _made_again(study: optuna.Study) -> set[int]:
    """Numbers of trials that others stand for."""
    return {each.user_attrs[_AGAIN] - 1 for each in study.get_trials(deepcopy=False) if _AGAIN in each.user_attrs}


def _over(study: optuna.Study) -> list[FrozenTrial]:
    made_again = _made_again(study)
    ended = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
    return [each for each in ended if each.number not in made_again]


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
