"""Labels that no person gave, and labels that may be wrong."""

from dataclasses import dataclass, field

from cloud_hub.core.checks import require


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseSpec:
    """Labels that the rest of their source or the network contradicts, for people to look at again."""

    find: bool = True  # lists them in the report; costs one pass over the data
    sources: bool = True  # where sources are of one class each, as tracks are, a few others take its label; not in 'test'
    folds: int = (
        0  # 2..10: judged by networks that were not trained on them, which takes as long again as the student; 0: by the own
    )
    drop: bool = False  # the surest of them do not train; needs folds. What validates and tests stays as it is

    def __post_init__(self) -> None:
        require(self.folds == 0 or 2 <= self.folds <= 10, "labels.noise.folds", f"must be 0 or 2..10, got {self.folds}")
        require(not self.drop or self.folds > 0, "labels.noise.drop", "needs labels.noise.folds of 2 or more")
        require(not self.folds or self.find, "labels.noise.folds", "needs labels.noise.find")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsSpec:
    pseudo: bool = False  # the student also learns from samples without a label, as the teacher labels them
    floor: float = 0.95  # confidence below which the teacher's word is never taken
    precision: float = 0.98  # that the teacher must reach on the validation split above a class's own floor; else it is raised
    max_share: float = 0.5  # of labelled training samples: more would be the teacher talking to itself
    noise: NoiseSpec = field(default_factory=NoiseSpec)

    def __post_init__(self) -> None:
        require(0.5 <= self.floor < 1, "labels.floor", f"must be 0.5 or more and below 1, got {self.floor}")
        require(0.5 <= self.precision <= 1, "labels.precision", f"must be in 0.5..1, got {self.precision}")
        require(0 < self.max_share <= 10, "labels.max_share", f"must be above 0 and 10 at most, got {self.max_share}")
