"""Whole channels cut from every layer, so that what is left is a smaller network of the same kind."""

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn

from cloud_hub.core.errors import Invalid
from cloud_hub.pipeline import networks

_RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)
# What torch-pruning, or a network without its channels, stumbles over: axes that are folded into channels, for one.
_STUMBLES = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError)
_LAYERS = (nn.modules.conv._ConvNd, nn.Linear)


def pruned(network: nn.Module, example: Tensor, ratio: float) -> nn.Module:
    """A copy on the CPU with ``ratio`` of the channels of every layer cut, those of the smallest weights; not trained again.

    Which layers depend on which follows from one run of ``example`` (Fang et al., DepGraph: Towards Any Structural Pruning,
    2023). The network's outputs stay as they are.

    Raises:
        Invalid: it cannot be pruned, and why.
    """
    small = copy.deepcopy(network).cpu().eval().requires_grad_(True)  # graphs show only what is trained
    recurrent = [name for name, module in small.named_modules() if isinstance(module, _RECURRENT)]
    if recurrent:
        raise Invalid(f"layer '{recurrent[0]}' is recurrent: its gates cannot lose channels one by one")
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            _cut(small, example.cpu(), ratio)
            shape, wanted = small(example.cpu()).shape, copy.deepcopy(network).cpu().eval()(example.cpu()).shape
    except _STUMBLES as error:
        raise Invalid(f"what is left of it does not run: {error}") from error
    before, after = networks.parameters(network), networks.parameters(small)
    if after >= before:
        raise Invalid(f"cutting {ratio:.0%} of the channels left all {before} parameters")
    if shape != wanted:
        raise Invalid(f"its outputs would be {tuple(shape)}, not {tuple(wanted)}")
    return small


def macs(network: nn.Module, example: Tensor) -> int:
    """Multiplications with addition of one sample; 0 where they cannot be counted."""
    try:
        operations, _ = torch_pruning.utils.count_ops_and_params(copy.deepcopy(network).cpu().eval(), example[:1].cpu())
    except _STUMBLES:
        return 0
    return int(operations)


def output_layers(network: nn.Module, example: Tensor) -> list[nn.Module]:
    """Those with weights whose channels are the outputs: between them and an output there is no other one with weights."""
    owners = {
        id(parameter): module
        for module in network.modules()
        for parameter in module.parameters(recurse=False)
        if isinstance(module, _LAYERS)
    }
    with torch.enable_grad():
        waiting = [network(example).grad_fn]
    found: dict[int, nn.Module] = {}
    seen: set[Any] = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        behind = [child for child, _ in node.next_functions]
        weights = [parameter for child in behind for parameter in _parameters(child) if parameter.ndim >= 2]
        if any(id(each) in owners for each in weights):
            found |= {id(owners[id(each)]): owners[id(each)] for each in weights if id(each) in owners}
        elif not weights:
            waiting += behind
    return list(found.values())


def _cut(network: nn.Module, example: Tensor, ratio: float) -> None:
    with torch.enable_grad():  # the graph of what depends on what is that of gradients
        pruner = torch_pruning.pruner.MetaPruner(
            network,
            example,
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=output_layers(network, example),
        )
        pruner.step()


def _parameters(node: Any) -> Iterator[Tensor]:
    """The parameter that an edge of the graph comes from, if it has only been turned on its way."""
    while node is not None:
        if hasattr(node, "variable"):
            yield node.variable
            return
        if len(node.next_functions) != 1:
            return
        if type(node).__name__ not in ("TBackward0", "TransposeBackward0", "PermuteBackward0", "ViewBackward0"):
            return
        node = node.next_functions[0][0]
