"""What a task must know to be trained, judged and deployed; everything else is the same for all of them."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import TrainingSpec
from cloud_hub.core.tasks import Metric, load_file
from cloud_hub.pipeline.clean import RawSample
from cloud_hub.pipeline.data import Split, Splits
from edge_agent.core.model import Prediction
from edge_agent.infer.answers import answer
from edge_agent.infer.inputs import Content, tensor_of, tensors_of
from protos.contract.inputs import Input
from protos.contract.manifest import Manifest
from protos.contract.outputs import Output

Outputs = NDArray[np.float32]  # (N, size): what networks and files give, one flat row per sample
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # outputs (B, ...), the network's input (B, ...), targets (B, ...) -> scalar

SMALL_GROUP = 5  # samples: the metric of fewer says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    value: float  # of the task's metric
    samples: int
    by_class: Mapping[str, float] = field(default_factory=dict)  # of those there are; what it is, the task says
    class_samples: Mapping[str, int] = field(default_factory=dict)  # behind each of ``by_class``; the gate looks at large ones
    by_group: Mapping[str, float] = field(default_factory=dict)  # the metric per device, of those with enough samples
    details: Mapping[str, Any] = field(default_factory=dict)  # JSON: other figures, a confusion matrix

    def as_json(self, metric: Metric) -> dict[str, object]:
        return {
            metric.name: round(self.value, 5),
            "samples": self.samples,
            "by_class": {name: round(value, 4) for name, value in self.by_class.items()},
            "by_group": {name: round(value, 4) for name, value in self.by_group.items()},
            **self.details,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detected:
    """What was found of one class."""

    score: NDArray[np.float64]  # (n,) of each find
    right: NDArray[np.bool_]  # (n,)
    truths: int  # there were to be found


class Feeder(nn.Module):
    """From a split's inputs to the network's. The two steps are apart so that data can be varied between them.

    This one is for tensors as devices make them, which the network takes as they are.
    """

    def light(self, inputs: Tensor) -> Tensor:
        """A batch of ``Split.inputs`` as float."""
        return inputs.float()

    def vary(self, light: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Augmented; both may be new."""
        return light, targets

    def forward(self, light: Tensor) -> Tensor:
        """What the network takes."""
        return light


class Task(ABC):
    """One problem of one specification. Implementations are small: data in, network, loss, metric, the device's output."""

    def __init__(self, spec: TrainingSpec) -> None:
        self.spec = spec
        self.metric = spec.declared.metric

    def under(self, spec: TrainingSpec) -> Self:
        """The same problem, with what it has learned of its data, under another specification of it."""
        other = copy.copy(self)
        other.spec = spec
        return other

    # -- data -------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def load(self, labels: tuple[str, ...], samples: Iterable[RawSample]) -> Splits:
        """Clean, split without leaks, fit what is to be fitted on the training split alone. ``labels``: the data set's.

        Raises:
            Invalid: nothing can be trained, with the cleaning report in words.
        """

    def in_units_of(self, splits: Splits, theirs: Output) -> Splits:
        """What is to be told, in the units of a version that is trained further; ``splits.input`` is that version's already.

        Raises:
            Invalid: it tells something else.
        """
        return splits

    def inputs(self, contents: Sequence[Content], input: Input) -> NDArray[Any]:
        """``Split.inputs``: what the ``feeder`` takes."""
        return tensors_of(contents, input)

    def feeder(self, splits: Splits) -> Feeder:
        return Feeder()

    # -- network ----------------------------------------------------------------------------------------------------------

    @abstractmethod
    def network(self, section: Any, splits: Splits) -> nn.Module:
        """``section``: the spec's ``teacher`` or ``student``. Its output, flattened per sample, is what the device's output
        decodes. It must export with a free batch to ONNX and with a batch of 1 to TFLite."""

    @abstractmethod
    def loss(self, splits: Splits) -> Loss:
        """Against the targets, as the spec's ``train.loss`` and its parameters say."""

    @abstractmethod
    def distance(self, own: Tensor, teacher: Tensor) -> Tensor:
        """How far a student's outputs are from its teacher's, as a scalar of the size of ``loss``; of distillation."""

    # -- judgement --------------------------------------------------------------------------------------------------------

    @abstractmethod
    def value(self, outputs: Outputs, split: Split, splits: Splits) -> float:
        """The metric, for rows of a split; quick, for it is asked thousands of times with rows drawn again. Several processes
        that train together ask it without ``split.contents``."""

    def each(self, outputs: Outputs, split: Split, splits: Splits) -> NDArray[np.float64] | None:
        """``(N,)``: what each sample gives, where ``value`` is the mean of that; drawing rows again is then quick."""
        return None

    def comparable(self, part: Split, whole: Split) -> bool:
        """The metric of some rows measures the same as that of the split they are of."""
        return True

    def detected(self, outputs: Outputs, split: Split, splits: Splits) -> Mapping[str, Detected]:
        """By class, of tasks that find things in a sample; of others nothing."""
        return {}

    def score(self, outputs: Outputs, split: Split, splits: Splits) -> Score:
        """With what the metric alone hides."""
        return Score(
            value=self.value(outputs, split, splits), samples=len(split), by_group=self.by_group(outputs, split, splits)
        )

    def by_group(self, outputs: Outputs, split: Split, splits: Splits) -> dict[str, float]:
        groups = np.array(split.groups)
        found = {}
        for name in np.unique(groups):
            rows = np.flatnonzero(groups == name)
            if name and len(rows) >= SMALL_GROUP:
                part = split.take(rows)
                if self.comparable(part, split):
                    found[str(name)] = self.value(outputs[rows], part, splits)
        return found

    # -- the device -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def output(self, splits: Splits, outputs: Outputs | None = None) -> Output:
        """How devices read the outputs.

        Args:
            outputs: of one or more files on the validation split, row after row of each file, to calibrate confidence and
                thresholds on; None: not calibrated.
        """

    def translated(self, outputs: Outputs, theirs: Output, splits: Splits) -> Outputs:
        """What another version's file gave, in the order and the units of this job. Raises Invalid where that cannot be."""
        if theirs.size != self.output(splits).size:
            raise Invalid(f"its output has {theirs.size} values, this job's {self.output(splits).size}")
        return outputs

    def from_champion(self, outputs: Outputs, theirs: Manifest, splits: Splits) -> Outputs:
        """The same, where what its input made of the samples matters too."""
        return self.translated(outputs, theirs.output, splits)

    def usual_rows(self, split: Split) -> NDArray[np.int64]:
        """Those like what a file is calibrated on: by them it is held against its network. At least one."""
        return np.arange(len(split))

    def golden_rows(self, split: Split, count: int) -> NDArray[np.int64]:
        """Rows that show as much of the data as ``count`` samples can: of each class in turn where targets are classes."""
        if split.targets.ndim != 1 or not np.issubdtype(split.targets.dtype, np.integer):
            return np.unique(np.linspace(0, len(split) - 1, min(count, len(split))).astype(np.int64))
        turn = np.zeros(len(split), np.int64)
        for target in np.unique(split.targets):
            rows = np.flatnonzero(split.targets == target)
            turn[rows] = np.arange(len(rows))
        order: NDArray[np.int64] = np.lexsort((np.arange(len(split)), turn))
        return order[:count]

    def predictions(self, outputs: Outputs, split: Split, splits: Splits, output: Output) -> list[Prediction]:
        """What a device would say."""
        return [
            answer(row, tensor_of(content, splits.input), output) for row, content in zip(outputs, split.contents, strict=True)
        ]


def make(spec: TrainingSpec) -> Task:
    """Raises Invalid where the declaration names no task."""
    module, _, name = spec.declared.implementation.rpartition(":")
    try:
        kind = getattr(load_file(Path(module)) if module.endswith(".py") else import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise Invalid(f"task {spec.task!r} cannot be loaded from {spec.declared.implementation}: {error}") from error
    if not (isinstance(kind, type) and issubclass(kind, Task)):
        raise Invalid(f"task {spec.task!r}: {spec.declared.implementation} is no Task")
    return kind(spec)


@torch.inference_mode()
def predict(network: nn.Module, feeder: Feeder, inputs: NDArray[Any], *, batch: int = 256) -> Outputs:
    """``(N, size)`` for ``Split.inputs``; both modules on one device."""
    network.eval()
    place = next(network.parameters()).device
    parts = []
    for start in range(0, len(inputs), batch):
        light = feeder.light(torch.from_numpy(inputs[start : start + batch]).to(place))
        parts.append(network(feeder(light)).flatten(1).float().cpu().numpy())
    return np.concatenate(parts)
