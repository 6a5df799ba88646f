"""How a network learns."""

from dataclasses import dataclass, field

from cloud_hub.core.checks import choice, require

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "constant")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
ATTACKS = ("none", "fgsm", "pgd")
FINETUNE = ("off", "full", "head", "lora")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdversarialSpec:
    """Training on inputs that are bent against the network (Goodfellow et al., 2015; Madry et al., 2018)."""

    attack: str = "none"
    eps: float = 0.1  # how far one value of the input may be bent, in standard deviations of the data
    steps: int = 5  # of pgd; each costs about as much as a step of training
    share: float = 0.5  # of each batch; all of it costs clean accuracy

    def __post_init__(self) -> None:
        choice("train.adversarial.attack", self.attack, ATTACKS)
        require(0 < self.eps <= 10, "train.adversarial.eps", f"must be in 0..10, got {self.eps}")
        require(1 <= self.steps <= 100, "train.adversarial.steps", f"must be in 1..100, got {self.steps}")
        require(0 < self.share <= 1, "train.adversarial.share", f"must be in 0..1, got {self.share}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneSpec:
    """Going on from the champion's weights instead of chance; a model without a champion starts from chance all the same."""

    mode: str = "off"  # head: the last layers; lora: what is added to others has a low rank (Hu et al., 2021)
    layers: int = 1  # trained whole: of ``head``, and of ``lora`` beside what is added to others
    rank: int = 4  # of ``lora``
    epochs: int = 8  # instead of the student's own; there is no teacher
    freeze_scales: bool = True  # int8 files keep the champion's ranges where they still fit: a patch of a few KB
    patch_bytes: int = 4096  # of int8 weights that ``lora`` may change beside those layers: some channels; 0: all

    def __post_init__(self) -> None:
        choice("train.finetune.mode", self.mode, FINETUNE)
        require(1 <= self.layers <= 100, "train.finetune.layers", f"must be in 1..100, got {self.layers}")
        require(1 <= self.rank <= 256, "train.finetune.rank", f"must be in 1..256, got {self.rank}")
        require(self.patch_bytes >= 0, "train.finetune.patch_bytes", f"must not be negative, got {self.patch_bytes}")
        require(1 <= self.epochs <= 10_000, "train.finetune.epochs", f"must be in 1..10000, got {self.epochs}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySpec:
    """Samples of an older data set beside the new ones, so that what they taught is not forgotten."""

    dataset: str = ""  # empty: none
    version: int = 0  # of that data set; 0: as it stands
    share: float = 0.3  # of all training samples at most; its test samples are all kept, to see what was forgotten
    max_drop: float = 0.03  # of the metric on its test samples, against the champion; for errors the share it may grow by

    def __post_init__(self) -> None:
        require(self.version >= 0, "train.replay.version", f"must not be negative, got {self.version}")
        require(0 < self.share < 1, "train.replay.share", f"must be in 0..1, got {self.share}")
        require(0 <= self.max_drop <= 1, "train.replay.max_drop", f"must be in 0..1, got {self.max_drop}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSpec:
    batch_size: int = 64  # about 20 steps an epoch on 1,400 images: smaller learns faster per image, larger uses cores better
    # Parts a batch is worked off in: less memory, and the same gradient but for batch norm and for losses that are means over
    # boxes or costs, of which each part has its own.
    accumulate: int = 1
    optimizer: str = "adamw"
    momentum: float = 0.9  # of sgd
    lr: float = 3e-3  # AdamW with warm-up on small CNNs with batch norm; 1e-2 diverges now and then; SGD wants 0.05 or so
    schedule: str = "cosine"
    warmup: float = 0.1  # share of all steps
    weight_decay: float = 0.02  # of matrices and kernels only
    dropout: float | None = None  # of teacher and student, whatever their own sections say; None: as those say
    label_smoothing: float = 0.05  # labels from the field are not all right
    mixup: float = 0.0  # samples are mixed by shares from Beta(mixup, mixup) (Zhang et al., 2018); 0: never, 0.2 is usual
    clip: float = 2.0  # gradient norm
    ema: float = 0.0  # decay per step of the averaged weights, which are then those that are kept; 0: none, 0.995 is usual
    precision: str = "auto"  # auto: bf16 on a GPU that has it, else fp32
    compile: bool = False  # torch.compile: pays from some minutes of training on a GPU
    patience: int = 12  # epochs without a better validation score; small sets score in steps, so a plateau proves little
    minutes: float = 0.0  # budget of one network, beside its epochs: the first epoch shows how many fit; 0: none
    augment: tuple[str, ...] | None = None  # None: as the task does by default
    loss: str = ""  # "": as the task does by default
    balance: bool = True  # draw rare classes more often, where a sample has one
    teachers: int = 1  # with different seeds; their mean opinion is what the student learns
    temperature: float = 4.0  # of distillation (Hinton et al., 2015)
    alpha: float = 0.7  # weight of the teacher's opinion against the label's
    adversarial: AdversarialSpec = field(default_factory=AdversarialSpec)
    finetune: FinetuneSpec = field(default_factory=FinetuneSpec)
    replay: ReplaySpec = field(default_factory=ReplaySpec)
    processes: int = 1  # on this machine, each with its share of every batch; GPUs: one process each
    seed: int = 0  # of weights, batches and augmentation; splits do not depend on it

    def __post_init__(self) -> None:
        require(2 <= self.batch_size <= 65_536, "train.batch_size", f"must be in 2..65536, got {self.batch_size}")
        least = self.batch_size // 2
        require(1 <= self.accumulate <= least, "train.accumulate", f"must leave two samples to a part, got {self.accumulate}")
        choice("train.optimizer", self.optimizer, OPTIMIZERS)
        choice("train.schedule", self.schedule, SCHEDULES)
        choice("train.precision", self.precision, PRECISIONS)
        require(0 <= self.momentum < 1, "train.momentum", f"must be in 0..1, got {self.momentum}")
        require(0 < self.lr <= 1, "train.lr", f"must be in 0..1, got {self.lr}")
        require(0 <= self.warmup <= 0.9, "train.warmup", f"must be in 0..0.9, got {self.warmup}")
        require(0 <= self.weight_decay <= 1, "train.weight_decay", f"must be in 0..1, got {self.weight_decay}")
        require(self.dropout is None or 0 <= self.dropout < 1, "train.dropout", f"must be in 0..1, got {self.dropout}")
        require(0 <= self.label_smoothing < 1, "train.label_smoothing", f"must be in 0..1, got {self.label_smoothing}")
        require(0 <= self.mixup <= 10, "train.mixup", f"must be in 0..10, got {self.mixup}")
        require(self.clip > 0, "train.clip", f"must be positive, got {self.clip}")
        require(0 <= self.ema < 1, "train.ema", f"must be in 0..1, got {self.ema}")
        require(self.patience >= 1, "train.patience", f"must be 1 or more, got {self.patience}")
        require(self.minutes >= 0, "train.minutes", f"must not be negative, got {self.minutes}")
        require(1 <= self.teachers <= 16, "train.teachers", f"must be in 1..16, got {self.teachers}")
        require(1 <= self.temperature <= 100, "train.temperature", f"must be in 1..100, got {self.temperature}")
        require(0 <= self.alpha <= 1, "train.alpha", f"must be in 0..1, got {self.alpha}")
        require(0 <= self.seed < 2**31, "train.seed", f"must be in 0..{2**31 - 1}, got {self.seed}")
        require(1 <= self.processes <= 64, "train.processes", f"must be in 1..64, got {self.processes}")
