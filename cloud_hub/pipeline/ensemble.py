"""Several teachers that differ by their seed alone, heard as one: what they agree on is better than what one of them says."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from cloud_hub.core.spec import TrainingSpec


class Ensemble(nn.Module):
    """The mean of the outputs, before any softmax: for classes the geometric mean of their probabilities."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, batch: Tensor) -> Tensor:
        return torch.stack([member(batch).float() for member in self.members]).mean(0)


def seeded(spec: TrainingSpec, number: int) -> TrainingSpec:
    """The spec of one teacher: number 0 is the spec's own."""
    return replace(spec, train=replace(spec.train, seed=spec.train.seed + 1000 * number))
