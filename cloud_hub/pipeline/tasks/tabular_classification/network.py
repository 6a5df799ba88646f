"""A multi-layer perceptron: plain layers that every runtime runs and int8 keeps."""

from typing import cast

import torch
from torch import Tensor, nn

from cloud_hub.pipeline.tasks.tabular_classification import NetworkSpec


class Network(nn.Module):
    """``(B, features)`` -> ``(B, classes)`` logits."""

    def __init__(self, spec: NetworkSpec, *, features: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = features
        for _ in range(spec.layers):
            layers += [nn.Linear(width, spec.hidden), nn.ReLU(), nn.Dropout(spec.dropout)]
            width = spec.hidden
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(width, classes)

    def forward(self, batch: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.features(batch)))


def build(spec: NetworkSpec, *, features: int, classes: int, seed: int) -> Network:
    """Random weights from ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(spec, features=features, classes=classes)
