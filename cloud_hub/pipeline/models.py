"""Small convolutional networks that quantize well: conv, batch norm, ReLU, one pooled linear head."""

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cloud_hub.core.spec import NetworkSpec
from cloud_hub.pipeline.augment import grey

_PREDICT_BATCH = 256
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
        self.head = nn.Linear(width, classes)

    def forward(self, batch: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.pool(self.features(batch)).flatten(1)))


class Input(nn.Module):
    """uint8 frames -> normalised tensor, as the device's preprocessing does; the light between the two can be changed."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1))

    def light(self, frames: Tensor) -> Tensor:
        """``(B, H, W, 3)`` uint8 -> ``(B, 3, H, W)`` in 0..1."""
        return frames.permute(0, 3, 1, 2).float().div_(255)

    def forward(self, light: Tensor) -> Tensor:
        """``(B, 3, H, W)`` in 0..1 -> ``(B, channels, H, W)`` normalised."""
        if self.mean.shape[1] == 1:
            light = grey(light)
        return ((light - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


def build(spec: NetworkSpec, *, channels: int, side: int, classes: int, seed: int) -> Network:
    """Random weights from ``seed``, laid out channels last: two to three times faster in oneDNN and cuDNN."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(spec, channels=channels, side=side, classes=classes)
    return cast(Network, network.to(memory_format=torch.channels_last))  # type: ignore[call-overload]  # stubs lack this form


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.inference_mode()
def predict(network: nn.Module, tensors: Input, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits ``(N, classes)`` for ``(N, H, W, 3)`` frames; both modules on one device."""
    network.eval()
    place = tensors.mean.device
    batches = []
    for start in range(0, len(frames), _PREDICT_BATCH):
        part = torch.from_numpy(frames[start : start + _PREDICT_BATCH]).to(place)
        batches.append(network(tensors(tensors.light(part))).float().cpu().numpy())
    return np.concatenate(batches)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


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
