"""Pictures as other light, other lenses and other mountings would have shown them, made anew for every batch."""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional

Augmentation = Callable[[Tensor, Generator], Tensor]

_APPLIED = 0.6  # share of the pictures each augmentation touches: the rest stays as it is in the field
_LUMA = (0.299, 0.587, 0.114)


def augment(batch: Tensor, names: tuple[str, ...], generator: Generator) -> Tensor:
    """``(B, 3, H, W)`` float RGB in 0..1 in and out; ``names`` are from ``spec.AUGMENTATIONS``, their order does not matter."""
    for name, change in _KNOWN.items():
        if name in names:
            chosen = torch.rand(len(batch), 1, 1, 1, generator=generator, device=batch.device) < _APPLIED
            batch = torch.where(chosen, change(batch, generator), batch)
    return batch


def _uniform(batch: Tensor, low: float, high: float, generator: Generator) -> Tensor:
    """(B, 1, 1, 1)"""
    return low + (high - low) * torch.rand(len(batch), 1, 1, 1, generator=generator, device=batch.device)


def _brightness(batch: Tensor, generator: Generator) -> Tensor:
    """Gain, gamma and contrast; down to a fifth of the light, because dusk and shade are what cameras meet."""
    gain = torch.exp(_uniform(batch, math.log(0.2), math.log(1.4), generator))
    gamma = torch.exp(_uniform(batch, -0.3, 0.3, generator))
    contrast = _uniform(batch, 0.7, 1.2, generator)
    lit = gain * batch.clamp(min=1e-4) ** gamma
    middle = lit.mean(dim=(1, 2, 3), keepdim=True)
    return (middle + contrast * (lit - middle)).clamp(0, 1)


def _blur(batch: Tensor, generator: Generator) -> Tensor:
    """Gaussian, sigma up to 1.3 pixels, one for each picture; two passes of five taps."""
    count, channels, height, width = batch.shape
    sigma = _uniform(batch, 0.3, 1.3, generator).reshape(count, 1)
    taps = torch.arange(-2, 3, device=batch.device, dtype=batch.dtype)
    kernel = torch.exp(-(taps**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)  # (B * C, 5)
    flat = batch.reshape(1, count * channels, height, width)
    across = functional.conv2d(
        functional.pad(flat, (2, 2, 0, 0), "replicate"), kernel[:, None, None, :], groups=count * channels
    )
    down = functional.conv2d(
        functional.pad(across, (0, 0, 2, 2), "replicate"), kernel[:, None, :, None], groups=count * channels
    )
    return down.reshape(batch.shape)


def _noise(batch: Tensor, generator: Generator) -> Tensor:
    """Gaussian, sigma up to 0.06 of full scale."""
    sigma = _uniform(batch, 0.0, 0.06, generator)
    return (batch + sigma * torch.randn(batch.shape, generator=generator, device=batch.device)).clamp(0, 1)


def _shift(batch: Tensor, generator: Generator) -> Tensor:
    """Moved by up to 8 % of a side, turned by up to 8 degrees, scaled by up to 10 %; edges are repeated."""
    angle = _uniform(batch, -0.14, 0.14, generator).reshape(-1)
    scale = _uniform(batch, 0.9, 1.1, generator).reshape(-1)
    across = _uniform(batch, -0.16, 0.16, generator).reshape(-1)  # grid units: 2 is the whole side
    down = _uniform(batch, -0.16, 0.16, generator).reshape(-1)
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    matrix = torch.stack((cosine, -sine, across, sine, cosine, down), dim=1).reshape(-1, 2, 3)
    grid = functional.affine_grid(matrix, list(batch.shape), align_corners=False)
    return functional.grid_sample(batch, grid, padding_mode="border", align_corners=False)


def _invert(batch: Tensor, generator: Generator) -> Tensor:
    return 1 - batch


def _flip(batch: Tensor, generator: Generator) -> Tensor:
    """Left and right exchanged."""
    return batch.flip(3)


def grey(batch: Tensor) -> Tensor:
    """``(B, 3, H, W)`` -> ``(B, 1, H, W)``: ITU-R BT.601 luma, as the device converts."""
    return (batch * torch.tensor(_LUMA, dtype=batch.dtype, device=batch.device).reshape(1, 3, 1, 1)).sum(dim=1, keepdim=True)


_KNOWN: dict[str, Augmentation] = {  # in the order of a camera: place, scene, lens, light, sensor
    "shift": _shift,
    "flip": _flip,
    "invert": _invert,
    "blur": _blur,
    "brightness": _brightness,
    "noise": _noise,
}
