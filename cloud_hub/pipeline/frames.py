"""Frames into networks."""

import torch
from torch import Tensor

from cloud_hub.pipeline.augment import augment, grey
from cloud_hub.pipeline.task import Feeder


class FrameFeeder(Feeder):
    """uint8 frames -> normalised tensor, as the device's preprocessing does; the light between the two can be varied."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], changes: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._changes = changes
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1))

    def light(self, inputs: Tensor) -> Tensor:
        """``(B, H, W, 3)`` uint8 -> ``(B, 3, H, W)`` in 0..1."""
        return inputs.permute(0, 3, 1, 2).float().div_(255)

    def vary(self, light: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return augment(light, self._changes, generator), targets

    def forward(self, light: Tensor) -> Tensor:
        """``(B, 3, H, W)`` in 0..1 -> ``(B, channels, H, W)`` normalised."""
        if self.mean.shape[1] == 1:
            light = grey(light)
        return ((light - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
