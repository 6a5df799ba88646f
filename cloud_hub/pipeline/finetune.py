"""Going on from the champion's weights: all of them, the last layers, or a change of low rank to each layer."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec_sections.train import FinetuneSpec
from cloud_hub.delta import encode
from cloud_hub.pipeline import frozen
from cloud_hub.pipeline.checkpoint import metadata
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.gate import Champion
from edge_agent.infer.inputs import tensors_of
from protos.contract.inputs import ImageInput

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)  # that a change of low rank can be added to
_WORTH = 2  # a change of rank r is worth its name where the layer's smaller side is more than twice that


# -- weights of a version -------------------------------------------------------------------------------------------------


def weights_of(network: nn.Module, labels: tuple[str, ...]) -> bytes:
    """The float32 weights as safetensors, with what rows of the last layer mean; a blob of the version."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    return safetensors.torch.save(tensors, {"labels": json.dumps(list(labels))})


def load(network: nn.Module, champion: Champion, labels: tuple[str, ...]) -> list[str]:
    """Put the champion's weights into the network. Returns notes.

    A class that the champion knows too keeps its row of the last layer, wherever it stood; a new one keeps its random start.

    Raises:
        Invalid: the champion has another network, or its weights were not kept.
    """
    where = f"version {champion.version}"
    if not champion.weights:
        raise Invalid(f"the weights of {where} were not kept: train a version from chance first ('train.finetune.mode: off')")
    try:
        theirs = safetensors.torch.load(champion.weights)
        known = tuple(json.loads(metadata(champion.weights).get("labels", "[]")))
    except (safetensors.SafetensorError, ValueError) as error:
        raise Invalid(f"the weights of {where} cannot be read: {error}") from error
    own, last = network.state_dict(), _last_layer(network)
    if own.keys() != theirs.keys():
        raise Invalid(f"{where} has another network: train this one from chance first ('train.finetune.mode: off')")
    strange = []
    for name, tensor in own.items():
        given = theirs[name]
        if name in last and known != labels and _are_rows(given, known) and _are_rows(tensor, labels):
            _copy_rows(tensor, given, known, labels)
        elif given.shape == tensor.shape:
            tensor.copy_(given)
        else:
            strange.append(f"{name} {tuple(given.shape)} instead of {tuple(tensor.shape)}")
    if strange:
        raise Invalid(f"{where} has another network: {', '.join(strange[:3])}")
    new = [label for label in labels if label not in known]
    return [f"goes on from {where}"] + ([f"new classes: {', '.join(new[:10])}"] if new and known else [])


def freeze(network: nn.Module, spec: FinetuneSpec) -> list[str]:
    """What the mode does not train; a change of low rank is added to layers that it does not train whole. Returns notes."""
    if spec.mode == "full":
        return []
    layers = [module for module in network.modules() if any(p.ndim > 1 for p in module.parameters(recurse=False))]
    whole = layers[-spec.layers :]
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for layer in whole:
        layer.requires_grad_(True)
    if spec.mode == "lora":
        low = [layer for layer in layers if layer not in whole and isinstance(layer, _LAYERS)]
        done = sum(_lower(layer, spec.rank) for layer in low)
        return [f"a change of rank {spec.rank} for {done} layers, {len(whole)} trained whole"]
    return [f"{len(whole)} of {len(layers)} layers are trained"]


def weights_at(network: nn.Module) -> dict[str, Tensor]:
    """A copy of the matrices and kernels, by name."""
    return {name: tensor.detach().clone() for name, tensor in network.named_parameters() if tensor.ndim > 1}


def finish(network: nn.Module, before: Mapping[str, Tensor], spec: FinetuneSpec) -> None:
    """Add what was learned to the weights it belongs to; the network is as if it had been trained whole.

    Patches are made of int8 codes that changed: in ``lora`` a weight goes back to what ``weights_at`` said before, if it is
    within ``settle`` steps beyond the edge of its code. In ``full`` batch norm has moved every code, so that it would not help.
    """
    for module in list(network.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    network.requires_grad_(True)
    if spec.mode != "lora" or spec.settle == 0:
        return
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if name in before and before[name].shape == tensor.shape:
                tensor.copy_(_settled(tensor, before[name].to(tensor.device), spec.settle))


def _settled(now: Tensor, before: Tensor, settle: float) -> Tensor:
    step = before.flatten(1).abs().amax(1).clamp(min=1e-12).view(-1, *[1] * (before.ndim - 1)) / 127  # per output channel
    stays = (now / step - (before / step).round()).abs() <= 0.5 + settle
    return torch.where(stays, before, now)


def trained(network: nn.Module) -> int:
    """Numbers that are not frozen."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


class LowRank(nn.Module):
    """``weight + up @ down`` (Hu et al., 2021): of a convolution, its kernels as rows. It starts as ``weight``."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        self.down = nn.Parameter(torch.empty(rank, columns, device=weight.device))
        self.up = nn.Parameter(torch.zeros(rows, rank, device=weight.device))
        # from the weights themselves: torch's generator is anybody's, and an interrupted training must start from the same
        draw = torch.Generator().manual_seed(rows * 1_000_003 + columns)
        with torch.no_grad():
            self.down.copy_(torch.randn(rank, columns, generator=draw) / columns**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).view(weight.shape)


def _lower(layer: nn.Module, rank: int) -> bool:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if min(weight.shape[0], weight[0].numel()) <= _WORTH * rank:
        return False
    parametrize.register_parametrization(layer, "weight", LowRank(weight, rank))
    layer.parametrizations.weight.original.requires_grad_(False)  # type: ignore[union-attr]
    return True


def _last_layer(network: nn.Module) -> set[str]:
    """Names of its tensors."""
    layers = [name for name, module in network.named_modules() if any(p.ndim > 1 for p in module.parameters(recurse=False))]
    return {f"{layers[-1]}.{part}" for part in ("weight", "bias")} if layers else set()


def _are_rows(tensor: Tensor, labels: tuple[str, ...]) -> bool:
    return tensor.ndim > 0 and len(tensor) == len(labels)


def _copy_rows(tensor: Tensor, given: Tensor, known: tuple[str, ...], labels: tuple[str, ...]) -> None:
    index = {label: row for row, label in enumerate(known)}
    for row, label in enumerate(labels):
        if label in index:
            tensor[row].copy_(given[index[label]])


# -- data and files -------------------------------------------------------------------------------------------------------


def with_input_of(champion: Champion, splits: Splits) -> Splits:
    """The champion's normalisation instead of one fitted anew: its weights were learned behind that one.

    Raises:
        Invalid: the champion takes something else.
    """
    theirs, own = champion.manifest.input, splits.input
    if isinstance(own, ImageInput) and isinstance(theirs, ImageInput):
        theirs = replace(theirs, layout=own.layout)
    if type(theirs) is not type(own) or theirs.shape != own.shape:
        raise Invalid(f"version {champion.version} takes another input: train this one from chance first")
    if isinstance(own, ImageInput) or theirs == own:
        return replace(splits, input=theirs)

    def again(split: Split) -> Split:
        return replace(split, inputs=tensors_of(split.contents, theirs))

    return replace(splits, input=theirs, train=again(splits.train), val=again(splits.val), test=again(splits.test))


def freeze_scales(champion: Champion, folder: Path) -> None:
    """Lay the champion's int8 files where the converters look for scales to keep."""
    for converter, name in frozen.BASE.items():
        (folder / name).unlink(missing_ok=True)  # of another champion, by an attempt before
        if data := champion.files.get(f"{converter}-int8"):
            (folder / name).write_bytes(data)


def patch_bytes(champion: Champion | None, files: Mapping[str, bytes]) -> dict[str, Any]:
    """For a report: by target, what a device that has the champion loads of the new file, and the file's size."""
    found: dict[str, Any] = {}
    for target, data in files.items():
        base = champion.files.get(target) if champion is not None else None
        if base is None:
            continue
        best = min(encode.candidates(base, data), key=lambda delta: len(delta.data))
        found[target] = {"patch_bytes": len(best.data), "encoding": best.encoding.name.lower(), "size_bytes": len(data)}
    return found
