"""What is trained on, and how it is parted."""

from dataclasses import dataclass

from cloud_hub.core.checks import choice, require

SPLIT_BY = ("source", "sample", "time")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSpec:
    dataset: str = ""  # required
    version: int = 0  # of the data set, to train on what it was then; 0: as it is now
    split_by: str = "source"  # frames of one camera or track resemble each other: parting them would flatter the score
    gap_s: float = 0.0  # by time: what is so close before a border is left out, for samples that overlap, as windows do
    take_s: int = 60  # a camera's frames from different spans of this length count as different sources; 0: never
    val_share: float = 0.15  # of the sources; picks the epoch, the temperature and the drift baseline
    test_share: float = 0.15  # of the sources; seen only by the gate
    min_samples: int = 100  # labelled and usable; below it a score means little
    max_samples: int = 200_000  # above it the oldest are left out
    max_bytes: int = 4 << 30  # of samples decoded, 3 kB a picture of 32x32, 27 kB of 96x96; training takes about twice as much
    calibration: int = 256  # training images that fix the int8 ranges; more changed nothing measurable

    def __post_init__(self) -> None:
        require(self.dataset != "", "data.dataset", "is required: the data set to train on")
        require(self.version >= 0, "data.version", f"must not be negative, got {self.version}")
        choice("data.split_by", self.split_by, SPLIT_BY)
        require(0 <= self.gap_s <= 366 * 86_400, "data.gap_s", f"must be in 0..{366 * 86_400}, got {self.gap_s}")
        require(self.gap_s == 0 or self.split_by == "time", "data.gap_s", "has no meaning unless data.split_by is time")
        require(self.take_s >= 0, "data.take_s", f"must not be negative, got {self.take_s}")
        for name in ("val_share", "test_share"):
            share = getattr(self, name)
            require(0.01 <= share <= 0.5, f"data.{name}", f"must be in 0.01..0.5, got {share}")
        require(self.val_share + self.test_share <= 0.8, "data.val_share", "and data.test_share leave under 20 % to train on")
        require(10 <= self.min_samples <= self.max_samples, "data.min_samples", "must be in 10..data.max_samples")
        require(self.max_bytes >= 1 << 20, "data.max_bytes", f"must be {1 << 20} or more, got {self.max_bytes}")
        require(8 <= self.calibration <= 10_000, "data.calibration", f"must be in 8..10000, got {self.calibration}")
