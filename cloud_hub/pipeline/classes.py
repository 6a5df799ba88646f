"""What all tasks share whose answer is one of several classes."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cloud_hub.core.errors import Invalid
from cloud_hub.pipeline import data, losses, slips, split
from cloud_hub.pipeline.clean import Decode, Item, RawSample, clean
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.split import SPLITS, TRAIN
from cloud_hub.pipeline.task import Loss, Outputs, Score, Task
from edge_agent.infer.inputs import Content
from protos.contract.inputs import Input
from protos.contract.outputs import Classification, Output

UNCERTAIN_SHARE = 0.05  # of the validation split: what a device flags (and captures first) while nothing drifts


class Classes(Task):
    """Still to be said: how samples are decoded, what input is fitted on them, and the network."""

    # -- data -------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def decoder(self) -> Decode:
        """From a stored sample to what a device sees."""

    @abstractmethod
    def fit_input(self, items: Sequence[Item]) -> Input:
        """Fitted on the items of the training split."""

    def stack(self, contents: Sequence[Content]) -> Any:
        """``Split.contents``."""
        return contents

    def load(self, labels: tuple[str, ...], samples: Iterable[RawSample]) -> Splits:
        spec = self.spec
        items, report = clean(samples, self.decoder(), labels, limit=spec.data.max_samples, limit_bytes=spec.data.max_bytes)
        if len(items) < spec.data.min_samples:
            raise data.unusable(f"{len(items)} usable samples, data.min_samples is {spec.data.min_samples}", spec, report)
        present = {item.label for item in items}
        if len(present) < 2:
            raise data.unusable(
                f"all samples are labelled '{present.pop()}': a classifier needs two classes or more", spec, report
            )
        try:
            parts, notes = split.assign(items, spec.data)
        except Invalid as error:
            raise data.unusable(str(error), spec, report) from error
        report.notes += notes
        if spec.labels.noise.find and spec.labels.noise.sources:
            items = slips.mended(items, parts, report)
        trained = {item.label for item, part in zip(items, parts, strict=True) if part == TRAIN}
        known = tuple(label for label in labels if label in trained)
        if unused := [label for label in labels if label not in trained]:
            report.notes.append(f"the model will not know {', '.join(map(repr, unused))}: no sample to train on")
        rows = {name: [item for item in some if item.label in trained] for name, some in data.by_split(items, parts).items()}
        try:
            input = self.fit_input(rows[TRAIN])
        except Invalid as error:
            raise data.unusable(str(error), spec, report) from error
        train, val, test = (self._split(rows[name], known, input) for name in SPLITS)
        return Splits(
            labels=known,
            train=train,
            val=val,
            test=test,
            calibration=data.even(rows[TRAIN], spec.data.calibration),
            input=input,
            fingerprint=data.fingerprint(rows),
            report=report,
        )

    def more(self, items: Sequence[Item], splits: Splits) -> Split:
        """Further items, as those of ``splits`` are; each must bear one of its labels."""
        return self._split(items, splits.labels, splits.input)

    def _split(self, items: Sequence[Item], labels: tuple[str, ...], input: Input) -> Split:
        index = {label: i for i, label in enumerate(labels)}
        contents = self.stack([item.content for item in items])
        return Split(
            contents=contents,
            inputs=self.inputs(contents, input),
            targets=np.array([index[item.label] for item in items], dtype=np.int64),
            groups=tuple(item.group for item in items),
            origins=tuple(item.origin for item in items),
        )

    # -- network ----------------------------------------------------------------------------------------------------------

    def loss(self, splits: Splits) -> Loss:
        of = losses.focal if self.spec.loss == "focal" else losses.cross_entropy

        def loss(outputs: Tensor, batch: Tensor, targets: Tensor) -> Tensor:
            return of(outputs, targets, smoothing=self.spec.train.label_smoothing)

        return loss

    def distance(self, own: Tensor, teacher: Tensor) -> Tensor:
        return soft_distance(own, teacher, self.spec.train.temperature)

    # -- judgement --------------------------------------------------------------------------------------------------------

    def value(self, outputs: Outputs, split: Split, splits: Splits) -> float:
        return float((outputs.argmax(1) == split.targets).mean())

    def each(self, outputs: Outputs, split: Split, splits: Splits) -> NDArray[np.float64] | None:
        return np.equal(outputs.argmax(1), split.targets).astype(np.float64)

    def score(self, outputs: Outputs, split: Split, splits: Splits) -> Score:
        labels, classes = splits.labels, len(splits.labels)
        pairs = np.bincount(split.targets * classes + outputs.argmax(1), minlength=classes * classes)
        confusion = pairs.reshape(classes, classes)
        recall = {
            name: float(row[i] / row.sum()) for i, (name, row) in enumerate(zip(labels, confusion, strict=True)) if row.sum()
        }
        return Score(
            value=self.value(outputs, split, splits),
            samples=len(split),
            by_class=recall,
            class_samples={name: int(row.sum()) for name, row in zip(labels, confusion, strict=True) if row.sum()},
            by_group=self.by_group(outputs, split, splits),
            details={
                "confusion": [[int(n) for n in row] for row in confusion],  # truth down, prediction across
                "confidence": round(float(probabilities(outputs, 1.0).max(1).mean()), 4),
            },
        )

    # -- the device -------------------------------------------------------------------------------------------------------

    def translated(self, outputs: Outputs, theirs: Output, splits: Splits) -> Outputs:
        return known_to(outputs, theirs.labels, splits.labels)

    def output(self, splits: Splits, outputs: Outputs | None = None) -> Classification:
        if outputs is None:
            return Classification(labels=splits.labels)
        temperature = fit_temperature(outputs, np.tile(splits.val.targets, len(outputs) // len(splits.val)))
        threshold = uncertain_below(outputs, temperature)
        return Classification(labels=splits.labels, min_confidence=threshold, temperature=temperature)


def soft_distance(own: Tensor, teacher: Tensor, heat: float) -> Tensor:
    """Of a student's logits ``(B, classes)`` from its teacher's, both over the temperature ``heat``."""
    soft = functional.log_softmax(own.float() / heat, dim=1)
    opinion = functional.log_softmax(teacher.float() / heat, dim=1)
    # heat squared keeps the gradient's size independent of the temperature (Hinton et al., 2015, section 2.1)
    return functional.kl_div(soft, opinion, reduction="batchmean", log_target=True) * heat * heat


def known_to(outputs: Outputs, theirs: tuple[str, ...], ours: tuple[str, ...]) -> Outputs:
    """Columns in our order. A class they do not know is never their answer: the fleet would get it wrong."""
    index = {label: i for i, label in enumerate(theirs)}
    mapped = np.full((len(outputs), len(ours) + 1), -np.inf, np.float32)
    for i, label in enumerate(ours):
        if label in index:
            mapped[:, i] = outputs[:, index[label]]
    others = [i for label, i in index.items() if label not in ours]
    if others:  # what they say and we do not know is wrong here: it takes the last column, which is no class
        mapped[:, -1] = outputs[:, others].max(axis=1)
    return mapped


def probabilities(outputs: Outputs, temperature: float) -> NDArray[np.float32]:
    """(N, classes), each row sums to 1; the device's formula."""
    powers: Outputs = np.exp((outputs - outputs.max(axis=1, keepdims=True)) / np.float32(temperature))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def fit_temperature(outputs: Outputs, labels: NDArray[np.int64]) -> float:
    """The temperature under which confidence means accuracy: least negative log-likelihood (Guo et al., 2017)."""
    candidates = np.exp(np.linspace(np.log(0.1), np.log(10.0), 141))  # 3.3 % apart: finer is noise on a validation split
    rows = np.arange(len(labels))
    losses = [-np.log(np.maximum(probabilities(outputs, t)[rows, labels], 1e-12)).mean() for t in candidates]
    return float(np.float32(candidates[int(np.argmin(losses))]))


def uncertain_below(outputs: Outputs, temperature: float) -> float:
    """The confidence below which UNCERTAIN_SHARE of the validation split falls."""
    return float(np.float32(np.quantile(probabilities(outputs, temperature).max(1), UNCERTAIN_SHARE)))
