"""Which of several classes a short text belongs to, told on the device."""

from dataclasses import dataclass

from cloud_hub.core.checks import require
from cloud_hub.core.tasks import Annotation, Metric, TaskDeclaration
from protos.contract.inputs import MAX_GRAM, SampleKind

_MOST_BUCKETS = 1 << 18  # of a dense layer: with 8 units 2 MB in int8
_LEAST_BUCKETS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSpec:
    """n-grams, counted in so many buckets. Each bucket costs ``hidden`` bytes of an int8 model."""

    buckets: int = 8192  # two n-grams in one bucket are not told apart
    words: int = 1  # runs of 1..words words; 0: none
    chars: tuple[int, int] = (2, 4)  # runs of least..most characters within a word, for what is misspelt; (0, 0): none

    def __post_init__(self) -> None:
        key, least, most = "preprocess.buckets", _LEAST_BUCKETS, _MOST_BUCKETS
        require(least <= self.buckets <= most, key, f"must be in {least}..{most}, got {self.buckets}")
        require(0 <= self.words <= MAX_GRAM, "preprocess.words", f"must be in 0..{MAX_GRAM}, got {self.words}")
        require(len(self.chars) == 2, "preprocess.chars", f"must be a least and a most number, got {list(self.chars)}")
        few, many = self.chars
        holds = (few, many) == (0, 0) or 1 <= few <= many <= MAX_GRAM
        require(holds, "preprocess.chars", f"must be [0, 0] or ascend within 1..{MAX_GRAM}, got {list(self.chars)}")
        require(self.words > 0 or many > 0, "preprocess.words", "and preprocess.chars are both none")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """A vector of ``hidden`` numbers for each bucket, their weighted sum, and a linear head on it."""

    hidden: int
    dropout: float = 0.2  # share of the sum left out in each training step
    forget: float = 0.0  # share of the n-grams left out in each training step
    epochs: int

    def check(self, where: str, preprocess: TextSpec) -> None:
        """Raises Invalid naming the key under ``where``."""
        require(2 <= self.hidden <= 1024, f"{where}.hidden", f"must be in 2..1024, got {self.hidden}")
        require(0 <= self.dropout < 1, f"{where}.dropout", f"must be in 0..1, got {self.dropout}")
        require(0 <= self.forget < 1, f"{where}.forget", f"must be in 0..1, got {self.forget}")
        require(1 <= self.epochs <= 10_000, f"{where}.epochs", f"must be in 1..10000, got {self.epochs}")


def _teacher() -> NetworkSpec:
    return NetworkSpec(hidden=32, forget=0.2, epochs=12)


def _student() -> NetworkSpec:
    return NetworkSpec(hidden=8, dropout=0.0, forget=0.1, epochs=12)


TASK = TaskDeclaration(
    name="text-classification",
    kind=SampleKind.TEXT,
    annotation=Annotation.CLASS,
    metric=Metric(name="accuracy"),
    bound=0.8,
    preprocess=TextSpec,
    network=NetworkSpec,
    teacher=_teacher,
    student=_student,
    losses=("cross-entropy", "focal"),
    unused=("train.adversarial.attack",),  # counts of words: nobody bends each of thousands by a tenth
    implementation="cloud_hub.pipeline.tasks.text_classification.task:TextClassification",
)
