"""Series whose next steps are told."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cloud_hub.core.errors import Invalid
from cloud_hub.pipeline import data
from cloud_hub.pipeline import windows as readings
from cloud_hub.pipeline.clean import Decode, Item, Origin, RawSample, clean
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.numbers import SHOWN, Numbers
from cloud_hub.pipeline.split import SPLITS, TRAIN
from cloud_hub.pipeline.task import Outputs
from cloud_hub.pipeline.tasks.forecasting import ForecasterSpec, series
from cloud_hub.pipeline.tasks.forecasting.network import build
from cloud_hub.pipeline.tasks.forecasting.series import Part
from edge_agent.infer.inputs import tensors_of
from protos.contract.inputs import Input, WindowInput
from protos.contract.outputs import Output
from protos.contract.samples import Window

_MARKS = 4  # steps of the horizon whose own errors are reported


class Forecasting(Numbers):
    """Values are named ``channel+step``; targets are scaled as their channels are in the input."""

    # -- data -------------------------------------------------------------------------------------------------------------

    def decoder(self) -> Decode:
        section = self.spec.preprocess
        return readings.decoder(section.lookback + section.horizon, (*section.channels, *section.targets))

    def fit_input(self, items: Sequence[Item], notes: list[str]) -> Input:
        raise NotImplementedError("of parts of series, in load")

    def load(self, labels: tuple[str, ...], samples: Iterable[RawSample]) -> Splits:
        spec, section = self.spec, self.spec.preprocess
        items, report = clean(samples, self.decoder(), None, limit=spec.data.max_samples, limit_bytes=spec.data.max_bytes)
        if not items:
            raise data.unusable("no usable series", spec, report)
        try:
            parts, notes = series.parts_of(items, spec.data, section.lookback, section.horizon)
            input, said = readings.fit_series(
                [_trained(part) for part in parts if part.split == TRAIN], section.lookback, section.channels
            )
            told = self._told(input)
            found = {name: self._windows([part for part in parts if part.split == name], input, told, notes) for name in SPLITS}
        except Invalid as error:
            raise data.unusable(str(error), spec, report) from error
        report.notes += notes + said
        count = sum(map(len, found.values()))
        if count < spec.data.min_samples:
            raise data.unusable(f"{count} usable windows, data.min_samples is {spec.data.min_samples}", spec, report)
        facts = self._facts(input, told, found[TRAIN])
        train, val, test = (found[name] for name in SPLITS)
        return Splits(
            labels=facts["output"].labels,
            train=train,
            val=val,
            test=test,
            calibration=np.unique(np.linspace(0, len(train) - 1, min(len(train), spec.data.calibration)).astype(np.int64)),
            input=input,
            fingerprint=data.fingerprint(series.fingerprinted(parts)),
            report=report,
            facts=facts,
        )

    def _told(self, input: WindowInput) -> tuple[int, ...]:
        """Which of the input's channels are told."""
        names = self.spec.preprocess.targets or input.channels
        if absent := [name for name in names if name not in input.channels]:
            raise Invalid(f"channel {absent[0]!r} is to be told, but says nothing in the training split")
        return tuple(input.channels.index(name) for name in names)

    def _stride(self, parts: Sequence[Part], each: int, notes: list[str]) -> int:
        """Between windows of ``each`` bytes: what overlaps is stored once, but trained on as often as it is told of."""
        section, bounds = self.spec.preprocess, self.spec.data
        total = sum(len(part.starts(section.lookback, section.horizon, section.stride)) for part in parts)
        limit = min(bounds.max_samples, max(1, bounds.max_bytes // each))
        if total <= limit:
            return int(section.stride)
        stride = int(section.stride) * -(-total // limit)
        bound = f"max_samples ({limit})" if limit == bounds.max_samples else f"max_bytes ({bounds.max_bytes}) holds"
        notes.append(f"{total} windows are more than data.{bound}: one is taken every {stride} steps")
        return stride

    def _windows(self, parts: Sequence[Part], input: WindowInput, told: tuple[int, ...], notes: list[str]) -> Split:
        """Of one split. Raises Invalid where none is left."""
        section = self.spec.preprocess
        stride = self._stride(parts, 4 * (section.lookback * len(input.channels) + section.horizon * len(told)), notes)
        picked, targets, groups, origins, left_out = [], [], [], [], 0
        mean, std = (np.array(each)[list(told)] for each in (input.mean, input.std))
        of: dict[str, tuple[NDArray[np.float32], list[int], NDArray[np.bool_]]] = {}
        for item, start in series.windows(parts, section.lookback, section.horizon, stride):
            if item.digest not in of:
                window = readings.window_of(item)
                columns = [window.channels.index(input.channels[i]) for i in told]
                of[item.digest] = window.values, columns, series.whole_targets(window.values, columns, section.horizon)
            values, columns, whole = of[item.digest]
            if not whole[start]:
                left_out += 1
                continue
            seen = values[start - section.lookback : start]
            picked.append(Window(channels=readings.window_of(item).channels, values=seen))
            targets.append(((values[start : start + section.horizon, columns] - mean) / std).astype(np.float32).reshape(-1))
            groups.append(item.group)
            origins.append(_origin(item, start, section.horizon))
        if left_out:
            notes.append(f"{left_out} windows in '{parts[0].split}' are left out: readings that are to be told are missing")
        if not picked:
            raise Invalid("no window is left: readings that are to be told are always missing")
        inputs = tensors_of(picked, input)
        return Split(contents=picked, inputs=inputs, targets=np.stack(targets), groups=tuple(groups), origins=tuple(origins))

    def _facts(self, input: WindowInput, told: tuple[int, ...], train: Split) -> dict[str, Any]:
        horizon = self.spec.preprocess.horizon
        channels = tuple(input.channels[i] for i in told)
        names = tuple(f"{name}+{step + 1}" for step in range(horizon) for name in channels)
        mean, std = (np.tile(np.array(each)[list(told)], horizon) for each in (input.mean, input.std))
        headline = self.spec.preprocess.headline or channels[-1]
        at = (horizon - 1) * len(channels) + channels.index(headline)
        unscaled = train.targets[:, at].astype(np.float64) * std[at] + mean[at]
        return {**self.described(names, mean, std, unscaled, at), "told": told, "channels": channels}

    def in_units_of(self, splits: Splits, theirs: Output) -> Splits:
        splits, input = super().in_units_of(splits, theirs), readings.input_of(splits)
        told = tuple(input.channels.index(name) for name in splits.facts["channels"])  # its channels may stand elsewhere
        return replace(splits, facts={**splits.facts, "told": told})

    def feeder(self, splits: Splits) -> readings.WindowFeeder:
        return readings.WindowFeeder(self.spec.augment)

    # -- network ----------------------------------------------------------------------------------------------------------

    def network(self, section: ForecasterSpec, splits: Splits) -> nn.Module:
        _, steps, channels = readings.input_of(splits).shape
        return build(
            section,
            lookback=steps,
            horizon=self.spec.preprocess.horizon,
            channels=channels,
            told=splits.facts["told"],
            levels=len(self.levels),
            seed=self.spec.train.seed,
        )

    # -- judgement --------------------------------------------------------------------------------------------------------

    def value(self, outputs: Outputs, split: Split, splits: Splits) -> float:
        """Mean squared error over all values, scaled."""
        return float(np.mean(np.square(self.point(outputs, split) - split.targets), dtype=np.float64))

    def each(self, outputs: Outputs, split: Split, splits: Splits) -> NDArray[np.float64]:
        return np.asarray(np.square(self.point(outputs, split) - split.targets).mean(1, dtype=np.float64))

    def by_value(self, outputs: Outputs, split: Split, splits: Splits) -> dict[str, float]:
        """The metric of each channel, where there are few."""
        channels = splits.facts["channels"]
        if not 1 < len(channels) <= SHOWN:
            return {}
        error = (self.point(outputs, split) - split.targets).reshape(len(split), -1, len(channels))
        each = np.square(error).mean((0, 1), dtype=np.float64)
        return {name: float(mse) for name, mse in zip(channels, each, strict=True)}

    def details(self, outputs: Outputs, split: Split, splits: Splits) -> dict[str, Any]:
        """``mae`` goes with the metric; of a few steps the errors up to and including them, in the channels' own units."""
        horizon, channels = self.spec.preprocess.horizon, splits.facts["channels"]
        output = splits.facts["output"]
        error = (self.point(outputs, split) - split.targets).reshape(len(split), horizon, len(channels))
        scale = np.array(output.std[: len(channels)])
        steps = sorted({max(1, round(horizon * mark / _MARKS)) for mark in range(1, _MARKS + 1)})
        upto = {step: error[:, :step] * scale for step in steps}
        known = super().details(outputs, split, splits)
        return {
            "mae": round(float(np.abs(error).mean()), 5),
            "rmse_up_to": {str(step): round(float(np.sqrt(np.square(each).mean())), 4) for step, each in upto.items()},
            "mae_up_to": {str(step): round(float(np.abs(each).mean()), 4) for step, each in upto.items()},
            "mse_at": {str(step): round(float(np.square(error[:, step - 1]).mean()), 5) for step in steps},
            **{name: each for name, each in known.items() if name not in ("mae", "r2")},
        }


def _origin(item: Item, start: int, horizon: int) -> Origin:
    """Windows that tell the same steps are no strangers: those that begin within one horizon are a source."""
    first = start // horizon * horizon
    return Origin(id=f"{item.id or item.digest}@{start}", source=f"{item.source}, steps from {first}")


def _trained(part: Part) -> Window:
    """What a training part holds: nothing that comes after may shape the scale."""
    window = readings.window_of(part.item)
    return Window(channels=window.channels, values=window.values[: part.end])
