"""What is in a picture: one of several classes."""

from dataclasses import dataclass

from cloud_hub.core.checks import require
from cloud_hub.core.tasks import Annotation, Metric, TaskDeclaration
from protos.contract.inputs import SampleKind


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    width: int = 32
    height: int = 32
    channels: int = 3  # 1: grey

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            side = getattr(self, name)
            require(8 <= side <= 1024, f"preprocess.{name}", f"must be in 8..1024, got {side}")
        require(self.channels in (1, 3), "preprocess.channels", f"must be 1 (grey) or 3 (RGB), got {self.channels}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """A stem and ``stages`` blocks of convolutions, each halving the picture and doubling the channels."""

    width: int  # channels of the stem
    stages: int = 3
    convs: int = 1  # 3x3 convolutions per stage
    depthwise: bool = False  # fewer operations, but slower than plain convolutions below about 64 channels
    dropout: float = 0.0  # before the last layer
    epochs: int

    def check(self, where: str, preprocess: ImageSpec) -> None:
        """Raises Invalid naming the key under ``where``."""
        require(4 <= self.width <= 512, f"{where}.width", f"must be in 4..512, got {self.width}")
        require(1 <= self.stages <= 6, f"{where}.stages", f"must be in 1..6, got {self.stages}")
        require(1 <= self.convs <= 8, f"{where}.convs", f"must be in 1..8, got {self.convs}")
        require(0 <= self.dropout < 1, f"{where}.dropout", f"must be in 0..1, got {self.dropout}")
        require(1 <= self.epochs <= 10_000, f"{where}.epochs", f"must be in 1..10000, got {self.epochs}")
        small = min(preprocess.width, preprocess.height) >> self.stages
        size = f"{preprocess.width} x {preprocess.height}"
        require(small >= 1, f"{where}.stages", f"{self.stages} halvings leave nothing of {size} pixels")


def _teacher() -> NetworkSpec:
    return NetworkSpec(width=24, convs=1, epochs=28)  # half of it cost six points on photos of traffic signs


def _student() -> NetworkSpec:
    return NetworkSpec(
        width=16, convs=1, epochs=36
    )  # 100 k parameters: about 110 kB in int8; it learns slower than its teacher


TASK = TaskDeclaration(
    name="image-classification",
    kind=SampleKind.IMAGE,
    annotation=Annotation.CLASS,
    metric=Metric(name="accuracy"),
    bound=0.8,
    preprocess=ImageSpec,
    network=NetworkSpec,
    teacher=_teacher,
    student=_student,
    losses=("cross-entropy", "focal"),
    augmentations=("brightness", "blur", "noise", "shift", "invert", "flip"),
    augment=("brightness", "noise", "shift"),  # flips and inversion change the meaning of signs and digits
    implementation="cloud_hub.pipeline.tasks.image_classification.task:ImageClassification",
)
