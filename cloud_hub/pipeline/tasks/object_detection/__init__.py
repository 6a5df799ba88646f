"""What is where in a picture: boxes with a class each."""

from dataclasses import dataclass

from cloud_hub.core.checks import choice, require
from cloud_hub.core.tasks import Annotation, Metric, TaskDeclaration
from protos.contract.inputs import SampleKind

_STRIDES = ("4", "8", "16", "32")


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneSpec:
    width: int = 96
    height: int = 96
    channels: int = 3  # 1: grey
    stride: int = 8  # pixels of a cell, each of which may tell one box: below the size of the smallest thing that matters
    max_boxes: int = 32  # of one picture; a picture with more is left out, for what is not told would be taught as background

    def __post_init__(self) -> None:
        choice("preprocess.stride", str(self.stride), _STRIDES)
        for name in ("width", "height"):
            side = getattr(self, name)
            require(32 <= side <= 1024, f"preprocess.{name}", f"must be in 32..1024, got {side}")
            require(side % self.stride == 0, f"preprocess.{name}", f"must be a multiple of preprocess.stride, got {side}")
        require(self.channels in (1, 3), "preprocess.channels", f"must be 1 (grey) or 3 (RGB), got {self.channels}")
        require(1 <= self.max_boxes <= 1000, "preprocess.max_boxes", f"must be in 1..1000, got {self.max_boxes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """Convolutions that halve the picture down to the stride, ``convs`` more that look around, and two heads."""

    width: int  # channels at half size; doubled by each halving, up to ``most``
    most: int = 96
    convs: int = 2  # 3x3 convolutions at the stride; each lets a cell see two cells further
    epochs: int

    def check(self, where: str, preprocess: SceneSpec) -> None:
        """Raises Invalid naming the key under ``where``."""
        require(4 <= self.width <= 512, f"{where}.width", f"must be in 4..512, got {self.width}")
        require(self.width <= self.most <= 1024, f"{where}.most", f"must be in {where}.width..1024, got {self.most}")
        require(1 <= self.convs <= 16, f"{where}.convs", f"must be in 1..16, got {self.convs}")
        require(1 <= self.epochs <= 10_000, f"{where}.epochs", f"must be in 1..10000, got {self.epochs}")


def _teacher() -> NetworkSpec:
    return NetworkSpec(width=16, convs=3, epochs=40)


def _student() -> NetworkSpec:
    return NetworkSpec(width=12, most=64, epochs=40)


TASK = TaskDeclaration(
    name="object-detection",
    kind=SampleKind.IMAGE,
    annotation=Annotation.BOXES,
    metric=Metric(name="map50"),
    bound=0.3,
    preprocess=SceneSpec,
    network=NetworkSpec,
    teacher=_teacher,
    student=_student,
    losses=("giou", "l1"),  # of the boxes; what is in a cell is always told by a focal loss
    augmentations=("brightness", "blur", "noise", "invert", "flip", "shift"),
    augment=("brightness", "noise", "shift"),  # flips change the meaning of signs and writing
    unused=("train.temperature", "triggers.metric_drop"),
    implementation="cloud_hub.pipeline.tasks.object_detection.task:ObjectDetection",
)
