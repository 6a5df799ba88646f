"""When a model is trained again by itself."""

from dataclasses import dataclass

from cloud_hub.core.checks import require


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerSpec:
    """When to train again by itself. Triggers that come together make one job."""

    drift: bool = True  # an episode of drift asks for a job
    cron: str = ""  # five fields, UTC; empty: never
    min_new_labels: int = (
        50  # labels since the last training before drift or cron make a job: the same data gives the same model
    )
    on_labels: int = 0  # so many new labels make a job on their own; 0: never
    metric_drop: float = 0.0  # accuracy on labelled control samples so far below the published one asks for a job; 0: never
    metric_samples: int = 100  # of these, newer than the version; fewer say little

    def __post_init__(self) -> None:
        fields = len(self.cron.split())
        require(fields in (0, 5), "triggers.cron", f"must have five fields, got {self.cron!r}")
        require(self.min_new_labels >= 0, "triggers.min_new_labels", f"must not be negative, got {self.min_new_labels}")
        require(self.on_labels >= 0, "triggers.on_labels", f"must not be negative, got {self.on_labels}")
        require(0 <= self.metric_drop < 1, "triggers.metric_drop", f"must be in 0..1, got {self.metric_drop}")
        require(self.metric_samples >= 10, "triggers.metric_samples", f"must be 10 or more, got {self.metric_samples}")
