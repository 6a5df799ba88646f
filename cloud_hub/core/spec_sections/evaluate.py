"""What a report looks at beyond classes, devices and what can be seen of every sample."""

from dataclasses import dataclass

from cloud_hub.core.checks import require

MAX_SLICES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateSpec:
    slices: tuple[str, ...] = ()  # columns of rows or channels of windows by which the test split is parted too
    samples: int = 4  # right ones and as many wrong ones that are shown with what the answer stands on; 0: none

    def __post_init__(self) -> None:
        require(len(self.slices) <= MAX_SLICES, "evaluate.slices", f"must name {MAX_SLICES} columns at most")
        require(len(set(self.slices)) == len(self.slices), "evaluate.slices", "names one column twice")
        require(0 <= self.samples <= 32, "evaluate.samples", f"must be in 0..32, got {self.samples}")
