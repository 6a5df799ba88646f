"""What a model gives: how the values of its one float32 output become an answer.

Every answer has a label out of ``labels`` and a confidence, so that counting, drift and gates work for each of them alike.
"""

import math
from dataclasses import dataclass

from protos.contract.errors import InvalidValue

MAX_LABELS = 65_536
MAX_VALUES = 1 << 20
MAX_BOXES = 1000
NORMAL, ANOMALY = "normal", "anomaly"
NOTHING = "nothing"  # the label of a picture in which nothing was found


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """Logits -> label: divide by ``temperature``, softmax, take the largest."""

    labels: tuple[str, ...]
    min_confidence: float = 0.0  # below it a prediction is flagged uncertain
    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check_labels(self.labels)
        _check_certainty(self.min_confidence, self.temperature)

    @property
    def size(self) -> int:
        """Values of the output."""
        return len(self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Scores of items -> the ``top`` best, best first; otherwise as ``Classification``, with items for labels."""

    labels: tuple[str, ...]
    top: int = 10
    min_confidence: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check_labels(self.labels)
        _check_certainty(self.min_confidence, self.temperature)
        if not 1 <= self.top <= len(self.labels):
            raise InvalidValue(f"top must be in 1..{len(self.labels)}, got {self.top}")

    @property
    def size(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """Outputs -> numbers: multiply by ``std``, add ``mean``. The label is the bin of one of them.

    ``edges`` part the bins; a model's own quantiles make the labels a picture of what it usually says. Confidence is 1.
    """

    names: tuple[str, ...]  # one for each value, as "speed+15min"
    mean: tuple[float, ...]
    std: tuple[float, ...]
    edges: tuple[float, ...]  # ascending, in the unit of the value; bin i holds edges[i - 1] <= value < edges[i]
    headline: int = 0  # index of the value that is told and binned

    def __post_init__(self) -> None:
        count = len(self.names)
        if not 1 <= count <= MAX_LABELS or len(set(self.names)) != count:
            raise InvalidValue(f"names must be 1..{MAX_LABELS} different ones, got {count}")
        if len(self.mean) != count or len(self.std) != count:
            raise InvalidValue(f"mean and std need one value for each of {count}")
        if not all(math.isfinite(each) for each in (*self.mean, *self.std, *self.edges)) or min(self.std) <= 0:
            raise InvalidValue("mean and edges must be finite, std positive")
        if not 1 <= len(self.edges) < MAX_LABELS or any(a >= b for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise InvalidValue(f"edges must ascend, and be 1..{MAX_LABELS - 1}")
        if not 0 <= self.headline < count:
            raise InvalidValue(f"headline must be in 0..{count - 1}, got {self.headline}")

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the bins, lowest first."""
        inner = tuple(f"{a:.4g}..{b:.4g}" for a, b in zip(self.edges, self.edges[1:], strict=False))
        named = (f"<{self.edges[0]:.4g}", *inner, f">={self.edges[-1]:.4g}")
        return named if len(set(named)) == len(named) else tuple(f"bin {i}" for i in range(len(named)))

    @property
    def min_confidence(self) -> float:
        return 0.0

    @property
    def size(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconstruction:
    """The input again -> its mean squared error, in units of the tensor; an anomaly above ``threshold``.

    With p = error / (error + threshold) an anomaly's confidence is p, that of what is normal 1 - p.
    """

    values: int  # of the input tensor, and so of the output
    threshold: float
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.values <= MAX_VALUES:
            raise InvalidValue(f"values must be in 1..{MAX_VALUES}, got {self.values}")
        if not 0 < self.threshold < 1e12:
            raise InvalidValue(f"threshold must be positive and finite, got {self.threshold}")
        _check_certainty(self.min_confidence, 1.0)

    @property
    def labels(self) -> tuple[str, ...]:
        return (NORMAL, ANOMALY)

    @property
    def size(self) -> int:
        return self.values


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """Cells of a grid -> boxes.

    The output is ``(rows * columns, 4 + classes)``, cells row by row: distances left, top, right and bottom from the middle of
    the cell to the sides of the box, in units of ``stride`` pixels of the model's input and not below 0, then one logit per
    class. Its score is the sigmoid of the logit over ``temperature``; boxes of a class that overlap a better one by more than
    ``max_overlap`` (intersection over union) go. The answer's label and confidence are those of the best box; where there is
    none, NOTHING and 1 minus the best score.
    """

    classes: tuple[str, ...]
    rows: int
    columns: int
    stride: int
    min_score: float = 0.3
    max_overlap: float = 0.5
    max_boxes: int = 100
    min_confidence: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not self.classes or len(set(self.classes)) != len(self.classes) or len(self.classes) >= MAX_LABELS:
            raise InvalidValue(f"classes must be 1..{MAX_LABELS - 1} different names, got {len(self.classes)}")
        if NOTHING in self.classes:
            raise InvalidValue(f"a class must not be called {NOTHING!r}")
        if not (1 <= self.rows <= 1024 and 1 <= self.columns <= 1024 and 1 <= self.stride <= 256):
            raise InvalidValue("a grid has 1..1024 rows and columns, and a stride of 1..256 pixels")
        if not 0 < self.min_score < 1 or not 0 < self.max_overlap <= 1 or not 1 <= self.max_boxes <= MAX_BOXES:
            raise InvalidValue(f"min_score and max_overlap must be in 0..1, max_boxes in 1..{MAX_BOXES}")
        if self.size > MAX_VALUES:
            raise InvalidValue(f"{self.size} values, more than {MAX_VALUES}")
        _check_certainty(self.min_confidence, self.temperature)

    @property
    def labels(self) -> tuple[str, ...]:
        return (*self.classes, NOTHING)

    @property
    def size(self) -> int:
        return self.rows * self.columns * (4 + len(self.classes))


Output = Classification | Ranking | Values | Reconstruction | Detection


def _check_labels(labels: tuple[str, ...]) -> None:
    if not 2 <= len(labels) <= MAX_LABELS or len(set(labels)) != len(labels):
        raise InvalidValue(f"labels must be 2..{MAX_LABELS} different names, got {len(labels)}")


def _check_certainty(min_confidence: float, temperature: float) -> None:
    if not 0.0 <= min_confidence <= 1.0:
        raise InvalidValue(f"min_confidence must be in 0..1, got {min_confidence}")
    if not 1e-3 <= temperature <= 1e3:
        raise InvalidValue(f"temperature must be in 0.001..1000, got {temperature}")
