"""Which of several classes a row of a table belongs to."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from cloud_hub.core.checks import require
from cloud_hub.core.tasks import Annotation, Metric, TaskDeclaration
from protos.contract.inputs import MAX_CATEGORIES, SampleKind

_MOST_COST = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec:
    max_categories: int = 64  # values of one column that are told apart; the rarest beyond it are as good as missing
    indicators: bool = True  # say where a number is missing: that it is may mean something
    exclude: tuple[str, ...] = ()  # columns the model must not see: what leaks the answer, or what must not decide
    costs: dict[str, float] = field(default_factory=dict)  # of not recognising each class; 1 for those that are not named

    def __post_init__(self) -> None:
        key = "preprocess.max_categories"
        require(2 <= self.max_categories <= MAX_CATEGORIES, key, f"must be in 2..{MAX_CATEGORIES}, got {self.max_categories}")
        require(len(set(self.exclude)) == len(self.exclude), "preprocess.exclude", "names one column twice")
        for label, cost in self.costs.items():
            where = f"preprocess.costs.{label}"
            require(math.isfinite(cost) and 0 < cost <= _MOST_COST, where, f"must be in 0..{_MOST_COST:g}, got {cost}")

    def cost(self, label: str) -> float:
        """Of saying something else where ``label`` is right."""
        costs: Mapping[str, float] = self.costs
        return costs.get(label, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """``layers`` of ``hidden`` units each; none of them is logistic regression."""

    hidden: int
    layers: int = 2
    dropout: float = 0.2  # share of units left out in each training step: tables are small and networks are not
    epochs: int

    def check(self, where: str, preprocess: TableSpec) -> None:
        """Raises Invalid naming the key under ``where``."""
        require(2 <= self.hidden <= 4096, f"{where}.hidden", f"must be in 2..4096, got {self.hidden}")
        require(0 <= self.layers <= 8, f"{where}.layers", f"must be in 0..8, got {self.layers}")
        require(0 <= self.dropout < 1, f"{where}.dropout", f"must be in 0..1, got {self.dropout}")
        require(1 <= self.epochs <= 10_000, f"{where}.epochs", f"must be in 1..10000, got {self.epochs}")


def _teacher() -> NetworkSpec:
    return NetworkSpec(hidden=64, dropout=0.3, epochs=40)


def _student() -> NetworkSpec:
    return NetworkSpec(hidden=32, dropout=0.1, epochs=40)


TASK = TaskDeclaration(
    name="tabular-classification",
    kind=SampleKind.ROW,
    annotation=Annotation.CLASS,
    metric=Metric(name="auc"),  # what costs shift is where the line is drawn, not how well the model orders
    bound=0.7,
    preprocess=TableSpec,
    network=NetworkSpec,
    teacher=_teacher,
    student=_student,
    losses=("cross-entropy", "focal"),
    implementation="cloud_hub.pipeline.tasks.tabular_classification.task:TabularClassification",
)
