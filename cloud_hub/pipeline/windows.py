"""Windows of readings on their way into networks."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from cloud_hub.core.errors import Invalid
from cloud_hub.pipeline import columns, contents
from cloud_hub.pipeline.clean import CleaningReport, Decode, Item, RawSample
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.task import Feeder
from edge_agent.infer.inputs import Content
from protos.contract.inputs import SampleKind, WindowInput
from protos.contract.samples import Window

AUGMENTATIONS = ("noise", "scale", "mask", "flip-time")
_SCALE = 0.1  # standard deviations of a channel
_MASK = 0.15  # of the steps, at most


def decoder(steps: int, channels: Sequence[str] = ()) -> Decode:
    """Windows a network of ``steps`` can be fed with; others are reported."""
    plain = contents.decoder(SampleKind.WINDOW)

    def decode(sample: RawSample, report: CleaningReport) -> tuple[bytes, Content] | None:
        name = sample.name or sample.id
        decoded = plain(sample, report)
        if decoded is None:
            return None
        window = decoded[1]
        assert isinstance(window, Window)
        if len(window.values) < steps:
            report.drop(f"fewer than {steps} steps", name)
        elif absent := [channel for channel in channels if channel not in window.channels]:
            report.drop(f"no channel {absent[0]!r}", name)
        elif not np.isfinite(window.values).any():
            report.drop("every value is missing", name)
        else:
            return decoded
        return None

    return decode


def fit(items: Sequence[Item], steps: int, channels: Sequence[str]) -> tuple[WindowInput, list[str]]:
    """The input that the training split makes, and notes; raises Invalid where no channel is left."""
    return columns.fit_windows([window_of(item) for item in items], steps, channels or None)


def fit_series(series: Sequence[Window], steps: int, channels: Sequence[str]) -> tuple[WindowInput, list[str]]:
    """The same from whole series, of which the network will see ``steps`` at a time."""
    input, notes = columns.fit_windows(series, max(len(each.values) for each in series), channels or None)
    return replace(input, steps=steps), notes


def input_of(splits: Splits) -> WindowInput:
    if not isinstance(splits.input, WindowInput):
        raise Invalid(f"an input of windows is wanted, got a {type(splits.input).__name__}")
    return splits.input


def window_of(item: Item) -> Window:
    if not isinstance(item.content, Window):
        raise Invalid(f"a window is wanted, got a {type(item.content).__name__}")
    return item.content


class WindowFeeder(Feeder):
    """Tensors as devices make them ``(B, steps, channels)``, varied as sensors vary."""

    def __init__(self, changes: tuple[str, ...] = (), *, noise: float = 0.1) -> None:
        """``noise``: standard deviations of a channel."""
        super().__init__()
        self._changes, self._noise = changes, noise

    def vary(self, light: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        place, (count, steps, channels) = light.device, light.shape
        if "scale" in self._changes:  # another sensor of the same kind, or another vehicle
            light = light * (1 + _SCALE * torch.randn(count, 1, channels, device=place, generator=generator))
        if "flip-time" in self._changes:
            turned = torch.rand(count, 1, 1, device=place, generator=generator) < 0.5
            light = torch.where(turned, light.flip(1), light)
        if "mask" in self._changes:  # a sensor that says nothing for a while: the mean, which is 0
            start = torch.rand(count, 1, 1, device=place, generator=generator) * steps
            length = torch.rand(count, 1, 1, device=place, generator=generator) * _MASK * steps
            at = torch.arange(steps, device=place).reshape(1, -1, 1)
            light = light.masked_fill((at >= start) & (at < start + length), 0.0)
        if "noise" in self._changes:
            light = light + self._noise * torch.randn(light.shape, device=place, generator=generator)
        return light, targets
