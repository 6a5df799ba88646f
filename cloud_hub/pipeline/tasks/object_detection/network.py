"""A detector without anchors and with one grid (after FCOS, Tian et al., 2019): small pictures hold things of few sizes."""

import math
from typing import cast

import torch
from torch import Tensor, nn

from cloud_hub.pipeline.tasks.object_detection import NetworkSpec, SceneSpec

_RARE = 0.02  # what a cell says of each class at first: few cells hold anything, and the first steps would only learn that


class Network(nn.Module):
    """``(B, channels, H, W)`` normalised float -> ``(B, rows * columns * (4 + classes))`` as ``Detection`` reads it."""

    def __init__(self, spec: NetworkSpec, scene: SceneSpec, *, classes: int) -> None:
        super().__init__()
        width = spec.width
        layers = _conv(scene.channels, width, stride=2)
        for _ in range(int(math.log2(scene.stride)) - 1):
            wider = min(2 * width, spec.most)
            layers += _conv(width, wider, stride=2)
            width = wider
        for _ in range(spec.convs):
            layers += _conv(width, width)
        self.features = nn.Sequential(*layers)
        self.sides = nn.Sequential(*_conv(width, width), nn.Conv2d(width, 4, 1), nn.ReLU())
        self.kinds = nn.Sequential(*_conv(width, width), nn.Conv2d(width, classes, 1))
        nn.init.ones_(_last(self.sides[-2]))  # a ReLU that starts at 0 gives no gradient
        nn.init.constant_(_last(self.kinds[-1]), -math.log((1 - _RARE) / _RARE))

    def forward(self, batch: Tensor) -> Tensor:
        seen = self.features(batch)
        cells = torch.cat([self.sides(seen), self.kinds(seen)], dim=1)  # (B, 4 + classes, rows, columns)
        return cells.permute(0, 2, 3, 1).flatten(1)


def build(spec: NetworkSpec, scene: SceneSpec, *, classes: int, seed: int) -> Network:
    """Random weights from ``seed``, laid out channels last."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(spec, scene, classes=classes)
    return cast(Network, network.to(memory_format=torch.channels_last))  # type: ignore[call-overload]  # stubs lack this form


def _conv(inputs: int, outputs: int, *, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def _last(layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.Conv2d) and layer.bias is not None
    return layer.bias
