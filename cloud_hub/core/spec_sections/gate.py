"""What a version must hold to be published."""

import math
from dataclasses import dataclass

from cloud_hub.core.checks import choice, require

WHEN_UNSURE = ("keep", "promote")


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSpec:
    """Of each file, on the test split, in the device's runtime; and of the version against the champion."""

    bound: float | None = None  # of the task's metric: at least so much, for errors at most; None: the task's own
    max_drop: float = 0.02  # of the metric, file against the network it was made from; for errors the share it may grow by
    max_class_drop: float = 0.1  # the same of each class with 20 test samples or more: two of 20, which chance can take
    max_output_error: float = 0.1  # |file - network| / |network| of the outputs: the metric alone hides a clipped range
    max_size_bytes: int = 16 << 20  # the smallest board's limit
    min_speedup: float = 1.0  # of int8 over fp32 of the same format, on this machine; 1: not slower, 0: not asked for
    max_latency_ms: float = 0.0  # p50 of one thread of this machine; 0: not asked for, boards measure it themselves
    min_gain: float = 0.0  # over the champion on the same test split; 0: match it, below 0: may be that much worse
    # Where the test split is too small to say whether ``min_gain`` is reached, tells the two nowhere apart, or the champion
    # cannot be run on it: the champion has proved itself in the field, and every change costs each device an update, so the
    # newcomer has to prove that it is better.
    when_unsure: str = "keep"

    def __post_init__(self) -> None:
        require(self.bound is None or math.isfinite(self.bound), "gate.bound", f"must be a number, got {self.bound}")
        for name in ("max_drop", "max_class_drop"):
            share = getattr(self, name)
            require(0 <= share <= 1, f"gate.{name}", f"must be in 0..1, got {share}")
        require(0 < self.max_output_error <= 10, "gate.max_output_error", f"must be in 0..10, got {self.max_output_error}")
        require(self.max_size_bytes >= 1024, "gate.max_size_bytes", f"must be 1024 or more, got {self.max_size_bytes}")
        require(0 <= self.min_speedup <= 100, "gate.min_speedup", f"must be in 0..100, got {self.min_speedup}")
        require(0 <= self.max_latency_ms <= 1e6, "gate.max_latency_ms", f"must be in 0..1e6, got {self.max_latency_ms}")
        require(-1 <= self.min_gain <= 1, "gate.min_gain", f"must be in -1..1, got {self.min_gain}")
        choice("gate.when_unsure", self.when_unsure, WHEN_UNSURE)
