"""A change of low rank to layers (LoRA: Hu et al., 2021), for as many of their output channels as an int8 patch has room for.

A change of low rank to a whole layer alters nearly every int8 code of it, so that the patch is half the file. Here it is given
to those channels whose weights, moved by one step of int8, move the loss most, weight by weight; a layer can be among them with
all of its channels or none. A code costs a patch one byte at most, so the bound on codes holds whatever is learned.
Against the same bytes spent on single weights, chosen before or after training, channels gave the better network.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from cloud_hub.pipeline.data import Split
from cloud_hub.pipeline.task import Feeder, Loss

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)  # it can be added to
_ASKED, _BATCH = 512, 32  # training samples whose loss chooses channels
_MOODY = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm, nn.RNNBase)  # by chance, or by the batch, in training

_Scored = tuple[float, int, int, int]  # loss per byte; bytes; layer; channel


class LowRank(nn.Module):
    """``weight + up @ down`` in some output channels; of a convolution, its kernels as rows. It starts as ``weight``.

    A channel stays within the range that it had, so that its int8 scale still fits: a new scale would alter all of its codes.
    """

    rows: Tensor

    def __init__(self, weight: Tensor, rows: Tensor, rank: int) -> None:
        super().__init__()
        columns = weight[0].numel()
        rank = min(rank, len(rows), columns)
        self.register_buffer("rows", rows)  # (k,) of the channels, ascending
        self.down = nn.Parameter(torch.empty(rank, columns, device=weight.device))
        self.up = nn.Parameter(torch.zeros(len(rows), rank, device=weight.device))
        # from the weights themselves: torch's generator is anybody's, and an interrupted training must start from the same
        draw = torch.Generator().manual_seed(weight.shape[0] * 1_000_003 + columns)
        with torch.no_grad():
            self.down.copy_(torch.randn(rank, columns, generator=draw) / columns**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        before = weight.index_select(0, self.rows).flatten(1)
        bound = before.abs().amax(1, keepdim=True)
        now = (before + self.up @ self.down).clamp(-bound, bound)
        return weight.index_copy(0, self.rows, now.view(-1, *weight.shape[1:]))


def add(layers: Sequence[nn.Module], rows: Sequence[Tensor], rank: int) -> tuple[int, int]:
    """To each layer in its ``rows``. Returns (layers that have any, channels)."""
    chosen = [(layer, each) for layer, each in zip(layers, rows, strict=True) if len(each)]
    for layer, each in chosen:
        weight = _weight(layer).requires_grad_(False)
        parametrize.register_parametrization(layer, "weight", LowRank(weight, each.to(weight.device), rank))
    return len(chosen), sum(len(each) for _, each in chosen)


def merge(network: nn.Module) -> None:
    """What was added becomes part of the weights; the network is as if they had been trained whole."""
    for module in list(network.modules()):
        if parametrize.is_parametrized(module, "weight") and isinstance(module.parametrizations.weight[0], LowRank):  # type: ignore[index, union-attr]
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def every(layers: Sequence[nn.Module]) -> list[Tensor]:
    """All channels of each layer."""
    return [torch.arange(len(_weight(layer))) for layer in layers]


def chosen(
    network: nn.Module, layers: Sequence[nn.Module], split: Split, feeder: Feeder, loss: Loss, limit_bytes: int
) -> list[Tensor]:
    """Channels of each layer ``(k,)``, ascending: those that promise most for a byte, as long as their weights fit.

    In one thread: processes that share a training must choose the same, however many threads each has.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        scored = sorted(_scored(network, layers, split, feeder, loss), key=lambda each: (-each[0], each[2:]))
    finally:
        torch.set_num_threads(threads)
    rows: list[list[int]] = [[] for _ in layers]
    left = limit_bytes
    for _, size, layer, channel in scored:
        if size <= left:
            rows[layer].append(channel)
            left -= size
    return [torch.tensor(sorted(each), dtype=torch.int64) for each in rows]


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    return layer.weight


def _scored(network: nn.Module, layers: Sequence[nn.Module], split: Split, feeder: Feeder, loss: Loss) -> list[_Scored]:
    """Of every channel the mean square, over weights and batches, of what one int8 step of a weight changes in the loss.

    The loss is that of training: in use an autoencoder gives back only a part of what it makes. The network is left as it was.
    """
    frozen = [parameter.requires_grad for parameter in network.parameters()]
    buffers = [buffer.clone() for buffer in network.buffers()]
    network.requires_grad_(True).train()
    for module in network.modules():
        if isinstance(module, _MOODY):
            module.eval()
    weights = [_weight(layer) for layer in layers]
    squares = [torch.zeros_like(weight) for weight in weights]
    rows = np.unique(np.linspace(0, len(split) - 1, min(_ASKED, len(split))).astype(np.int64))
    for part in np.array_split(rows, -(-len(rows) // _BATCH)):
        batch = feeder(feeder.light(torch.from_numpy(np.ascontiguousarray(split.inputs[part]))))
        value = loss(network(batch).float(), batch, torch.from_numpy(split.targets[part]))
        for square, gradient in zip(squares, torch.autograd.grad(value, weights, allow_unused=True), strict=True):
            if gradient is not None:
                square += gradient.square()
    for parameter, trained in zip(network.parameters(), frozen, strict=True):
        parameter.requires_grad_(trained)
    for buffer, kept in zip(network.buffers(), buffers, strict=True):
        buffer.copy_(kept)
    network.eval()
    found = []
    for number, (weight, square) in enumerate(zip(weights, squares, strict=True)):
        steps = weight.detach().flatten(1).abs().amax(1) / 127
        gains = square.flatten(1).mean(1) * steps.square()
        found += [(float(gain), weight[0].numel(), number, channel) for channel, gain in enumerate(gains)]
    return found
