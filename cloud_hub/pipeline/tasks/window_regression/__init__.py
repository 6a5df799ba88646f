"""Numbers from a window of readings: the life that is left in an engine, the charge a battery still holds."""

from dataclasses import dataclass

from cloud_hub.core.checks import require
from cloud_hub.core.tasks import Annotation, Metric, TaskDeclaration
from cloud_hub.pipeline.tasks.sections import ConvSpec, WindowSpec, check_quantiles
from protos.contract.inputs import SampleKind


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionSpec(WindowSpec):
    least: float | None = None  # targets below it count as it
    most: float | None = None  # above it: what a new engine will live is not in its sensors yet
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)  # that the loss ``quantile`` asks for

    def __post_init__(self) -> None:
        WindowSpec.__post_init__(self)
        if self.least is not None and self.most is not None:
            require(self.least < self.most, "preprocess.most", f"must be above preprocess.least, got {self.most}")
        check_quantiles(self.quantiles)


def _teacher() -> ConvSpec:
    return ConvSpec(width=24, dropout=0.1, epochs=15)


def _student() -> ConvSpec:
    return ConvSpec(width=12, epochs=18)


TASK = TaskDeclaration(
    name="window-regression",
    kind=SampleKind.WINDOW,
    annotation=Annotation.VALUES,
    metric=Metric(name="rmse", higher_is_better=False),
    bound=1e30,  # in the target's unit, of which nothing is known here: the specification must say what is good enough
    preprocess=RegressionSpec,
    network=ConvSpec,
    teacher=_teacher,
    student=_student,
    losses=("mse", "huber", "quantile"),
    augmentations=("noise", "scale", "mask"),
    augment=("noise",),
    unused=("train.label_smoothing", "train.temperature", "triggers.metric_drop"),
    implementation="cloud_hub.pipeline.tasks.window_regression.task:WindowRegression",
)
