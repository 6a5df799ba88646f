"""Cutting channels: what is left is smaller, runs, and answers in the same shape."""

import pytest
import torch
from torch import Tensor, nn

from cloud_hub.core.errors import Invalid
from cloud_hub.pipeline import networks
from cloud_hub.pipeline.compress.prune import macs, output_layers, pruned
from cloud_hub.pipeline.tasks.image_classification import NetworkSpec
from cloud_hub.pipeline.tasks.image_classification.network import build


class Heads(nn.Module):
    """A residual, a depthwise convolution and two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again = nn.Conv2d(3, 16, 3, 1, 1), nn.Conv2d(16, 16, 3, 1, 1)
        self.deep = nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.left, self.right = nn.Linear(16, 4), nn.Linear(16, 3)

    def forward(self, batch: Tensor) -> Tensor:
        first = torch.relu(self.stem(batch))
        pooled = self.deep(first + torch.relu(self.again(first))).mean((2, 3))
        return torch.cat([self.left(pooled), self.right(pooled)], 1)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.memory, self.head = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, batch: Tensor) -> Tensor:
        return self.head(self.memory(batch)[0][:, -1])  # type: ignore[no-any-return]


def autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(6, 16, 4, 2, 1), nn.ReLU(), nn.Conv1d(16, 32, 4, 2, 1), nn.ReLU(),
        nn.ConvTranspose1d(32, 16, 4, 2, 1), nn.ReLU(), nn.ConvTranspose1d(16, 6, 4, 2, 1),
    )  # fmt: skip


KINDS = {
    "cnn": (lambda: build(NetworkSpec(width=8, epochs=1), channels=3, side=16, classes=5, seed=0), (2, 3, 16, 16)),
    "depthwise": (
        lambda: build(NetworkSpec(width=8, depthwise=True, epochs=1), channels=3, side=16, classes=5, seed=0),
        (2, 3, 16, 16),
    ),
    "residual, two heads": (Heads, (2, 3, 8, 8)),
    "mlp": (
        lambda: nn.Sequential(
            nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 1)
        ),
        (2, 20),
    ),
    "conv autoencoder": (autoencoder, (2, 6, 64)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_network_is_smaller_and_answers_in_the_same_shape(kind: str) -> None:
    make, shape = KINDS[kind]
    network, example = make().eval(), torch.randn(shape)
    small = pruned(network, example, 0.5)
    assert networks.parameters(small) < 0.5 * networks.parameters(network)
    assert macs(small, example) < 0.7 * macs(network, example)
    assert small(example).shape == network(example).shape
    assert all(parameter.requires_grad for parameter in small.parameters())


def test_the_network_that_is_cut_stays_as_it_is() -> None:
    network, example = KINDS["mlp"][0]().eval(), torch.randn(2, 20)
    before = network(example)
    pruned(network, example, 0.5)
    assert torch.equal(network(example), before)


def test_output_layers_are_those_with_nothing_after_them() -> None:
    network = Heads()
    assert set(output_layers(network, torch.randn(1, 3, 8, 8))) == {network.left, network.right}


def test_a_network_that_cannot_be_cut_says_why() -> None:
    with pytest.raises(Invalid, match="layer 'memory' is recurrent"):
        pruned(Recurrent(), torch.randn(2, 5, 6), 0.5)
    with pytest.raises(Invalid, match=r"left all 42 parameters"):
        pruned(nn.Sequential(nn.Linear(20, 2)), torch.randn(2, 20), 0.5)
