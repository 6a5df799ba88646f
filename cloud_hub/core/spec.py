"""How one model is trained, judged and deployed: the YAML a user writes, as values, each default with its reason."""

from dataclasses import asdict, dataclass, field
from typing import Any

import yaml

from cloud_hub.core.errors import Invalid
from edge_agent.core import documents
from edge_agent.core.config import build
from edge_agent.core.errors import ConfigError
from protos.contract.errors import ContractError
from protos.contract.ids import model_name

TASKS = ("image-classification",)
TARGETS = ("onnx-int8", "tflite-int8", "onnx-fp32", "tflite-fp32")
AUGMENTATIONS = ("brightness", "blur", "noise", "shift", "invert", "flip")
SPLIT_BY = ("source", "image")
MAX_SPEC_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSpec:
    dataset: str = ""  # required
    split_by: str = "source"  # frames of one camera or track resemble each other: parting them would flatter the score
    take_s: int = 60  # a camera's frames from different spans of this length count as different sources; 0: never
    val_share: float = 0.15  # of the sources; picks the epoch, the temperature and the drift baseline
    test_share: float = 0.15  # of the sources; seen only by the gate
    min_samples: int = 100  # labelled and usable; below it a score means little
    max_samples: int = 200_000  # held decoded in memory: 3 kB each at 32x32, 27 kB at 96x96
    calibration: int = 256  # training images that fix the int8 ranges; more changed nothing measurable

    def __post_init__(self) -> None:
        _require(self.dataset != "", "data.dataset", "is required: the data set to train on")
        _choice("data.split_by", self.split_by, SPLIT_BY)
        _require(self.take_s >= 0, "data.take_s", f"must not be negative, got {self.take_s}")
        for name in ("val_share", "test_share"):
            share = getattr(self, name)
            _require(0.01 <= share <= 0.5, f"data.{name}", f"must be in 0.01..0.5, got {share}")
        _require(self.val_share + self.test_share <= 0.8, "data.val_share", "and data.test_share leave under 20 % to train on")
        _require(10 <= self.min_samples <= self.max_samples, "data.min_samples", "must be in 10..data.max_samples")
        _require(8 <= self.calibration <= 10_000, "data.calibration", f"must be in 8..10000, got {self.calibration}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    width: int = 32
    height: int = 32
    channels: int = 3  # 1: grey

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            side = getattr(self, name)
            _require(8 <= side <= 1024, f"preprocess.{name}", f"must be in 8..1024, got {side}")
        _require(self.channels in (1, 3), "preprocess.channels", f"must be 1 (grey) or 3 (RGB), got {self.channels}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """A stem and ``stages`` blocks of convolutions, each halving the picture and doubling the channels."""

    width: int  # channels of the stem
    stages: int = 3
    convs: int = 1  # 3x3 convolutions per stage
    depthwise: bool = False  # fewer operations, but slower than plain convolutions below about 64 channels
    epochs: int

    def check(self, where: str, image: ImageSpec) -> None:
        """Raises Invalid naming the key under ``where``."""
        _require(4 <= self.width <= 512, f"{where}.width", f"must be in 4..512, got {self.width}")
        _require(1 <= self.stages <= 6, f"{where}.stages", f"must be in 1..6, got {self.stages}")
        _require(1 <= self.convs <= 8, f"{where}.convs", f"must be in 1..8, got {self.convs}")
        _require(1 <= self.epochs <= 10_000, f"{where}.epochs", f"must be in 1..10000, got {self.epochs}")
        small = min(image.width, image.height) >> self.stages
        _require(
            small >= 1, f"{where}.stages", f"{self.stages} halvings leave nothing of {image.width} x {image.height} pixels"
        )


def _teacher() -> NetworkSpec:
    return NetworkSpec(width=24, convs=1, epochs=28)  # half of it cost six points on photos of traffic signs


def _student() -> NetworkSpec:
    return NetworkSpec(
        width=16, convs=1, epochs=36
    )  # 100 k parameters: about 110 kB in int8; it learns slower than its teacher


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSpec:
    batch_size: int = 64  # about 20 steps an epoch on 1,400 images: smaller learns faster per image, larger uses cores better
    lr: float = 3e-3  # AdamW with warm-up on small CNNs with batch norm; 1e-2 diverges now and then
    weight_decay: float = 0.02
    label_smoothing: float = 0.05  # labels from the field are not all right
    warmup: float = 0.1  # share of all steps
    patience: int = 12  # epochs without a better validation score; small sets score in steps, so a plateau proves little
    clip: float = 2.0  # gradient norm
    augment: tuple[str, ...] = ("brightness", "noise", "shift")  # flips and inversion change the meaning of signs and digits
    balance: bool = True  # draw rare classes more often
    temperature: float = 4.0  # of distillation (Hinton et al., 2015)
    alpha: float = 0.7  # weight of the teacher's opinion against the label's
    seed: int = 0  # of weights, batches and augmentation; splits do not depend on it

    def __post_init__(self) -> None:
        _require(2 <= self.batch_size <= 65_536, "train.batch_size", f"must be in 2..65536, got {self.batch_size}")
        _require(0 < self.lr <= 1, "train.lr", f"must be in 0..1, got {self.lr}")
        _require(0 <= self.weight_decay <= 1, "train.weight_decay", f"must be in 0..1, got {self.weight_decay}")
        _require(0 <= self.label_smoothing < 1, "train.label_smoothing", f"must be in 0..1, got {self.label_smoothing}")
        _require(0 <= self.warmup <= 0.9, "train.warmup", f"must be in 0..0.9, got {self.warmup}")
        _require(self.patience >= 1, "train.patience", f"must be 1 or more, got {self.patience}")
        _require(self.clip > 0, "train.clip", f"must be positive, got {self.clip}")
        _require(1 <= self.temperature <= 100, "train.temperature", f"must be in 1..100, got {self.temperature}")
        _require(0 <= self.alpha <= 1, "train.alpha", f"must be in 0..1, got {self.alpha}")
        for name in self.augment:
            _choice("train.augment", name, AUGMENTATIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSpec:
    """What a model must hold on the test split, in the device's runtime, to be published."""

    min_accuracy: float = 0.8  # 0..1
    max_accuracy_drop: float = 0.02  # 0..1, file against the network it was made from
    max_output_error: float = 0.1  # |file - network| / |network| of the logits: accuracy alone hides a clipped range
    max_size_bytes: int = 16 << 20  # the smallest board's limit
    min_gain: float = 0.0  # 0..1, over the champion on the same test split; 0: match it, below 0: may be that much worse

    def __post_init__(self) -> None:
        _require(0 <= self.min_accuracy <= 1, "gate.min_accuracy", f"must be in 0..1, got {self.min_accuracy}")
        _require(0 <= self.max_accuracy_drop <= 1, "gate.max_accuracy_drop", f"must be in 0..1, got {self.max_accuracy_drop}")
        _require(0 < self.max_output_error <= 10, "gate.max_output_error", f"must be in 0..10, got {self.max_output_error}")
        _require(self.max_size_bytes >= 1024, "gate.max_size_bytes", f"must be 1024 or more, got {self.max_size_bytes}")
        _require(-1 <= self.min_gain <= 1, "gate.min_gain", f"must be in -1..1, got {self.min_gain}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerSpec:
    """When to train again by itself. Triggers that come together make one job."""

    drift: bool = True  # an episode of drift asks for a job
    cron: str = ""  # five fields, UTC; empty: never
    min_new_labels: int = (
        50  # labels since the last training before drift or cron make a job: the same data gives the same model
    )
    on_labels: int = 0  # so many new labels make a job on their own; 0: never

    def __post_init__(self) -> None:
        fields = len(self.cron.split())
        _require(fields in (0, 5), "triggers.cron", f"must have five fields, got {self.cron!r}")
        _require(self.min_new_labels >= 0, "triggers.min_new_labels", f"must not be negative, got {self.min_new_labels}")
        _require(self.on_labels >= 0, "triggers.on_labels", f"must not be negative, got {self.on_labels}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploySpec:
    """The rollout a published version starts by itself."""

    auto: bool = False
    selector: dict[str, str] = field(default_factory=dict)  # labels a device must have; empty: every device
    canary: int = 1  # devices in the first wave; 0: one wave
    soak_s: int = 60  # quiet time after the last commit of a wave
    max_failures: int = 0  # devices that may fail before everyone is sent back

    def __post_init__(self) -> None:
        for name in ("canary", "soak_s", "max_failures"):
            _require(getattr(self, name) >= 0, f"deploy.{name}", f"must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec:
    """Valid by construction: raises Invalid naming the key."""

    name: str = ""  # required: of the model
    task: str = TASKS[0]
    data: DataSpec = field(default_factory=DataSpec)
    preprocess: ImageSpec = field(default_factory=ImageSpec)
    teacher: NetworkSpec = field(default_factory=_teacher)
    student: NetworkSpec = field(default_factory=_student)
    train: TrainSpec = field(default_factory=TrainSpec)
    targets: tuple[str, ...] = ("onnx-int8", "tflite-int8")
    gate: GateSpec = field(default_factory=GateSpec)
    triggers: TriggerSpec = field(default_factory=TriggerSpec)
    deploy: DeploySpec = field(default_factory=DeploySpec)

    def __post_init__(self) -> None:
        try:
            model_name(self.name)
        except ContractError as error:
            raise Invalid(f"training spec: 'name': {error}") from error
        _choice("task", self.task, TASKS)
        self.teacher.check("teacher", self.preprocess)
        self.student.check("student", self.preprocess)
        _require(self.teacher.width >= self.student.width, "teacher.width", "must not be smaller than student.width")
        _require(len(self.targets) > 0, "targets", f"must name at least one of {', '.join(TARGETS)}")
        _require(len(set(self.targets)) == len(self.targets), "targets", "names one target twice")
        for target in self.targets:
            _choice("targets", target, TARGETS)


def parse(text: str) -> TrainingSpec:
    """Raises Invalid naming the key, and for an unknown one the nearest known key."""
    if len(text) > MAX_SPEC_BYTES:
        raise Invalid(f"training spec: {len(text)} characters, more than {MAX_SPEC_BYTES}")
    try:
        values = documents.load(text)
    except yaml.YAMLError as error:
        raise Invalid(f"training spec is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise Invalid(f"training spec must be a mapping of keys, got {type(values).__name__}")
    try:
        return build(TrainingSpec, _complete(values))
    except ConfigError as error:
        raise Invalid(f"training spec: {error}") from error


def dump(spec: TrainingSpec) -> str:
    """YAML with every default written out; ``parse`` gives the same spec back."""
    return yaml.safe_dump(_plain(asdict(spec)), sort_keys=False)


def _complete(values: dict[Any, Any]) -> dict[Any, Any]:
    """Networks have defaults of their own, so what a user leaves out is filled in before the dataclass is built."""
    filled = dict(values)
    for key, default in (("teacher", _teacher()), ("student", _student())):
        if isinstance(filled.get(key), dict):
            filled[key] = {**asdict(default), **filled[key]}
    return filled


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _require(holds: bool, key: str, problem: str) -> None:
    if not holds:
        raise Invalid(f"training spec: '{key}' {problem}")


def _choice(key: str, value: str, known: tuple[str, ...]) -> None:
    _require(value in known, key, f"must be one of {', '.join(known)}, got {value!r}")
