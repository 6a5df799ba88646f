"""What channels will read in the next steps, from the steps before."""

from dataclasses import dataclass

from cloud_hub.core.checks import choice, require
from cloud_hub.core.tasks import Annotation, Metric, TaskDeclaration
from cloud_hub.pipeline.tasks.sections import check_quantiles
from protos.contract.inputs import MAX_STEPS, SampleKind
from protos.contract.outputs import MAX_LABELS

KINDS = ("linear", "conv")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastSpec:
    """A sample is a series of ``lookback + horizon`` steps or more. One that is long enough is parted in time: the last
    ``data.test_share`` of its steps are test targets, those before them validation; short ones go whole, by their source."""

    lookback: int = 96  # steps a device gives
    horizon: int = 24  # steps that are told
    stride: int = 1  # steps between two windows of a series
    channels: tuple[str, ...] = ()  # that are seen; none: all that every series has and that are not always the same
    targets: tuple[str, ...] = ()  # that are told; none: all that are seen
    headline: str = ""  # channel whose last step is the answer in short; empty: the last of those told
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)  # that the loss ``quantile`` asks for

    def __post_init__(self) -> None:
        require(2 <= self.lookback <= MAX_STEPS, "preprocess.lookback", f"must be in 2..{MAX_STEPS}, got {self.lookback}")
        require(1 <= self.horizon <= MAX_STEPS, "preprocess.horizon", f"must be in 1..{MAX_STEPS}, got {self.horizon}")
        require(1 <= self.stride <= MAX_STEPS, "preprocess.stride", f"must be in 1..{MAX_STEPS}, got {self.stride}")
        told = self.horizon * max(1, len(self.targets))
        require(told <= MAX_LABELS, "preprocess.horizon", f"{told} values are more than {MAX_LABELS}")
        for name in ("channels", "targets"):
            require(len(set(getattr(self, name))) == len(getattr(self, name)), f"preprocess.{name}", "names one channel twice")
        if self.targets and self.channels:
            for name in self.targets:
                choice("preprocess.targets", name, self.channels)
        if self.headline and self.targets:
            choice("preprocess.headline", self.headline, self.targets)
        check_quantiles(self.quantiles)

    @property
    def steps(self) -> int:
        """Of the network's input."""
        return self.lookback


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecasterSpec:
    """A linear map over time that all channels share; "conv" adds convolutions over time, shared as well."""

    kind: str = "linear"
    anchored: bool = True  # the last value is taken off and put back on: levels may wander (NLinear; Zeng et al., 2023)
    width: int = 8  # of the first convolution
    stages: int = 2  # convolutions, each halving the steps and doubling the width
    kernel: int = 5
    dropout: float = 0.0
    epochs: int

    def check(self, where: str, preprocess: ForecastSpec) -> None:
        """Raises Invalid naming the key under ``where``."""
        choice(f"{where}.kind", self.kind, KINDS)
        require(1 <= self.width <= 256, f"{where}.width", f"must be in 1..256, got {self.width}")
        require(1 <= self.stages <= 8, f"{where}.stages", f"must be in 1..8, got {self.stages}")
        require(self.kernel in range(3, 32, 2), f"{where}.kernel", f"must be odd and in 3..31, got {self.kernel}")
        require(0 <= self.dropout < 1, f"{where}.dropout", f"must be in 0..1, got {self.dropout}")
        require(1 <= self.epochs <= 10_000, f"{where}.epochs", f"must be in 1..10000, got {self.epochs}")
        halved = f"{self.stages} halvings leave nothing of {preprocess.lookback} steps"
        require(self.kind != "conv" or preprocess.lookback >> self.stages >= 1, f"{where}.stages", halved)


def _teacher() -> ForecasterSpec:
    return ForecasterSpec(kind="conv", epochs=8)


def _student() -> ForecasterSpec:
    return ForecasterSpec(epochs=10)


TASK = TaskDeclaration(
    name="forecasting",
    kind=SampleKind.WINDOW,
    annotation=Annotation.NONE,  # the series says itself what came after
    # Mean squared error over all channels and steps, each channel in standard deviations of its training split: the field's own
    # figure, and 1.0 is what the mean would give.
    metric=Metric(name="mse", higher_is_better=False),
    bound=1.0,
    preprocess=ForecastSpec,
    network=ForecasterSpec,
    teacher=_teacher,
    student=_student,
    losses=("mse", "huber", "quantile"),
    augmentations=("noise", "scale"),
    augment=(),
    unused=("train.label_smoothing", "train.temperature", "triggers.metric_drop"),
    implementation="cloud_hub.pipeline.tasks.forecasting.task:Forecasting",
)
