"""Settings looked for on real digits: small trials, some given up, none made twice."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import TrainingSpec, changed, parse
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline import tune
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.journal import Journal
from cloud_hub.pipeline.progress import Cancelled, Stages
from tests.hub.pipeline.parts import LABELS, SMALL_SPEC, digits

TUNED = """
tuning:
  trials: 6
  epochs: 3
  space:
    train.lr: {low: 1.0e-5, high: 3.0e-2, log: true}
    student.width: {choices: [4, 8]}
"""


class Memory:
    """A journal that outlives its reader."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def read(self, start: int) -> Iterable[dict[str, Any]]:
        return list(self.entries[start:])

    def journal(self) -> Journal:
        return Journal(self.read, self.entries.extend)


def tuned_spec(extra: str = TUNED) -> TrainingSpec:
    return parse(SMALL_SPEC + extra)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return tasks.make(tuned_spec()).load(LABELS, digits(300))


class Heard:
    def __init__(self, stop_after: int = 1000) -> None:
        self.lines: list[str] = []
        self.steps = 0
        self._stop_after = stop_after

    def __call__(self, stage: str, fraction: float, line: str, step: object = None) -> None:
        self.lines += [line] if line else []
        self.steps += step is not None
        if len(self.lines) >= self._stop_after:
            raise Cancelled


def look(splits: Splits, memory: Memory, heard: Heard) -> tune.Tuned:
    stages = Stages(heard)
    with stages.stage("student"):
        return tune.tune(tasks.make(tuned_spec()), splits, stages, memory.journal())


def test_the_best_settings_of_all_trials_are_taken_and_an_interrupted_search_goes_on(splits: Splits) -> None:
    memory, first, second = Memory(), Heard(stop_after=3), Heard()
    with pytest.raises(Cancelled):
        look(splits, memory, first)
    found = look(splits, memory, second)
    assert len(first.lines) + len(second.lines) == len(found.table) == 6
    assert first.steps > 0, "trials tell where they are"
    complete = [row for row in found.table if row["state"] == "complete"]
    best = max(complete, key=lambda row: row["accuracy"])
    assert (found.spec.train.lr, found.spec.student.width) == (best["train.lr"], best["student.width"])
    assert found.table[0] == best
    assert {row["trial"] for row in found.table} == set(range(1, 7))
    given = next(row for row in found.table if row["trial"] == 1)
    assert (given["train.lr"], given["student.width"]) == (3e-3, 8), "what the specification says is tried first"
    again = look(splits, memory, Heard(stop_after=1))
    assert again.spec == found.spec, "a search that is over trains nothing"


def test_a_search_that_goes_on_does_not_draw_what_it_drew_before(splits: Splits) -> None:
    memory = Memory()
    with pytest.raises(Cancelled):
        look(splits, memory, Heard(stop_after=3))
    drawn = [row["train.lr"] for row in look(splits, memory, Heard()).table]
    assert len(set(drawn)) == len(drawn)


def test_a_trial_that_a_killed_job_has_left_is_made_again_once(splits: Splits) -> None:
    memory, task = Memory(), tasks.make(tuned_spec())

    def killed(in_trial: int) -> dict[str, Any]:
        """What the trial had for settings that the job died in."""
        search = tune.Search(task, splits, memory.journal())
        for _ in range(in_trial):
            search.end(search.ask()[0], 0.5)
        return search.ask()[1]

    lost = killed(2)
    again = killed(0)
    assert again == lost, "the same settings"
    search = tune.Search(task, splits, memory.journal())
    assert search.left == 6 - 2 - 1, "once: perhaps the job died of it"
    while search.left:
        trial, settings = search.ask()
        assert settings != lost
        search.end(trial, 0.6)
    table = search.result().table
    assert len(table) == 6
    assert [row["trial"] for row in table if row["state"] == "fail"] == [4]
    assert [row["instead_of"] for row in table if "instead_of" in row] == [3]


def test_trials_under_another_specification_do_not_count(splits: Splits) -> None:
    memory = Memory()
    with pytest.raises(Cancelled):
        look(splits, memory, Heard(stop_after=2))
    other = tuned_spec("tuning: {trials: 2, epochs: 1, space: {student.width: {choices: [4, 6, 8]}}}")
    stages = Stages(Heard())
    with stages.stage("student"):
        found = tune.tune(tasks.make(other), splits, stages, memory.journal())
    assert len(found.table) == 2
    assert all("train.lr" not in row for row in found.table)


def test_a_trial_whose_metric_is_no_number_fails_alone(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN could be kept by no database."""
    judged = iter([float("nan")])

    def value(*given: Any) -> float:
        return next(judged, 0.5)

    spec = tuned_spec("tuning: {trials: 2, epochs: 1, space: {student.width: {choices: [4, 8]}}}")
    monkeypatch.setattr(type(tasks.make(spec)), "value", value)
    stages, memory = Stages(Heard()), Memory()
    with stages.stage("student"):
        found = tune.tune(tasks.make(spec), splits, stages, memory.journal())
    assert [row["state"] for row in found.table] == ["complete", "fail"]
    assert "became nan" in found.table[1]["problem"]
    json.dumps(memory.entries, allow_nan=False)


def test_a_bad_trial_is_given_up_early(splits: Splits) -> None:
    spec = tuned_spec()
    wide = replace(spec, tuning=replace(spec.tuning, trials=12, epochs=4))
    stages = Stages(Heard())
    with stages.stage("student"):
        found = tune.tune(tasks.make(wide), splits, stages)
    pruned = [row for row in found.table if row["state"] == "pruned"]
    assert pruned and all(row["epochs"] < 4 for row in pruned), found.table


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("tuning: {trials: 3}", "'tuning.space' is required"),
        ("tuning: {trials: 3, space: {train.lr: {low: 1, high: 0.1}}}", "'tuning.space.train.lr.low' must be below high"),
        ("tuning: {trials: 3, space: {train.lr: {low: 0.1, high: 7.0}}}", "'train.lr' must be in 0..1, got 7.0"),
        ("tuning: {trials: 3, space: {train.rl: {low: 0.1, high: 0.2}}}", "unknown key 'train.rl'"),
        ("tuning: {trials: 3, space: {student.width: {choices: [2]}}}", "'student.width' must be in 4..512, got 2"),
        ("tuning: {trials: 3, space: {data.take_s: {low: 1, high: 2}}}", "must begin with train or student"),
        ("tuning: {trials: 3, space: {train.lr: {low: 0.1, high: 0.2, choices: [1]}}}", "not both"),
        ("tuning: {trials: 3, space: {train.alpha: {low: 0.1, high: 0.9}}}", "makes no difference to a trial"),
        ("tuning: {trials: 3, space: {train.finetune.rank: {choices: [2, 4]}}}", "makes no difference to a trial"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_when_it_is_said(extra: str, words: str) -> None:
    with pytest.raises(Invalid, match="training spec") as caught:
        tuned_spec(extra)
    assert words in str(caught.value)


def test_settings_are_changed_by_their_names() -> None:
    spec = tuned_spec()
    assert changed(spec, {"train.lr": 0.01, "student.width": 5}).student.width == 5
    with pytest.raises(Invalid, match="no setting"):
        changed(spec, {"nothing.here": 1})
