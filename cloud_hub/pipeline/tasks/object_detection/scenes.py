"""Pictures with boxes, varied together."""

import torch
from torch import Generator, Tensor
from torch.nn import functional

from cloud_hub.pipeline.augment import augment
from cloud_hub.pipeline.frames import FrameFeeder
from cloud_hub.pipeline.tasks.object_detection.boxes import NONE

_APPLIED = 0.6  # share of the pictures each change touches
_MOVED = 0.12  # of a side
_ZOOMED = 0.2
_LEFT = 0.4  # of a box's area within the picture: a smaller rest cannot be told, and is nothing to be taught
_LIGHT = ("invert", "blur", "brightness", "noise")  # change no box


class SceneFeeder(FrameFeeder):
    """As for pictures of classes; what moves a picture moves its boxes. Targets are ``(B, M, 5)`` as in ``boxes``."""

    def vary(self, light: Tensor, targets: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        for name, change in (("shift", shifted), ("flip", flipped)):
            if name in self._changes:
                chosen = torch.rand(len(light), generator=generator, device=light.device) < _APPLIED
                new, boxes = change(light, targets, generator)
                light = torch.where(chosen[:, None, None, None], new, light)
                targets = torch.where(chosen[:, None, None], boxes, targets)
        return augment(light, tuple(name for name in self._changes if name in _LIGHT), generator), targets


def shifted(light: Tensor, boxes: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Moved by up to ``_MOVED`` and scaled by up to ``_ZOOMED``; edges are repeated, boxes that mostly leave are gone."""
    uniform = torch.rand(3, len(light), generator=generator, device=light.device) * 2 - 1
    scale, moves = 1 + _ZOOMED * uniform[0], 2 * _MOVED * uniform[1:]  # grid units: 2 is the whole side
    zero = torch.zeros_like(scale)
    matrix = torch.stack([scale, zero, moves[0], zero, scale, moves[1]], dim=1).reshape(-1, 2, 3)
    grid = functional.affine_grid(matrix, list(light.shape), align_corners=False)
    new = functional.grid_sample(light, grid, padding_mode="border", align_corners=False)
    # the grid says where each new pixel comes from: boxes go the other way
    moved = (2 * boxes[..., 1:] - 1 - moves.T.repeat(1, 2)[:, None]) / scale[:, None, None]
    return new, _within(boxes[..., :1], (moved + 1) / 2)


def flipped(light: Tensor, boxes: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Left and right exchanged."""
    kind, left, top, right, bottom = boxes.unbind(-1)
    turned = torch.stack([kind, 1 - right, top, 1 - left, bottom], dim=-1)
    return light.flip(3), torch.where(boxes[..., :1] >= 0, turned, boxes)


def _within(kinds: Tensor, sides: Tensor) -> Tensor:
    """``(B, M, 5)`` cut at the picture's edges."""
    cut = sides.clamp(0, 1)
    left = _area(cut) / _area(sides).clamp(min=1e-9)
    gone = (kinds < 0) | (left < _LEFT)[..., None]
    return torch.cat([torch.where(gone, NONE, kinds), torch.where(gone, 0.0, cut)], dim=-1)


def _area(sides: Tensor) -> Tensor:
    return (sides[..., 2] - sides[..., 0]) * (sides[..., 3] - sides[..., 1])
