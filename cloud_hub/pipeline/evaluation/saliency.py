"""What in a sample an answer stands on: how much each value of the input moves the figure that was told.

Pictures by SmoothGrad (Smilkov et al., 2017): gradients of noisy copies, averaged, for the plain gradient of a deep network is
mostly noise. Windows and rows by gradient times input, which for a linear network is exactly each feature's share. Texts by
leaving words out, for their input is hashed and has no gradient that could be named.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.task import Feeder
from edge_agent.infer.inputs import Content, tensors_of
from protos.contract.inputs import ImageInput, NumericColumn, RowInput, TextInput, WindowInput
from protos.contract.outputs import Classification, Detection, Output, Ranking, Reconstruction, Values

Floats = NDArray[np.float32]
_NONE: Floats = np.empty((0, 0), np.float32)
_COPIES = 16  # noisy ones of each picture: more looked the same
_NOISE = 0.1  # of the range of a picture, 0..1
_WORDS = 100  # of a text that are looked at
_NAMES = 8  # of the strongest features that are named


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Saliency:
    """``map``: pictures ``(H, W)`` 0..1, windows ``(steps, channels)`` signed; empty otherwise. ``names``: the strongest
    features with their share, signed: above 0 they spoke for the answer."""

    map: Floats
    names: tuple[tuple[str, float], ...] = ()


def salience(
    network: nn.Module, feeder: Feeder, split: Split, rows: Sequence[int], splits: Splits, output: Output
) -> list[Saliency]:
    """Of each of ``rows``, for the answer that the network itself gives; both modules on one device."""
    network.eval()
    return [_one(network, feeder, split.take(np.array([row], dtype=np.int64)), splits, output) for row in rows]


def _one(network: nn.Module, feeder: Feeder, split: Split, splits: Splits, output: Output) -> Saliency:
    place = next(network.parameters()).device
    light = feeder.light(torch.from_numpy(split.inputs).to(place)).detach()
    match splits.input:
        case ImageInput():
            return Saliency(map=_smooth(network, feeder, light, output))
        case WindowInput(channels=channels):
            by_step = _times_input(network, feeder, light, output).reshape(-1, len(channels))
            shares = list(zip(channels, by_step.sum(axis=0).tolist(), strict=True))
            return Saliency(map=by_step, names=_strongest(shares))
        case RowInput() as input:
            moved = _times_input(network, feeder, light, output).reshape(-1)
            return Saliency(map=_NONE, names=_strongest(_by_column(input, moved)))
        case TextInput() as input:
            return Saliency(map=_NONE, names=_strongest(_by_words(network, feeder, split.contents[0], input, output)))


def told(outputs: Tensor, batch: Tensor, output: Output) -> Tensor:
    """The figure that an answer is read from, summed over the batch: ``(B, size)`` and the network's input -> scalar."""
    match output:
        case Classification() | Ranking():
            return outputs.max(dim=1).values.sum()
        case Values(headline=headline):
            return outputs[:, headline].sum()
        case Reconstruction():
            return ((outputs - batch.flatten(1)) ** 2).mean(dim=1).sum()
        case Detection(rows=high, columns=wide, classes=classes):
            return outputs.reshape(len(outputs), high * wide, 4 + len(classes))[..., 4:].flatten(1).max(dim=1).values.sum()


def _gradient(network: nn.Module, feeder: Feeder, light: Tensor, output: Output) -> Tensor:
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):  # its recurrent layers have no gradient in eval mode
        light = light.clone().requires_grad_(True)
        batch = feeder(light)
        figure = told(network(batch).flatten(1).float(), batch, output)
        (found,) = torch.autograd.grad(figure, light)
    return found


def _smooth(network: nn.Module, feeder: Feeder, light: Tensor, output: Output) -> Floats:
    """``(1, channels, H, W)`` -> ``(H, W)``, the strongest channel, 0..1."""
    noise = torch.randn((_COPIES, *light.shape[1:]), generator=torch.Generator().manual_seed(0)).to(light.device)
    copies = light + _NOISE * noise
    strength = _gradient(network, feeder, copies, output).mean(dim=0).abs().amax(dim=0)
    strength = functional.avg_pool2d(strength[None], 3, 1, 1, count_include_pad=False)[0]  # places, not single pixels
    top = float(torch.quantile(strength, 0.99))  # one loud pixel must not leave the rest dark
    found: Floats = (strength / max(top, 1e-12)).clamp(0, 1).cpu().numpy()
    return found


def _times_input(network: nn.Module, feeder: Feeder, light: Tensor, output: Output) -> Floats:
    found: Floats = (_gradient(network, feeder, light, output) * light)[0].cpu().numpy()
    return found


def _by_column(input: RowInput, moved: Floats) -> list[tuple[str, float]]:
    shares, start = [], 0
    for column in input.columns:
        part = moved[start : start + column.features]
        if isinstance(column, NumericColumn):
            shares.append((column.name, float(part.sum())))
        else:
            shares += [(f"{column.name} = {value}", float(one)) for value, one in zip(column.values, part, strict=True)]
        start += column.features
    return shares


@torch.inference_mode()
def _by_words(network: nn.Module, feeder: Feeder, text: Content, input: TextInput, output: Output) -> list[tuple[str, float]]:
    """Words and, where the model sees them, pairs of words: how much the answer loses with the text that lacks them."""
    words = text.split()[:_WORDS] if isinstance(text, str) else []
    parts = [words[i : i + many] for many in range(1, min(input.words, 2) + 1) for i in range(len(words) - many + 1)]
    if not parts:
        return []
    less = [" ".join(_without(words, part)) for part in parts]
    tensors = torch.from_numpy(tensors_of([" ".join(words), *less], input)).to(next(network.parameters()).device)
    outputs = network(feeder(tensors)).flatten(1).float()  # what a feeder gives itself may be packed
    column = int(outputs[0].argmax()) if isinstance(output, Classification | Ranking) else 0
    figures = outputs[:, column].cpu().tolist()
    return [
        (name, figures[0] - figure)
        for name, figure in {" ".join(p): f for p, f in zip(parts, figures[1:], strict=True)}.items()
    ]


def _without(words: list[str], part: list[str]) -> list[str]:
    """All occurrences go."""
    kept, at = [], 0
    while at < len(words):
        if words[at : at + len(part)] == part:
            at += len(part)
        else:
            kept.append(words[at])
            at += 1
    return kept


def _strongest(shares: Sequence[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    order = sorted(shares, key=lambda share: -abs(share[1]))
    return tuple((name, share) for name, share in order[:_NAMES] if share)
