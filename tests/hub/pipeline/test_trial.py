"""What becomes of a search's candidates on the test split; figures are made up, the gate is the real one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from cloud_hub.core.errors import Invalid
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline import trial
from cloud_hub.pipeline.compress.searched import Candidate, Searched
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.export import Artifact
from cloud_hub.pipeline.gate import Champion
from cloud_hub.pipeline.learn import Learned
from cloud_hub.pipeline.progress import SEARCHED, Stages
from cloud_hub.pipeline.task import Outputs, Task
from cloud_hub.pipeline.trial import Trial
from cloud_hub.pipeline.verify import Verified
from protos.contract.inputs import Layout
from protos.contract.manifest import Format, GoldenSet, Precision
from tests.hub.pipeline.compress.test_points import HALF, WHOLE, point
from tests.hub.pipeline.parts import LABELS, digits, small_spec

TARGET = "onnx-int8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    trials: tuple[Trial, ...]
    searched: Searched
    told: list[tuple[float, str]]
    task: Task

    @property
    def report(self) -> dict[str, object]:
        found = self.searched.as_json(self.task, [each.decision for each in self.trials])
        assert found is not None
        return found


@pytest.fixture(scope="module")
def splits() -> Splits:
    return tasks.make(small_spec()).load(LABELS, digits(700))


def _judged(
    splits: Splits, monkeypatch: pytest.MonkeyPatch, wrong: Sequence[float], champion: Champion | None = None
) -> Judgement:
    """``wrong``: the share of test samples that each candidate gets wrong."""
    spec = small_spec()
    task = tasks.make(replace(spec, targets=(TARGET,), gate=replace(spec.gate, max_class_drop=1.0)))
    rows = [point(HALF, size=10), point(replace(HALF, ratio=0.3), size=20), point(WHOLE, size=30)][: len(wrong)]
    candidates = tuple(
        Candidate(name=str(row.cut), network=nn.Linear(1, 1), artifacts=(row.artifact,), chosen=(row,)) for row in rows
    )
    searched = Searched(candidates=candidates, table=tuple(rows))
    right = np.eye(len(LABELS), dtype=np.float32)[splits.test.targets] * 10
    student = candidates[-1].network
    learned = Learned(network=student, reference=right, score=task.score(right, splits.test, splits), report={}, history=())

    def verify(task: Task, artifacts: Sequence[Artifact], *_: object) -> tuple[Verified, ...]:
        share = wrong[next(i for i, row in enumerate(rows) if row.artifact is artifacts[0])]
        return (_verified(task, splits, right, artifacts[0], share),)

    monkeypatch.setattr(trial.verify, "verify", verify)
    monkeypatch.setattr(trial.tasks, "predict", lambda *_: right)
    told: list[tuple[float, str]] = []
    stages = Stages(lambda stage, fraction, line, step=None: told.append((fraction, line)), shares=SEARCHED)
    with stages.stage("verify"):
        trials = trial.judged(task, searched, learned, splits, Path(), stages, champion=champion, replayed=None)
    return Judgement(trials=trials, searched=searched, told=told, task=task)


def _verified(task: Task, splits: Splits, right: Outputs, artifact: Artifact, wrong: float) -> Verified:
    outputs = right.copy()
    count = round(len(outputs) * wrong)
    outputs[:count] = np.roll(outputs[:count], 1, axis=1)
    return Verified(
        artifact=replace(artifact, format=Format.ONNX, precision=Precision.INT8, layout=Layout.NCHW),
        input=splits.input,
        score=task.score(outputs, splits.test, splits),
        outputs=outputs,
        val_outputs=outputs,
        output_error=0.01,
        golden=GoldenSet(count=1, size=1, samples=(b"x",), outputs=bytes(4)),
        tolerance=0.1,
        latency_p50_ms=0.1,
        runtimes={},
    )


def test_what_the_search_likes_best_is_published_if_it_passes(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _judged(splits, monkeypatch, [0.0, 0.0, 0.0])
    assert [each.name for each in found.trials] == ["cut by 50%, distilled"]
    assert trial.verdict(found.trials).reason == ""


def test_where_the_test_split_refuses_it_the_next_one_is_tried_and_the_report_says_so(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _judged(splits, monkeypatch, [0.3, 0.0, 0.0])
    assert [each.name for each in found.trials] == ["cut by 50%, distilled", "cut by 30%, distilled"]
    decision = trial.verdict(found.trials)
    assert decision.reason == "" and [item.artifact.target for item in decision.kept] == [TARGET]
    judged = found.report["judged"]
    assert isinstance(judged, list) and "accuracy 0.7" in judged[0]["refused"] and judged[1]["refused"] == ""
    marked = found.searched.marked([each.decision for each in found.trials])
    assert [each.picked for each in marked] == [False, True, False]
    assert marked[0].refused.startswith("on the test split: accuracy") and not marked[2].refused
    assert any("the network cut by 50%, distilled is refused on the test split" in line for _, line in found.told)
    fractions = [fraction for fraction, _ in found.told]
    assert fractions == sorted(fractions)


def test_where_all_are_refused_every_reason_is_told(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _judged(splits, monkeypatch, [0.3, 0.4, 0.5])
    reason = trial.verdict(found.trials).reason
    assert reason.startswith("none of 3 networks passes on the test split: cut by 50%, distilled: no variant passes")
    assert "cut by 30%, distilled: " in reason and "not cut: " in reason
    assert found.report["picked"] == []


def test_a_job_without_a_search_has_one_reason(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _judged(splits, monkeypatch, [0.3])
    assert trial.verdict(found.trials).reason.startswith("no variant passes the gate: onnx-int8: accuracy")


def test_where_the_champion_cannot_be_run_no_other_network_is_tried(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Outputs:
        raise Invalid("it has other classes")

    monkeypatch.setattr(trial.gate, "champion_outputs", broken)
    champion = Champion(version=6, target=TARGET, manifest=None, model=b"")  # type: ignore[arg-type]  # never looked at
    found = _judged(splits, monkeypatch, [0.0, 0.0, 0.0], champion)
    assert len(found.trials) == 1 and "could not be compared: it has other classes" in trial.verdict(found.trials).reason
