"""Autoencoders over a window."""

from typing import cast

import torch
from torch import Tensor, nn

from cloud_hub.pipeline.tasks.anomaly_detection import AutoencoderSpec
from cloud_hub.pipeline.temporal import conv, lying, stages, standing


class ConvAutoencoder(nn.Module):
    """``(B, steps, channels)`` -> ``(B, steps * channels)``, through ``code`` values for each of ``steps >> stages`` places."""

    def __init__(self, spec: AutoencoderSpec, *, channels: int) -> None:
        super().__init__()
        width = spec.width << (spec.stages - 1)
        self.down = nn.Sequential(*stages(spec, channels), nn.Conv2d(width, spec.code, 1))
        layers: list[nn.Module] = conv(spec.code, width, kernel=3)
        for _ in range(spec.stages):
            inputs, width = width, max(spec.width, width // 2)
            # 4 steps wide: with 3 the converter to TFLite fails at a stride of 2. Without batch norm: that would give an int8
            # file that no runtime loads.
            layers += [nn.ConvTranspose2d(inputs, width, (1, 4), (1, 2), (0, 1)), nn.ReLU()]
        self.up = nn.Sequential(*layers, nn.Conv2d(width, channels, (1, spec.kernel), 1, (0, spec.kernel // 2)))

    def forward(self, batch: Tensor) -> Tensor:
        return standing(self.up(self.down(lying(batch)))).flatten(1)


class DenseAutoencoder(nn.Module):
    """``(B, steps, channels)`` -> ``(B, steps * channels)``, through ``code`` values."""

    def __init__(self, spec: AutoencoderSpec, *, values: int) -> None:
        super().__init__()
        widths = [spec.width >> i for i in range(spec.stages)]
        layers: list[nn.Module] = []
        last = values
        for width in widths:
            layers += [nn.Linear(last, width), nn.ReLU()]
            last = width
        layers.append(nn.Linear(last, spec.code))
        last = spec.code
        for width in reversed(widths):
            layers += [nn.Linear(last, width), nn.ReLU()]
            last = width
        self.layers = nn.Sequential(*layers, nn.Linear(last, values))

    def forward(self, batch: Tensor) -> Tensor:
        return cast(Tensor, self.layers(batch.flatten(1)))


def build(spec: AutoencoderSpec, *, steps: int, channels: int, seed: int) -> nn.Module:
    """Random weights from ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if spec.kind == "dense":
            return DenseAutoencoder(spec, values=steps * channels)
        return ConvAutoencoder(spec, channels=channels)
