"""A bag of embeddings as a dense layer: counts times vectors, which runs as one matrix product on any runtime."""

from typing import cast

import torch
from torch import Tensor, nn

from cloud_hub.pipeline.tasks.text_classification import NetworkSpec


class Network(nn.Module):
    """``(B, buckets)`` -> ``(B, classes)`` logits."""

    def __init__(self, spec: NetworkSpec, *, buckets: int, classes: int) -> None:
        super().__init__()
        self.forget = nn.Dropout(spec.forget)
        self.embedding = nn.Linear(buckets, spec.hidden)
        self.dropout = nn.Dropout(spec.dropout)
        self.head = nn.Linear(spec.hidden, classes)
        # Wide enough to start from (the default shrinks with the number of buckets), yet small: most n-grams of a new text were
        # never seen, keep what they got here, and must not shout. 1.0 cost a point of accuracy on short messages.
        nn.init.normal_(self.embedding.weight, std=0.1)

    def forward(self, batch: Tensor) -> Tensor:
        hidden = torch.relu(self.embedding(self.forget(batch)))
        return cast(Tensor, self.head(self.dropout(hidden)))


def build(spec: NetworkSpec, *, buckets: int, classes: int, seed: int) -> Network:
    """Random weights from ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(spec, buckets=buckets, classes=classes)
