"""What a model says of the samples of a split, as a device would say it, beside what it should have said."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_hub.pipeline.classes import probabilities
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.evaluation.curves import Floats
from cloud_hub.pipeline.task import Outputs, Task
from protos.contract.outputs import Classification, Output, Ranking, Reconstruction, Values


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labelled:
    """Answers that are one of several labels, and right or wrong."""

    labels: tuple[str, ...]
    said: NDArray[np.int64]  # (N,)
    truths: NDArray[np.int64]  # (N,)
    confidence: Floats  # (N,) 0..1
    scores: Floats  # (N, labels): the higher, the likelier

    @property
    def right(self) -> NDArray[np.bool_]:
        return np.equal(self.said, self.truths)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Numeric:
    """Answers that are numbers."""

    names: tuple[str, ...]
    values: Floats  # (N, k), in their own units
    truths: Floats  # (N, k); NaN where it is not known
    headline: int


def answers(task: Task, outputs: Outputs, split: Split, splits: Splits, output: Output) -> Labelled | Numeric | None:
    """None where an answer is neither: of boxes the task's own score speaks."""
    classes = split.targets.ndim == 1 and np.issubdtype(split.targets.dtype, np.integer)
    match output:
        case Classification() | Ranking() if classes:
            scores = probabilities(outputs, output.temperature).astype(np.float64)
            return _labelled(scores, split, output)
        case Reconstruction() if classes:
            told = task.predictions(outputs, split, splits, output)
            errors = np.array([each.value or 0.0 for each in told])
            share = errors / (errors + output.threshold)
            return _labelled(np.stack([1 - share, share], axis=1), split, output)
        case Values() if split.targets.ndim == 2:
            return _numeric(outputs, split, output)
    return None


def _labelled(scores: Floats, split: Split, output: Output) -> Labelled | None:
    if not 0 <= split.targets.min() <= split.targets.max() < scores.shape[1]:
        return None
    said = scores.argmax(axis=1)
    return Labelled(
        labels=output.labels, said=said, truths=split.targets.astype(np.int64), confidence=scores.max(axis=1), scores=scores
    )


def _numeric(outputs: Outputs, split: Split, output: Values) -> Numeric:
    """Of a network that gives quantiles those that stand for the values: the block the headline is in."""
    width = split.targets.shape[1]
    block = output.headline // width * width
    mean, std = (np.array(each[block : block + width]) for each in (output.mean, output.std))
    return Numeric(
        names=output.names[block : block + width],
        values=outputs[:, block : block + width] * std + mean,
        truths=split.targets[:, :width] * std + mean,
        headline=output.headline - block,
    )
