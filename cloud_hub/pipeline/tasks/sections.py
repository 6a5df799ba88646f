"""Sections of a specification that several tasks on windows share."""

from dataclasses import dataclass
from itertools import pairwise

from cloud_hub.core.checks import require
from protos.contract.inputs import MAX_STEPS


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSpec:
    steps: int = 64  # the newest of each sample; a sample with fewer is left out
    channels: tuple[str, ...] = ()  # in this order; none: all that every window has and that are not always the same
    noise: float = 0.1  # standard deviations of a channel, that ``noise`` in train.augment adds to each reading

    def __post_init__(self) -> None:
        require(4 <= self.steps <= MAX_STEPS, "preprocess.steps", f"must be in 4..{MAX_STEPS}, got {self.steps}")
        require(len(set(self.channels)) == len(self.channels), "preprocess.channels", "names one channel twice")
        require(0 < self.noise <= 3, "preprocess.noise", f"must be in 0..3, got {self.noise}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvSpec:
    """``stages`` convolutions over time, each halving the steps and doubling the width."""

    width: int  # of the first stage
    stages: int = 3
    kernel: int = 5  # steps each convolution sees
    dropout: float = 0.0  # before the last layer
    epochs: int

    def check(self, where: str, preprocess: WindowSpec) -> None:
        """Raises Invalid naming the key under ``where``."""
        require(2 <= self.width <= 512, f"{where}.width", f"must be in 2..512, got {self.width}")
        require(1 <= self.stages <= 8, f"{where}.stages", f"must be in 1..8, got {self.stages}")
        require(self.kernel in range(3, 32, 2), f"{where}.kernel", f"must be odd and in 3..31, got {self.kernel}")
        require(0 <= self.dropout < 1, f"{where}.dropout", f"must be in 0..1, got {self.dropout}")
        require(1 <= self.epochs <= 10_000, f"{where}.epochs", f"must be in 1..10000, got {self.epochs}")
        halved = f"{self.stages} halvings leave nothing of {preprocess.steps} steps"
        require(preprocess.steps >> self.stages >= 1, f"{where}.stages", halved)


def check_quantiles(levels: tuple[float, ...]) -> None:
    """Raises Invalid."""
    ascending = all(a < b for a, b in pairwise(levels))
    inside = bool(levels) and ascending and levels[0] > 0 and levels[-1] < 1
    require(inside, "preprocess.quantiles", f"must ascend between 0 and 1, got {list(levels)}")
