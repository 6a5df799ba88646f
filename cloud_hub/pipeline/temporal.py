"""Parts of networks over time. Convolutions are two-dimensional with height 1: as one-dimensional ones, int8 TFLite files are a
quarter larger and half as exact."""

from typing import cast

import torch
from torch import Tensor, nn

from cloud_hub.pipeline.tasks.sections import ConvSpec


class Temporal(nn.Module):
    """``(B, steps, channels)`` -> ``(B, outputs)``: what happened, wherever in the window it did, and what it ended with."""

    def __init__(self, spec: ConvSpec, *, channels: int, outputs: int, newest: bool) -> None:
        """``newest``: the head also sees the last steps on their own, which tell how far a process has come."""
        super().__init__()
        self.features = stages(spec, channels)
        width = spec.width << (spec.stages - 1)
        self.newest = newest
        self.drop = nn.Dropout(spec.dropout)
        self.head = nn.Linear(2 * width if newest else width, outputs)

    def forward(self, batch: Tensor) -> Tensor:
        seen = self.features(lying(batch))  # (B, width, 1, steps >> stages)
        pooled = seen.mean((2, 3))
        if self.newest:
            pooled = torch.cat([pooled, seen[:, :, 0, -1]], 1)
        return cast(Tensor, self.head(self.drop(pooled)))


def lying(batch: Tensor) -> Tensor:
    """``(B, steps, channels)`` -> ``(B, channels, 1, steps)``."""
    return batch.permute(0, 2, 1).unsqueeze(2)


def standing(maps: Tensor) -> Tensor:
    """``(B, channels, 1, steps)`` -> ``(B, steps, channels)``."""
    return maps.squeeze(2).permute(0, 2, 1)


def stages(spec: ConvSpec, channels: int) -> nn.Sequential:
    """``(B, channels, 1, steps)`` -> ``(B, width << (stages - 1), 1, about steps >> stages)``."""
    layers: list[nn.Module] = []
    width = spec.width
    for _ in range(spec.stages):
        layers += conv(channels, width, kernel=spec.kernel, stride=2)
        channels, width = width, 2 * width
    return nn.Sequential(*layers)


def conv(inputs: int, outputs: int, *, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, (1, kernel), (1, stride), (0, kernel // 2), bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]
