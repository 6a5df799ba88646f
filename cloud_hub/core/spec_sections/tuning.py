"""Which settings a job looks for by itself before it trains, and for how long."""

from dataclasses import dataclass, field
from typing import Any

from cloud_hub.core.checks import choice, require

TUNABLE = ("train", "student")  # what else may change would change the data, on which trials must be compared
UNSEEN = (  # by a trial, which trains one student from chance by its labels alone: what it says of them would be noise
    *("train.alpha", "train.compile", "train.finetune", "train.processes", "train.replay", "train.seed"),
    *("train.teachers", "train.temperature", "student.epochs"),
)
PRUNERS = ("median", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """Where one setting is looked for: between two numbers, or among values."""

    low: float | None = None
    high: float | None = None
    log: bool = False  # as often between 0.001 and 0.01 as between 0.01 and 0.1
    whole: bool = False  # whole numbers only
    choices: tuple[Any, ...] = ()

    def check(self, key: str) -> None:
        """Raises Invalid naming the key."""
        if self.choices:
            require(self.low is None and self.high is None, key, "has choices or low and high, not both")
            plain = all(isinstance(each, str | int | float | bool) for each in self.choices)
            require(plain, f"{key}.choices", "must be numbers, texts, true or false")
            return
        require(self.low is not None and self.high is not None, key, "needs low and high, or choices")
        assert self.low is not None and self.high is not None
        require(self.low < self.high, f"{key}.low", f"must be below high, got {self.low} and {self.high}")
        require(not self.log or self.low > 0, f"{key}.low", "must be above 0 on a logarithmic scale")
        number = all(float(each).is_integer() for each in (self.low, self.high))
        require(not self.whole or number, f"{key}.low", "and high must be whole numbers")

    def ends(self) -> tuple[Any, ...]:
        """Values that show whether all of them can be used."""
        if self.choices:
            return self.choices
        return tuple(int(each) if self.whole else each for each in (self.low, self.high) if each is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningSpec:
    trials: int = 0  # 0: nothing is looked for
    minutes: float = 30.0  # no trial begins after that; a share of it is spent on trials that are given up early
    epochs: int = 10  # of a trial: settings are told apart long before a training has ended
    pruner: str = "median"  # gives up a trial that is worse than most were after as many epochs
    space: dict[str, Dimension] = field(default_factory=dict)  # "train.lr": {low: ..., high: ..., log: true}

    def __post_init__(self) -> None:
        require(0 <= self.trials <= 10_000, "tuning.trials", f"must be in 0..10000, got {self.trials}")
        require(0 < self.minutes <= 10_080, "tuning.minutes", f"must be in 0..10080, got {self.minutes}")
        require(1 <= self.epochs <= 10_000, "tuning.epochs", f"must be in 1..10000, got {self.epochs}")
        choice("tuning.pruner", self.pruner, PRUNERS)
        require(not self.trials or bool(self.space), "tuning.space", "is required: which settings to look for")
        for key, dimension in self.space.items():
            section, _, rest = key.partition(".")
            require(section in TUNABLE and bool(rest), f"tuning.space.{key}", f"must begin with {' or '.join(TUNABLE)}")
            seen = not any(key == each or key.startswith(f"{each}.") for each in UNSEEN)
            require(seen, f"tuning.space.{key}", "makes no difference to a trial: one student, from chance, without a teacher")
            dimension.check(f"tuning.space.{key}")
