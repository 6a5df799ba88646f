"""Boxes of pictures: as labels say them, as arrays, and as the cells of a grid that are to find them.

Arrays of boxes are ``(..., 5)`` float32: class, left, top, right, bottom; sides as shares of the picture; class NONE fills up.
"""

import json
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protos.contract.outputs import Detection

NONE = -1
_CENTRE = 1.5  # cells: what is nearer to the middle of a box than this, and within it, is to find it (FCOS's centre sampling)


class Unreadable(ValueError):
    """A label is not boxes; the message says why."""


def read(label: str, classes: Sequence[str]) -> NDArray[np.float32]:
    """``(n, 5)`` of a label ``[{"label": ..., "box": [left, top, right, bottom]}]``. Raises Unreadable."""
    try:
        given = json.loads(label)
    except (ValueError, RecursionError) as error:
        raise Unreadable("boxes are not JSON") from error
    if not isinstance(given, list):
        raise Unreadable("boxes are no list")
    return np.array([_box(each, classes) for each in given], np.float32).reshape(-1, 5)


def write(boxes: NDArray[np.float32], classes: Sequence[str]) -> str:
    """What ``read`` reads."""
    said = [{"label": classes[int(box[0])], "box": [round(float(side), 5) for side in box[1:]]} for box in boxes if box[0] >= 0]
    return json.dumps(said)


def _box(given: object, classes: Sequence[str]) -> tuple[float, ...]:
    if not isinstance(given, dict) or not isinstance(given.get("box"), list) or len(given["box"]) != 4:
        raise Unreadable("a box needs a label and four sides")
    if given.get("label") not in classes:
        raise Unreadable(f"label {str(given.get('label'))[:40]!r} is not in the data set")
    if not all(isinstance(side, int | float) and -1e6 < side < 1e6 for side in given["box"]):
        raise Unreadable("a box has a side that is no number")
    left, top, right, bottom = (min(1.0, max(0.0, float(side))) for side in given["box"])
    if left >= right or top >= bottom:
        raise Unreadable("a box is empty, or outside its picture")
    return (classes.index(given["label"]), left, top, right, bottom)


def stacked(each: Sequence[NDArray[np.float32]], most: int) -> NDArray[np.float32]:
    """``(N, most, 5)`` of boxes of N pictures."""
    boxes = np.zeros((len(each), most, 5), np.float32)
    boxes[:, :, 0] = NONE
    for row, own in zip(boxes, each, strict=True):
        row[: len(own)] = own
    return boxes


def encode(boxes: Tensor, grid: Detection) -> tuple[Tensor, Tensor]:
    """Which box each cell is to find: the smallest of those whose middle is near. Each box has its nearest cell at least.

    Args:
        boxes: ``(B, M, 5)``.
    Returns:
        Distances left, top, right, bottom ``(B, cells, 4)`` in strides, of which those of empty cells mean nothing; and classes
        ``(B, cells)`` int64, NONE for an empty cell.
    """
    cells = _middles(grid, boxes.device)  # (cells, 2)
    size = torch.tensor([grid.columns, grid.rows], dtype=torch.float32, device=boxes.device)
    low, high = boxes[..., 1:3].float() * size, boxes[..., 3:5].float() * size  # (B, M, 2) in strides
    middle = (low + high) / 2
    sides = torch.cat([cells - low[:, :, None], high[:, :, None] - cells], dim=3)  # (B, M, cells, 4)
    off = (cells - middle[:, :, None]).abs().amax(dim=3)  # (B, M, cells)
    real = (boxes[..., 0] >= 0)[..., None]
    nearest = torch.zeros_like(off, dtype=torch.bool).scatter_(2, off.argmin(dim=2, keepdim=True), True)
    near = real & (((sides.amin(dim=3) > 0) & (off < _CENTRE)) | nearest)
    area = torch.where(near, ((high - low).prod(dim=2))[..., None].expand_as(off), torch.inf)
    best = area.argmin(dim=1, keepdim=True)  # (B, 1, cells)
    found = near.any(dim=1)
    chosen = sides.gather(1, best[..., None].expand(-1, 1, -1, 4))[:, 0].clamp(min=0)
    kinds = boxes[..., 0].long()[..., None].expand_as(near).gather(1, best)[:, 0]
    return chosen, torch.where(found, kinds, NONE)


def _middles(grid: Detection, place: torch.device) -> Tensor:
    """``(cells, 2)`` x and y in strides, row by row."""
    rows, columns = torch.arange(grid.rows, device=place), torch.arange(grid.columns, device=place)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2).float() + 0.5


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Of boxes told as distances from one point ``(..., 4)``: intersection over union, and its generalised form (Rezatofighi
    et al., 2019), which also says how far boxes are apart that do not meet."""
    width = torch.minimum(a[..., 0], b[..., 0]) + torch.minimum(a[..., 2], b[..., 2])
    height = torch.minimum(a[..., 1], b[..., 1]) + torch.minimum(a[..., 3], b[..., 3])
    shared = width.clamp(min=0) * height.clamp(min=0)
    union = _area(a) + _area(b) - shared
    hull = _area(torch.maximum(a, b))
    share = shared / union.clamp(min=1e-6)
    return share, share - (hull - union) / hull.clamp(min=1e-6)


def _area(sides: Tensor) -> Tensor:
    return (sides[..., 0] + sides[..., 2]) * (sides[..., 1] + sides[..., 3])
