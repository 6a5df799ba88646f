"""Whether a window of readings is like those of normal operation: an autoencoder that has seen nothing else."""

from dataclasses import dataclass

from cloud_hub.core.checks import choice, require
from cloud_hub.core.tasks import Annotation, Metric, TaskDeclaration
from cloud_hub.pipeline.tasks.sections import ConvSpec, WindowSpec
from protos.contract.inputs import SampleKind

KINDS = ("conv", "dense")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalySpec(WindowSpec):
    quantile: float = 0.99  # of the errors on normal validation windows: what is further off is told as an anomaly

    def __post_init__(self) -> None:
        WindowSpec.__post_init__(self)
        require(0.5 <= self.quantile < 1, "preprocess.quantile", f"must be in 0.5..1, got {self.quantile}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderSpec(ConvSpec):
    """``stages`` layers down to ``code`` and as many up again; ``dropout`` is of the code."""

    kind: str = "conv"  # "dense": layers over the whole window, each half as wide as the one before, from ``width`` on
    code: int = 4  # values that must hold a window; of "conv" for each of its steps >> stages

    def check(self, where: str, preprocess: WindowSpec) -> None:
        ConvSpec.check(self, where, preprocess)
        choice(f"{where}.kind", self.kind, KINDS)
        require(1 <= self.code <= 512, f"{where}.code", f"must be in 1..512, got {self.code}")
        if self.kind == "conv":
            whole = preprocess.steps % (1 << self.stages) == 0
            even = f"{preprocess.steps} steps cannot be halved {self.stages} times without a rest"
            require(whole, f"{where}.stages", even)
        else:
            narrow = f"half of {self.width} for each stage leaves nothing"
            require(self.width >> (self.stages - 1) >= 1, f"{where}.stages", narrow)


def _teacher() -> AutoencoderSpec:
    return AutoencoderSpec(width=16, stages=3, epochs=20)


def _student() -> AutoencoderSpec:
    return AutoencoderSpec(width=8, stages=3, epochs=25)


TASK = TaskDeclaration(
    name="anomaly-detection",
    kind=SampleKind.WINDOW,
    annotation=Annotation.NONE,  # a label "normal" or "anomaly" is used where there is one
    # Area under the ROC curve where both kinds are known, else the share of the windows' variance that is explained; 0..1 both.
    metric=Metric(name="separation"),
    bound=0.6,
    preprocess=AnomalySpec,
    network=AutoencoderSpec,
    teacher=_teacher,
    student=_student,
    losses=("mse", "huber"),
    augmentations=("noise", "scale", "mask"),
    augment=(),  # what is added is to be reproduced, too
    unused=("train.label_smoothing", "train.temperature", "triggers.metric_drop"),
    implementation="cloud_hub.pipeline.tasks.anomaly_detection.task:AnomalyDetection",
)
