"""A task of one's own: in which quadrant does a point lie? The hub loads this file, the worker the other one, too.

hub.yaml: ``training: {task_files: [/path/to/declaration.py]}``
"""

from dataclasses import dataclass
from pathlib import Path

from cloud_hub.core.checks import require
from cloud_hub.core.tasks import Annotation, Metric, TaskDeclaration
from protos.contract.inputs import SampleKind


@dataclass(frozen=True, slots=True, kw_only=True)
class PointSpec:
    """Section ``preprocess``: the columns of a row that are the point's coordinates."""

    x: str = "x"
    y: str = "y"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """Sections ``teacher`` and ``student``."""

    hidden: int = 16
    epochs: int = 20

    def check(self, where: str, preprocess: PointSpec) -> None:
        """Raises Invalid naming the key under ``where``."""
        require(1 <= self.hidden <= 1024, f"{where}.hidden", f"must be in 1..1024, got {self.hidden}")
        require(1 <= self.epochs <= 10_000, f"{where}.epochs", f"must be in 1..10000, got {self.epochs}")


TASK = TaskDeclaration(
    name="quadrant",
    kind=SampleKind.ROW,
    annotation=Annotation.CLASS,
    metric=Metric(name="accuracy"),
    bound=0.9,
    preprocess=PointSpec,
    network=NetworkSpec,
    teacher=NetworkSpec,
    student=lambda: NetworkSpec(hidden=8),
    losses=("cross-entropy",),
    implementation=f"{Path(__file__).with_name('implementation.py')}:Quadrant",
)
