"""What somebody may want next, told on the device by what was looked at there."""

from dataclasses import dataclass

from cloud_hub.core.checks import choice, require
from cloud_hub.core.tasks import Annotation, Metric, TaskDeclaration
from protos.contract.inputs import MAX_CATEGORIES, SampleKind
from protos.contract.outputs import MAX_LABELS

HELD_OUT = ("last", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceSpec:
    """A sample is a choice: a row of what was known before it; its label is the item that was chosen, its source the user."""

    seen: str = "seen"  # the column with the list of items lately looked at; all others are context
    max_items: int = 4096  # the most chosen ones; each costs the last layer's width in bytes of an int8 model
    top: int = 10  # items a device is told
    held_out: str = "last"  # which choices of a user in the test split are asked for: the newest ("last"), or "all"
    max_categories: int = 64  # values of a context column that are told apart

    def __post_init__(self) -> None:
        require(self.seen != "", "preprocess.seen", "must name a column")
        most = min(MAX_LABELS, MAX_CATEGORIES)
        require(2 <= self.max_items <= most, "preprocess.max_items", f"must be in 2..{most}, got {self.max_items}")
        require(1 <= self.top <= self.max_items, "preprocess.top", f"must be in 1..preprocess.max_items, got {self.top}")
        choice("preprocess.held_out", self.held_out, HELD_OUT)
        key = "preprocess.max_categories"
        require(2 <= self.max_categories <= MAX_CATEGORIES, key, f"must be in 2..{MAX_CATEGORIES}, got {self.max_categories}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """A user's tower of one hidden layer, and a vector of ``width`` numbers for each item."""

    hidden: int
    width: int
    dropout: float = 0.2  # share of the hidden layer left out in each training step
    forget: float = 0.0  # share of the seen items left out in each training step
    epochs: int

    def check(self, where: str, preprocess: ChoiceSpec) -> None:
        """Raises Invalid naming the key under ``where``."""
        require(2 <= self.hidden <= 4096, f"{where}.hidden", f"must be in 2..4096, got {self.hidden}")
        require(2 <= self.width <= 1024, f"{where}.width", f"must be in 2..1024, got {self.width}")
        require(0 <= self.dropout < 1, f"{where}.dropout", f"must be in 0..1, got {self.dropout}")
        require(0 <= self.forget < 1, f"{where}.forget", f"must be in 0..1, got {self.forget}")
        require(1 <= self.epochs <= 10_000, f"{where}.epochs", f"must be in 1..10000, got {self.epochs}")


def _teacher() -> NetworkSpec:
    return NetworkSpec(hidden=128, width=64, dropout=0.3, forget=0.2, epochs=20)


def _student() -> NetworkSpec:
    return NetworkSpec(hidden=48, width=32, dropout=0.1, forget=0.1, epochs=20)


TASK = TaskDeclaration(
    name="recommendation",
    kind=SampleKind.ROW,
    annotation=Annotation.CLASS,
    metric=Metric(name="hit_rate_10"),
    bound=0.05,
    preprocess=ChoiceSpec,
    network=NetworkSpec,
    teacher=_teacher,
    student=_student,
    losses=("cross-entropy", "bce"),
    # an item was seen or was not: what lies between is no attack that anybody could make
    unused=("train.adversarial.attack", "labels.pseudo", "labels.noise.folds", "triggers.metric_drop"),
    implementation="cloud_hub.pipeline.tasks.recommendation.task:Recommendation",
)
