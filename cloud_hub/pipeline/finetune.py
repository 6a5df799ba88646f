"""Going on from the champion's weights: all of them, the last layers, or a change of low rank to others beside them."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from cloud_hub.core.errors import Invalid
from cloud_hub.delta import encode
from cloud_hub.pipeline import frozen, lowrank
from cloud_hub.pipeline.checkpoint import metadata
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.gate import Champion
from cloud_hub.pipeline.task import Task
from protos.contract.inputs import ImageInput

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


def freeze(network: nn.Module, task: Task, splits: Splits) -> list[str]:
    """What the mode does not train; a change of low rank is added to channels of layers that it does not train whole.

    The network is on the CPU. Returns notes.
    """
    spec = task.spec.train.finetune
    if spec.mode == "full":
        return []
    layers = [module for module in network.modules() if any(p.ndim > 1 for p in module.parameters(recurse=False))]
    whole = layers[-spec.layers :]
    network.requires_grad_(False)
    for layer in whole:
        layer.requires_grad_(True)
    if spec.mode == "head":
        return [f"{len(whole)} of {len(layers)} layers are trained"]
    low = [layer for layer in layers if layer not in whole and isinstance(layer, lowrank.LAYERS)]
    rows = lowrank.every(low)
    if spec.patch_bytes and low:
        rows = lowrank.chosen(network, low, splits.train, task.feeder(splits), task.loss(splits), spec.patch_bytes)
    count, channels = lowrank.add(low, rows, spec.rank)
    of = sum(len(each) for each in lowrank.every(low))
    return [f"a change of rank {spec.rank} for {channels} of {of} channels, in {count} layers; {len(whole)} trained whole"]


def finish(network: nn.Module) -> None:
    """The network is as if it had been trained whole."""
    lowrank.merge(network)
    network.requires_grad_(True)


def trained(network: nn.Module) -> int:
    """Numbers that are not frozen."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


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


def with_units_of(champion: Champion, task: Task, splits: Splits) -> Splits:
    """The champion's normalisation instead of one fitted anew, of inputs and of what is to be told: its weights know no other.

    Raises:
        Invalid: the champion takes or tells something else.
    """
    theirs, own = champion.manifest.input, splits.input
    if isinstance(own, ImageInput) and isinstance(theirs, ImageInput):
        theirs = replace(theirs, layout=own.layout)
    if type(theirs) is not type(own) or theirs.shape != own.shape:
        raise Invalid(f"version {champion.version} takes another input: train this one from chance first")
    if not isinstance(own, ImageInput) and theirs != own:

        def again(split: Split) -> Split:
            return replace(split, inputs=task.inputs(split.contents, theirs))

        splits = replace(splits, train=again(splits.train), val=again(splits.val), test=again(splits.test))
    return task.in_units_of(replace(splits, input=theirs), champion.manifest.output)


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
