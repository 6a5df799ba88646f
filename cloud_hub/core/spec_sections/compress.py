"""How small and how fast a network is to be made before it is published."""

from dataclasses import dataclass

from cloud_hub.core.checks import choice, require

SEARCHES = ("off", "small", "full")
OBJECTIVES = ("balanced", "size", "latency")
CALIBRATIONS = ("minmax", "percentile", "entropy")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressSpec:
    """``off`` publishes the student in plain int8. Other searches prune it, train it again and try ways to quantize it."""

    search: str = "off"  # "small": every ratio in plain int8, then the ways to quantize the best one; "full": all of them
    prune: tuple[float, ...] = (0.0, 0.3, 0.5)  # shares of each layer's channels to cut; 0.5 leaves a quarter of the weights
    finetune_epochs: int = 10  # after each cut: the loss of accuracy is won back within a few
    budget_minutes: float = 30.0  # no further combination is begun after it; the plain one always is
    objective: str = "balanced"  # of those the gate lets through; "balanced": the product of size and latency
    calibration: tuple[str, ...] = ("minmax", "percentile")  # ways to fix activation ranges; "entropy" is slow

    def __post_init__(self) -> None:
        choice("compress.search", self.search, SEARCHES)
        choice("compress.objective", self.objective, OBJECTIVES)
        for ratio in self.prune:
            require(0 <= ratio <= 0.9, "compress.prune", f"must be shares in 0..0.9, got {ratio}")
        require(len(set(self.prune)) == len(self.prune) <= 8, "compress.prune", "must be at most 8 shares, each once")
        require(
            1 <= self.finetune_epochs <= 10_000, "compress.finetune_epochs", f"must be in 1..10000, got {self.finetune_epochs}"
        )
        require(0 < self.budget_minutes <= 10_000, "compress.budget_minutes", f"must be in 0..10000, got {self.budget_minutes}")
        require(len(self.calibration) > 0, "compress.calibration", f"must name at least one of {', '.join(CALIBRATIONS)}")
        for name in self.calibration:
            choice("compress.calibration", name, CALIBRATIONS)
