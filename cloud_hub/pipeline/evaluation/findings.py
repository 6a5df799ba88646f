"""Everything a report says of how good a model is, as values: figures with their intervals, and where it fails."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cloud_hub.pipeline import noise
from cloud_hub.pipeline.classes import probabilities
from cloud_hub.pipeline.clean import Suspect
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.evaluation import conditions, curves
from cloud_hub.pipeline.evaluation.answers import Labelled, Numeric, answers
from cloud_hub.pipeline.evaluation.bootstrap import Interval, interval
from cloud_hub.pipeline.evaluation.calibration import Calibration, calibration
from cloud_hub.pipeline.evaluation.conditions import Devices, Found, Slice
from cloud_hub.pipeline.evaluation.curves import Curve, Floats, Residuals
from cloud_hub.pipeline.task import Outputs, Task
from protos.contract.outputs import Classification, Output, Ranking

MOST_CLASSES = 64  # that are told one by one; of more the worst
_CURVES = 8  # classes whose curves are drawn: the worst
_ERRORS = 100  # wrong answers that are listed, the surest first
_SUSPECTS = 100
_CONFUSIONS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """A wrong answer."""

    row: int  # of the test split
    id: str
    truth: str
    said: str
    confidence: float

    def as_json(self) -> dict[str, object]:
        return {"id": self.id, "truth": self.truth, "said": self.said, "confidence": round(self.confidence, 4)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Findings:
    """Of one file on the test split."""

    overall: Interval
    classes: tuple[Found, ...] = ()
    parts: tuple[Found, ...] = ()  # devices, sources, conditions, a user's own slices
    worst: Found | None = None
    calibration: Mapping[str, Calibration] = field(default_factory=dict)  # "before", "after" the temperature
    roc: Mapping[str, Curve] = field(default_factory=dict)  # by class
    precision_recall: Mapping[str, Curve] = field(default_factory=dict)
    risk_coverage: Curve | None = None
    confusion: NDArray[np.int64] | None = None  # (K, K), truth down
    confusions: tuple[tuple[str, str, int], ...] = ()  # (is, said, times), commonest first
    errors: tuple[Error, ...] = ()  # the surest first
    residuals: tuple[Residuals, ...] = ()  # by value that is told
    suspects: tuple[Suspect, ...] = ()  # labels that look wrong, the clearest first
    answers: Labelled | Numeric | None = None

    def as_json(self) -> dict[str, object]:
        return {
            "overall": self.overall.as_json(),
            "by_class": [each.as_json() for each in self.classes],
            "conditions": [each.as_json() for each in self.parts],
            "worst": self.worst.as_json() if self.worst else None,
            "calibration": {name: each.as_json() for name, each in self.calibration.items()},
            "roc": {name: curve.as_json() for name, curve in self.roc.items()},
            "precision_recall": {name: curve.as_json() for name, curve in self.precision_recall.items()},
            "risk_coverage": self.risk_coverage.as_json() if self.risk_coverage else None,
            "confusions": [{"is": is_, "said": said, "times": times} for is_, said, times in self.confusions],
            "errors": [each.as_json() for each in self.errors],
            "residuals": [each.as_json() for each in self.residuals],
            "suspects": [each.as_json() for each in self.suspects],
        }


def find(
    task: Task,
    outputs: Outputs,
    splits: Splits,
    output: Output,
    suspected: Sequence[Suspect] = (),
    devices: Devices | None = None,
    *,
    seed: int = 0,
) -> Findings:
    """``outputs`` on the test split; ``output``: calibrated, as devices read them."""
    split = splits.test
    parts = conditions.slices(split, splits, task.spec.evaluate.slices, devices or {})
    judged = tuple(conditions.judge(task, outputs, split, splits, parts, seed=seed))
    overall = interval(task, outputs, split, splits, seed=seed)
    told = answers(task, outputs, split, splits, output)
    common = Findings(
        overall=overall,
        parts=judged,
        worst=conditions.worst(judged, task.metric),
        suspects=tuple(suspected[:_SUSPECTS]),
        answers=told,
    )
    if isinstance(told, Labelled):
        return _of_labels(task, common, told, outputs, split, splits, output, seed)
    if isinstance(told, Numeric):
        return replace(common, residuals=tuple(curves.residuals(told.values, told.truths, told.names)))
    found = task.detected(outputs, split, splits)
    drawn = {name: curves.precision_recall(each.score, each.right, each.truths) for name, each in found.items()}
    return replace(common, precision_recall=dict(list(_known(drawn).items())[:_CURVES]))


def suspected(task: Task, splits: Splits, outputs: Mapping[str, Outputs], temperature: float) -> list[Suspect]:
    """By split, of a network's own outputs; the clearest first. Of samples it was trained on only what it could not learn."""
    found: list[Suspect] = []
    for name, given in outputs.items():
        split: Split = getattr(splits, name)
        found += noise.suspects(probabilities(given, temperature), split, name, splits.labels)
    return sorted(found, key=lambda one: -one.margin)


def has_classes(split: Split, output: Output) -> bool:
    """Labels are classes, so that one of them can be wrong."""
    return isinstance(output, Classification) and split.targets.ndim == 1 and np.issubdtype(split.targets.dtype, np.integer)


def _of_labels(
    task: Task, common: Findings, told: Labelled, outputs: Outputs, split: Split, splits: Splits, output: Output, seed: int
) -> Findings:
    labels, right = told.labels, told.right
    pairs = np.bincount(told.truths * len(labels) + told.said, minlength=len(labels) ** 2).reshape(len(labels), len(labels))
    before = told.confidence
    if isinstance(output, Classification | Ranking):
        before = probabilities(outputs, 1.0).max(axis=1).astype(np.float64)
    rows = [np.flatnonzero(told.truths == kind) for kind in range(len(labels))]
    each = task.each(outputs, split, splits)
    shares = each is not None and bool(np.isclose(each.mean(), common.overall.middle))
    parts = [Slice(condition="class", name=labels[kind], rows=of) for kind, of in enumerate(rows) if len(of)]
    judged = conditions.judge(task, outputs, split, splits, parts, seed=seed) if shares else []
    judged.sort(key=lambda found: found.value.middle)
    hardest = [labels.index(found.name) for found in judged] or sorted(range(len(labels)), key=lambda kind: -len(rows[kind]))
    drawn = [kind for kind in hardest if len(rows[kind])][:_CURVES]
    if len(labels) == 2:
        drawn = [1]  # the other one's curve is its mirror
    return replace(
        common,
        classes=tuple(judged[:MOST_CLASSES]),
        calibration={"before": calibration(before, right), "after": calibration(told.confidence, right)},
        roc=_curves(drawn, told, curves.roc),
        precision_recall=_curves(drawn, told, curves.precision_recall),
        risk_coverage=curves.risk_coverage(told.confidence, right),
        confusion=pairs,
        confusions=_confusions(pairs, labels),
        errors=_errors(told, split),
    )


def _curves(kinds: Sequence[int], told: Labelled, of: Callable[[Floats, NDArray[np.bool_]], Curve | None]) -> dict[str, Curve]:
    """Of each class against all others."""
    found = {told.labels[kind]: of(told.scores[:, kind], told.truths == kind) for kind in kinds}
    return _known(found)


def _known(found: Mapping[str, Curve | None]) -> dict[str, Curve]:
    return {name: curve for name, curve in found.items() if curve is not None}


def _confusions(pairs: NDArray[np.int64], labels: Sequence[str]) -> tuple[tuple[str, str, int], ...]:
    wrong = pairs.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]
    places = (divmod(int(at), len(labels)) for at in order)
    return tuple((labels[row], labels[column], int(wrong[row, column])) for row, column in places if wrong[row, column])


def _errors(told: Labelled, split: Split) -> tuple[Error, ...]:
    wrong = np.flatnonzero(~told.right)
    surest = wrong[np.argsort(-told.confidence[wrong], kind="stable")][:_ERRORS]
    return tuple(
        Error(
            row=int(row),
            id=split.origins[row].id if split.origins else f"row {row}",
            truth=told.labels[told.truths[row]],
            said=told.labels[told.said[row]],
            confidence=float(told.confidence[row]),
        )
        for row in surest
    )
