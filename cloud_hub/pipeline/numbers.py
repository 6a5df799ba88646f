"""What all tasks share whose answer is numbers."""

import json
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cloud_hub.core.errors import Invalid
from cloud_hub.pipeline import data, losses, split
from cloud_hub.pipeline.clean import CleaningReport, Decode, Item, RawSample, clean
from cloud_hub.pipeline.columns import far_off
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.split import SPLITS, TRAIN
from cloud_hub.pipeline.task import Loss, Outputs, Score, Task
from edge_agent.infer.inputs import tensors_of
from protos.contract.inputs import Input
from protos.contract.outputs import Output, Values

LOSSES = ("mse", "huber", "quantile")  # of every task here, the first by default
_BINS = 10  # deciles of the training targets: a device's labels are then a picture of what it usually says
SHOWN = 32  # values whose own errors are reported; more would bury the rest
_MIN_STD = 1e-6


class Numbers(Task):
    """Still to be said: how samples are decoded, what input is fitted on them, and the network.

    Targets are ``(N, k)`` float32, scaled to mean 0 and deviation 1 on the training split. Under the loss ``quantile`` a
    network gives k values for each of ``levels``, level after level; errors are then those of the middle one.
    """

    # -- data -------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def decoder(self) -> Decode:
        """From a stored sample to what a device sees."""

    @abstractmethod
    def fit_input(self, items: Sequence[Item], notes: list[str]) -> Input:
        """Fitted on the items of the training split; what is worth a user's attention is added to ``notes``."""

    def names(self, count: int) -> tuple[str, ...]:
        """Of the values of a label."""
        return ("value",) if count == 1 else tuple(f"value{i + 1}" for i in range(count))

    def read(self, label: str) -> NDArray[np.float64] | None:
        """``(k,)`` from a sample's label, or None: it has none."""
        return numbers_of(label)

    @property
    def levels(self) -> tuple[float, ...]:
        """Of quantiles, ascending; one level: the network gives each value once."""
        return tuple(self.spec.preprocess.quantiles) if self.spec.loss == "quantile" else (0.5,)

    def load(self, labels: tuple[str, ...], samples: Iterable[RawSample]) -> Splits:
        spec = self.spec
        items, report = clean(samples, self.decoder(), None, limit=spec.data.max_samples, limit_bytes=spec.data.max_bytes)
        items = self._labelled(items, report)
        if len(items) < spec.data.min_samples:
            raise data.unusable(f"{len(items)} usable samples, data.min_samples is {spec.data.min_samples}", spec, report)
        try:
            parts, notes = split.assign(items, spec.data, classes=False)
            rows = data.by_split(items, parts)
            input = self.fit_input(rows[TRAIN], notes)
            told = np.stack([item.target for item in rows[TRAIN]])
            facts = self.scale(told)
            notes += far_off(facts["values"], told)
        except Invalid as error:
            raise data.unusable(str(error), spec, report) from error
        report.notes += notes
        train, val, test = (self._split(rows[name], input, facts["output"]) for name in SPLITS)
        return Splits(
            labels=facts["output"].labels,
            train=train,
            val=val,
            test=test,
            calibration=data.even(rows[TRAIN], spec.data.calibration),
            input=input,
            fingerprint=data.fingerprint(rows),
            report=report,
            facts=facts,
        )

    def scale(self, targets: NDArray[np.float64]) -> Mapping[str, Any]:
        """``Splits.facts`` from the training split's targets ``(N, k)``. Raises Invalid: one is always the same."""
        mean, std = targets.mean(0), targets.std(0)
        if (still := np.flatnonzero(std <= _MIN_STD * np.maximum(1, np.abs(mean)))).size:
            raise Invalid(f"'{self.names(len(std))[still[0]]}' is always {mean[still[0]]:.6g}: there is nothing to learn")
        return self.described(self.names(len(mean)), mean, std, targets[:, 0], headline=0)

    def described(
        self,
        names: tuple[str, ...],
        mean: NDArray[np.float64],
        std: NDArray[np.float64],
        headline_targets: NDArray[np.float64],
        headline: int,
    ) -> Mapping[str, Any]:
        """``Splits.facts``: the device's output, its bins from the headline's targets on the training split, in their unit."""
        middle = self.middle
        every = tuple(name if len(self.levels) == 1 else f"{name} p{level * 100:g}" for level in self.levels for name in names)
        output = Values(
            names=every,
            mean=_float32s(mean) * len(self.levels),
            std=_float32s(std) * len(self.levels),
            edges=edges(headline_targets),
            headline=middle * len(names) + headline,
        )
        return {"output": output, "values": names}

    def _labelled(self, items: Sequence[Item], report: CleaningReport) -> list[Item]:
        read = [(item, self.read(item.label)) for item in items]
        count = next((len(target) for _, target in read if target is not None), 0)
        kept = []
        for item, target in read:
            if target is None:
                report.drop(
                    "no label" if not item.label else "its label is no number, and no list of numbers", item.digest[-6:]
                )
            elif len(target) != count:
                report.drop(f"its label has another count of numbers than {count}", item.digest[-6:])
            else:
                kept.append(replace(item, target=target))
        report.kept = len(kept)
        return kept

    def _split(self, items: Sequence[Item], input: Input, output: Values) -> Split:
        contents = [item.content for item in items]
        count = len(items[0].target)
        targets = np.stack([item.target for item in items])
        return Split(
            contents=contents,
            inputs=tensors_of(contents, input),
            targets=((targets - np.array(output.mean[:count])) / np.array(output.std[:count])).astype(np.float32),
            groups=tuple(item.group for item in items),
            origins=tuple(item.origin for item in items),
        )

    def in_units_of(self, splits: Splits, theirs: Output) -> Splits:
        ours: Values = splits.facts["output"]
        if not isinstance(theirs, Values) or theirs.names != ours.names:
            raise Invalid("the version that would be trained further tells other values: train this one from chance first")
        mean, std = np.array(ours.mean), np.array(ours.std)

        def again(split: Split) -> Split:
            count = split.targets.shape[1]
            told = split.targets.astype(np.float64) * std[:count] + mean[:count]
            return replace(split, targets=((told - theirs.mean[:count]) / theirs.std[:count]).astype(np.float32))

        return replace(
            splits,
            train=again(splits.train),
            val=again(splits.val),
            test=again(splits.test),
            facts={**splits.facts, "output": replace(ours, mean=theirs.mean, std=theirs.std)},
        )

    # -- network ----------------------------------------------------------------------------------------------------------

    def loss(self, splits: Splits) -> Loss:
        kinds: dict[str, Callable[[], Callable[[Tensor, Tensor], Tensor]]] = {
            "mse": lambda: losses.mse,
            "huber": lambda: losses.huber,
            "quantile": lambda: losses.quantile(self.levels),
        }
        of = kinds[self.spec.loss]()

        def loss(outputs: Tensor, batch: Tensor, targets: Tensor) -> Tensor:
            return of(outputs, targets)

        return loss

    def distance(self, own: Tensor, teacher: Tensor) -> Tensor:
        return losses.mse(own, teacher)

    # -- judgement --------------------------------------------------------------------------------------------------------

    @property
    def middle(self) -> int:
        """Index of the level that stands for the value itself."""
        return int(np.argmin(np.abs(np.array(self.levels) - 0.5)))

    def point(self, outputs: Outputs, split: Split) -> Outputs:
        """``(N, k)``: of each value the middle level."""
        count = split.targets.shape[1]
        return outputs[:, self.middle * count : (self.middle + 1) * count]

    def value(self, outputs: Outputs, split: Split, splits: Splits) -> float:
        """Root mean squared error in the headline's unit; several values count as if all were spread like it."""
        output = splits.facts["output"]
        error = self.point(outputs, split) - split.targets
        return float(np.sqrt(np.mean(np.square(error), dtype=np.float64))) * float(output.std[output.headline])

    def score(self, outputs: Outputs, split: Split, splits: Splits) -> Score:
        by_value = self.by_value(outputs, split, splits)
        return Score(
            value=self.value(outputs, split, splits),
            samples=len(split),
            by_class=by_value,
            class_samples={name: len(split) for name in by_value},
            by_group=self.by_group(outputs, split, splits),
            details=self.details(outputs, split, splits),
        )

    def by_value(self, outputs: Outputs, split: Split, splits: Splits) -> dict[str, float]:
        """Root mean squared error of each, in its unit; of several but few values only."""
        count = split.targets.shape[1]
        if not 1 < count <= SHOWN:
            return {}
        error = (self.point(outputs, split) - split.targets).astype(np.float64) * np.array(splits.facts["output"].std[:count])
        rmse = np.sqrt(np.square(error).mean(0))
        return {name: float(each) for name, each in zip(splits.facts["values"], rmse, strict=True)}

    def details(self, outputs: Outputs, split: Split, splits: Splits) -> dict[str, Any]:
        """Of the headline, in its unit."""
        output: Values = splits.facts["output"]
        at = output.headline % split.targets.shape[1]
        scale = float(output.std[output.headline])
        error = (self.point(outputs, split)[:, at].astype(np.float64) - split.targets[:, at]) * scale
        found: dict[str, Any] = {
            "headline": output.names[output.headline],
            "mae": round(float(np.abs(error).mean()), 5),
            "r2": round(float(determination(self.point(outputs, split), split.targets)[at]), 5),
            "residual": {f"p{share}": round(float(np.percentile(error, share)), 5) for share in (5, 25, 50, 75, 95)},
        }
        if len(self.levels) > 1:
            found["coverage"] = self._coverage(outputs, split)
        return found

    def _coverage(self, outputs: Outputs, split: Split) -> dict[str, float]:
        """Share of the targets below each level: the level itself where the model knows how sure it is."""
        blocks = outputs.reshape(len(outputs), len(self.levels), -1)
        return {
            f"p{level * 100:g}": round(float((split.targets <= blocks[:, i]).mean()), 4) for i, level in enumerate(self.levels)
        }

    # -- the device -------------------------------------------------------------------------------------------------------

    def output(self, splits: Splits, outputs: Outputs | None = None) -> Values:
        output: Values = splits.facts["output"]
        return output

    def translated(self, outputs: Outputs, theirs: Output, splits: Splits) -> Outputs:
        """By name, from their scale to ours; where only one side has quantiles, its middle one stands for the value."""
        ours: Values = splits.facts["output"]
        if not isinstance(theirs, Values):
            raise Invalid("its output is not one of numbers")
        index = {name: i for i, name in enumerate(theirs.names)}
        columns = [_found(name, index) for name in ours.names]
        if (missing := next((name for name, i in zip(ours.names, columns, strict=True) if i is None), None)) is not None:
            raise Invalid(f"it does not say {missing!r}")
        picked = [i for i in columns if i is not None]
        told = outputs[:, picked].astype(np.float64) * np.array(theirs.std)[picked] + np.array(theirs.mean)[picked]
        scaled: Outputs = ((told - np.array(ours.mean)) / np.array(ours.std)).astype(np.float32)
        return scaled


def numbers_of(label: str) -> NDArray[np.float64] | None:
    """``(k,)`` of a JSON number or list of numbers; None: it is neither, or not finite."""
    try:
        read = json.loads(label)
    except ValueError:
        return None
    values = read if isinstance(read, list) else [read]
    if not values or not all(isinstance(each, int | float) and not isinstance(each, bool) for each in values):
        return None
    if not all(math.isfinite(each) and abs(each) < 1e30 for each in values):
        return None
    return np.array(values, np.float64)


def edges(targets: NDArray[np.float64]) -> tuple[float, ...]:
    """Deciles, strictly ascending in the 32-bit floats of a manifest; targets with few values have fewer of them."""
    deciles = np.quantile(targets, np.arange(1, _BINS) / _BINS).astype(np.float32)
    return tuple(float(each) for each in np.unique(deciles))


def determination(values: Outputs, targets: Outputs) -> NDArray[np.float64]:
    """``(k,)``: R squared of each column."""
    left = np.mean(np.square(values - targets), axis=0, dtype=np.float64)
    return np.asarray(1 - left / np.maximum(np.var(targets, axis=0, dtype=np.float64), 1e-12))


def _found(name: str, index: Mapping[str, int]) -> int | None:
    plain = name.rsplit(" p", 1)[0]
    return next((index[each] for each in (name, plain, f"{plain} p50") if each in index), None)


def _float32s(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(np.float32(each)) for each in values)
