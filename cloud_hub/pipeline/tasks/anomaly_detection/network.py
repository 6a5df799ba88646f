"""Autoencoders over a window.

A device takes the squared error for the sign of an anomaly, and a plain autoencoder hides in it what matters most: a window
that is unusual as a whole, as of a machine that is too hot, is still one it can reproduce. So a network in use gives back only
a part of what it makes of a window: what it makes then counts in the error as much as what it leaves over.
"""

from typing import cast

import torch
from torch import Tensor, nn

from cloud_hub.pipeline.tasks.anomaly_detection import AutoencoderSpec
from cloud_hub.pipeline.temporal import conv, lying, stages, standing

_MOMENTUM = 0.05  # of the running share, per batch
_MOST = 3.0  # times what is left over may be what is made: of a network that has learned nothing yet it is nearly all


class Balance(nn.Module):
    """Gives what was made of a window as it is while it is trained, in use ``share`` times: with f made of x, the error
    ``x - share * f`` is ``(x - f) + (1 - share) * f``, two parts that are about as large as each other on the training split.

    Two things, far from the mean and unlike all others, are then told by one number, as by Mahalanobis' distance, but with one
    weight for all of each. Below zero where less than half of a window can be reproduced.
    """

    share: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("share", torch.ones(()))

    def forward(self, made: Tensor, windows: Tensor) -> Tensor:
        """Both ``(B, steps * channels)``."""
        if not self.training:
            return made * self.share
        with torch.no_grad():
            left = (windows - made).float().square().mean() / made.float().square().mean().clamp(min=1e-12)
            self.share.lerp_(1 - left.sqrt().clamp(max=_MOST), _MOMENTUM)
        return made


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
        self.drop = nn.Dropout(spec.dropout)
        self.up = nn.Sequential(*layers, nn.Conv2d(width, channels, (1, spec.kernel), 1, (0, spec.kernel // 2)))
        self.balance = Balance()

    def forward(self, batch: Tensor) -> Tensor:
        made = standing(self.up(self.drop(self.down(lying(batch))))).flatten(1)
        return cast(Tensor, self.balance(made, batch.flatten(1)))


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
        layers += [nn.Linear(last, spec.code), nn.Dropout(spec.dropout)]
        last = spec.code
        for width in reversed(widths):
            layers += [nn.Linear(last, width), nn.ReLU()]
            last = width
        self.layers = nn.Sequential(*layers, nn.Linear(last, values))
        self.balance = Balance()

    def forward(self, batch: Tensor) -> Tensor:
        return cast(Tensor, self.balance(self.layers(batch.flatten(1)), batch.flatten(1)))


def build(spec: AutoencoderSpec, *, steps: int, channels: int, seed: int) -> nn.Module:
    """Random weights from ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if spec.kind == "dense":
            return DenseAutoencoder(spec, values=steps * channels)
        return ConvAutoencoder(spec, channels=channels)
