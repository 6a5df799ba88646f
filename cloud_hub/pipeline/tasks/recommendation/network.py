"""Two towers: what is known of a user becomes a vector, each item has one, and their products are the scores."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from cloud_hub.pipeline.tasks.recommendation import NetworkSpec


class Network(nn.Module):
    """``(B, features)`` -> ``(B, items)`` scores. The first ``items`` features say which were seen, the same in order.

    It starts from how often each item was ``chosen``, and so from what a list of the most popular ones would say.
    """

    def __init__(self, spec: NetworkSpec, *, features: int, chosen: Sequence[int]) -> None:
        super().__init__()
        items = self._items = len(chosen)
        self.forget = nn.Dropout(spec.forget)
        first = nn.Linear(features, spec.hidden)
        nn.init.normal_(first.weight, std=0.1)  # the default shrinks with the number of features, but few are not 0
        self.user = nn.Sequential(first, nn.ReLU(), nn.Dropout(spec.dropout), nn.Linear(spec.hidden, spec.width), nn.ReLU())
        self.items = nn.Linear(spec.width, items)  # a vector for each, and how popular it is
        # Whether what was seen is chosen again: films hardly are, coffee is. Vectors of few numbers cannot say "all but these".
        self.again = nn.Parameter(torch.zeros(items))
        with torch.no_grad():
            self.items.bias.copy_(torch.tensor(chosen, dtype=torch.float32).log())

    def forward(self, batch: Tensor) -> Tensor:
        scores = self.items(self.user(self.forget(batch)))
        return cast(Tensor, scores + batch[:, : self._items] * self.again)


def build(spec: NetworkSpec, *, features: int, chosen: Sequence[int], seed: int) -> Network:
    """Random weights from ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(spec, features=features, chosen=chosen)
