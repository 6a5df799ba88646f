"""Small convolutional networks that quantize well: conv, batch norm, ReLU, one pooled linear head."""

from typing import cast

import torch
from torch import Tensor, nn

from cloud_hub.pipeline.tasks.image_classification import NetworkSpec

_LARGE_SIDE = 64  # pixels: from here on the stem halves the picture at once


class Network(nn.Module):
    """``(B, channels, H, W)`` normalised float -> ``(B, classes)`` logits."""

    def __init__(self, spec: NetworkSpec, *, channels: int, side: int, classes: int) -> None:
        super().__init__()
        width = spec.width
        layers: list[nn.Module] = _conv(channels, width, stride=2 if side >= _LARGE_SIDE else 1)
        for _ in range(spec.stages):
            layers += _conv(width, 2 * width, stride=2, depthwise=spec.depthwise)
            width *= 2
            for _ in range(spec.convs - 1):
                layers += _conv(width, width, depthwise=spec.depthwise)
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(spec.dropout)
        self.head = nn.Linear(width, classes)

    def forward(self, batch: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.drop(self.pool(self.features(batch)).flatten(1))))


def build(spec: NetworkSpec, *, channels: int, side: int, classes: int, seed: int) -> Network:
    """Random weights from ``seed``, laid out channels last: two to three times faster in oneDNN and cuDNN."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(spec, channels=channels, side=side, classes=classes)
    return cast(Network, network.to(memory_format=torch.channels_last))  # type: ignore[call-overload]  # stubs lack this form


def _conv(inputs: int, outputs: int, *, stride: int = 1, depthwise: bool = False) -> list[nn.Module]:
    if not depthwise:
        return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return [
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]
