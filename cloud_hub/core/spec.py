"""How one model is trained, judged and deployed: the YAML a user writes, as values, each default with its reason."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from typing import Any

import yaml

from cloud_hub.core import tasks
from cloud_hub.core.checks import choice, require
from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec_sections.compress import CompressSpec as CompressSpec
from cloud_hub.core.spec_sections.data import DataSpec as DataSpec
from cloud_hub.core.spec_sections.deploy import DeploySpec as DeploySpec
from cloud_hub.core.spec_sections.evaluate import EvaluateSpec as EvaluateSpec
from cloud_hub.core.spec_sections.gate import GateSpec as GateSpec
from cloud_hub.core.spec_sections.labels import LabelsSpec as LabelsSpec
from cloud_hub.core.spec_sections.resources import ResourceSpec
from cloud_hub.core.spec_sections.train import TrainSpec as TrainSpec
from cloud_hub.core.spec_sections.triggers import TriggerSpec as TriggerSpec
from cloud_hub.core.spec_sections.tuning import TuningSpec as TuningSpec
from cloud_hub.core.tasks import Annotation, TaskDeclaration
from edge_agent.core import documents
from edge_agent.core.errors import ConfigError
from edge_agent.core.layers import build
from protos.contract.errors import ContractError
from protos.contract.ids import model_name

DEFAULT_TASK = "image-classification"
TARGETS = ("onnx-int8", "tflite-int8", "onnx-fp32", "tflite-fp32")
MAX_SPEC_BYTES = 64 * 1024
_SECTIONS = ("preprocess", "teacher", "student")  # of the task's own kind
_OFF = (("compress", "search"), ("train", "finetune", "mode"))  # where the word is one of several: YAML takes it for false


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec:
    """Valid by construction: raises Invalid naming the key."""

    name: str = ""  # required: of the model
    task: str = DEFAULT_TASK
    data: DataSpec = field(default_factory=DataSpec)
    preprocess: Any = None  # sections of the task's own kind; None: its defaults
    teacher: Any = None
    student: Any = None
    train: TrainSpec = field(default_factory=TrainSpec)
    compress: CompressSpec = field(default_factory=CompressSpec)
    targets: tuple[str, ...] = ("onnx-int8", "tflite-int8")
    gate: GateSpec = field(default_factory=GateSpec)
    evaluate: EvaluateSpec = field(default_factory=EvaluateSpec)
    labels: LabelsSpec = field(default_factory=LabelsSpec)
    triggers: TriggerSpec = field(default_factory=TriggerSpec)
    deploy: DeploySpec = field(default_factory=DeploySpec)
    resources: ResourceSpec = field(default_factory=ResourceSpec)
    tuning: TuningSpec = field(default_factory=TuningSpec)

    def __post_init__(self) -> None:
        try:
            model_name(self.name)
        except ContractError as error:
            raise Invalid(f"training spec: 'name': {error}") from error
        task = self.declared
        for key, default in (("preprocess", task.preprocess), ("teacher", task.teacher), ("student", task.student)):
            if getattr(self, key) is None:
                object.__setattr__(self, key, default())
        self._hand_on_dropout()
        self.teacher.check("teacher", self.preprocess)
        self.student.check("student", self.preprocess)
        for name in self.augment:
            choice("train.augment", name, task.augmentations or ("nothing",))
        choice("train.loss", self.loss, task.losses)
        metric = task.metric
        reachable = not metric.higher_is_better or self.bound <= metric.highest
        require(reachable, "gate.bound", f"must be {metric.highest} or less, for {metric.name} is never more: got {self.bound}")
        for key, asked in (("labels.pseudo", self.labels.pseudo), ("labels.noise.folds", self.labels.noise.folds > 0)):
            require(
                not asked or task.annotation is Annotation.CLASS, key, f"needs a task whose labels are classes, not {self.task}"
            )
        for key in task.unused:
            require(_at(self, key) == _default(key), key, f"is of no use to {self.task}: leave it out")
        whole = self.compress.search == "off" or self.train.finetune.mode == "off"
        require(whole, "compress.search", "must be off with 'train.finetune': nobody goes on from a network that was cut")
        require(len(self.targets) > 0, "targets", f"must name at least one of {', '.join(TARGETS)}")
        require(len(set(self.targets)) == len(self.targets), "targets", "names one target twice")
        for target in self.targets:
            choice("targets", target, TARGETS)
        both = self.train.dropout is not None or "train.dropout" in self.tuning.space
        require(
            not (both and "student.dropout" in self.tuning.space),
            "tuning.space.student.dropout",
            "makes no difference: 'train.dropout' is that of both networks",
        )
        for key, dimension in self.tuning.space.items():
            for value in dimension.ends():
                changed(replace(self, tuning=TuningSpec()), {key: value})

    def _hand_on_dropout(self) -> None:
        """``train.dropout`` is that of both networks, where one is given."""
        if (share := self.train.dropout) is None:
            return
        for key in ("teacher", "student"):
            section = getattr(self, key)
            require(hasattr(section, "dropout"), "train.dropout", f"makes no difference to {self.task}: its networks have none")
            object.__setattr__(self, key, replace(section, dropout=share))

    @property
    def declared(self) -> TaskDeclaration:
        return tasks.find(self.task)

    @property
    def augment(self) -> tuple[str, ...]:
        return self.declared.augment if self.train.augment is None else self.train.augment

    @property
    def loss(self) -> str:
        return self.train.loss or self.declared.losses[0]

    @property
    def bound(self) -> float:
        return self.declared.bound if self.gate.bound is None else self.gate.bound


def read(text: str) -> dict[Any, Any]:
    """The keys as they stand there. Raises Invalid."""
    if len(text) > MAX_SPEC_BYTES:
        raise Invalid(f"training spec: {len(text)} characters, more than {MAX_SPEC_BYTES}")
    try:
        values = documents.load(text)
    except yaml.YAMLError as error:
        raise Invalid(f"training spec is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise Invalid(f"training spec must be a mapping of keys, got {type(values).__name__}")
    for *sections, last in _OFF:
        place: Any = values
        for section in sections:
            place = place.get(section) if isinstance(place, dict) else None
        if isinstance(place, dict) and place.get(last) is False:
            place[last] = "off"
    return values


def parse(text: str) -> TrainingSpec:
    """Raises Invalid naming the key, and for an unknown one the nearest known key."""
    values = read(text)
    task = tasks.find(str(values.get("task", DEFAULT_TASK)))
    try:
        common = {key: value for key, value in values.items() if key not in _SECTIONS}
        sections = {
            "preprocess": _section(values, "preprocess", task.preprocess),
            "teacher": _section(values, "teacher", task.network, task.teacher()),
            "student": _section(values, "student", task.network, task.student()),
        }
        return build(TrainingSpec, {**common, **sections})
    except ConfigError as error:
        raise Invalid(f"training spec: {error}") from error


def _section(values: dict[Any, Any], key: str, kind: type[Any], default: Any = None) -> Any:
    """What a user leaves out is filled in before the dataclass is built. Raises ConfigError."""
    given = values.get(key)
    if given is not None and not isinstance(given, dict):
        raise ConfigError(f"'{key}' must be a mapping, got {type(given).__name__}")
    return build(kind, {**(asdict(default) if default is not None else {}), **(given or {})}, key)


def changed(spec: TrainingSpec, settings: Mapping[str, Any]) -> TrainingSpec:
    """The same with ``settings`` by dotted key, as "train.lr". Raises Invalid."""
    values = _plain(asdict(spec))
    for key, value in settings.items():
        *sections, last = key.split(".")
        place = values
        for section in sections:
            require(isinstance(place.get(section), dict), key, "is no setting of this task")
            place = place[section]
        place[last] = value
    return parse(yaml.safe_dump(values, sort_keys=False))


def sections(task: TaskDeclaration) -> str:
    """YAML of a task's own sections with their defaults."""
    values = {"preprocess": task.preprocess(), "teacher": task.teacher(), "student": task.student()}
    return yaml.safe_dump(_plain({key: asdict(value) for key, value in values.items()}), sort_keys=False)


def dump(spec: TrainingSpec) -> str:
    """YAML with every default written out; ``parse`` gives the same spec back."""
    return yaml.safe_dump(_plain(asdict(spec)), sort_keys=False)


def _at(spec: TrainingSpec, key: str) -> Any:
    """The value at a dotted key."""
    return reduce(getattr, key.split("."), spec)


def _default(key: str) -> Any:
    """Of a section that is the same for all tasks."""
    section, _, rest = key.partition(".")
    return reduce(getattr, rest.split("."), _COMMON[section]())


_COMMON: dict[str, Callable[[], Any]] = {"labels": LabelsSpec, "train": TrainSpec, "triggers": TriggerSpec}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
