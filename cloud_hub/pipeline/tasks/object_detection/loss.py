"""What a detector is taught, cell by cell."""

from torch import Tensor
from torch.nn import functional

from cloud_hub.pipeline.losses import FOCUS
from cloud_hub.pipeline.tasks.object_detection.boxes import encode, overlap
from protos.contract.outputs import Detection

_RARE = 0.25  # weight of what is there against what is not (Lin et al., 2017): there is much more of the latter
_BOX = 2.0  # weight of a box against its class


def detection_loss(outputs: Tensor, boxes: Tensor, grid: Detection, *, sides: str, smoothing: float) -> Tensor:
    """Per box that is to be found: the focal loss of all cells, and how far the cells that find it are off.

    Args:
        outputs: ``(B, cells * (4 + classes))``.
        boxes: ``(B, M, 5)``.
        sides: "giou" or "l1".
        smoothing: 0..1, of the classes.
    """
    outputs = outputs.float().reshape(len(outputs), -1, 4 + len(grid.classes))
    wanted, kinds = encode(boxes, grid)
    found = kinds >= 0
    count = found.sum().clamp(min=1)
    truth = functional.one_hot(kinds.clamp(min=0), len(grid.classes)).float() * found[..., None]
    off = outputs[..., :4][found], wanted[found]
    return (_focal(outputs[..., 4:], truth, smoothing).sum() + _BOX * _sides(*off, sides).sum()) / count


def detection_distance(own: Tensor, teacher: Tensor, *, cells: int) -> Tensor:
    """Of a student's outputs from its teacher's: of scores, and of boxes where the teacher sees something."""
    own, teacher = (each.float().reshape(len(each), cells, -1) for each in (own, teacher))
    opinion = teacher[..., 4:].sigmoid()
    sure = opinion.amax(dim=-1)  # (B, cells)
    weight = sure.sum().clamp(min=1)
    off = functional.binary_cross_entropy_with_logits(own[..., 4:], opinion, reduction="none")
    known = functional.binary_cross_entropy(opinion, opinion, reduction="none")  # the least there is
    surprise = (own[..., 4:].sigmoid() - opinion).abs() ** FOCUS  # cells both agree on must not drown the rest
    boxes = (sure * (1 - overlap(own[..., :4], teacher[..., :4])[1])).sum()
    return (((off - known) * surprise).sum() + _BOX * boxes) / weight


def _focal(logits: Tensor, truth: Tensor, smoothing: float) -> Tensor:
    """Of each cell and class, ``logits``' shape."""
    each = functional.binary_cross_entropy_with_logits(logits, truth * (1 - smoothing), reduction="none")
    wrong = (logits.sigmoid() - truth).abs()
    return (truth * _RARE + (1 - truth) * (1 - _RARE)) * wrong**FOCUS * each


def _sides(own: Tensor, wanted: Tensor, kind: str) -> Tensor:
    """``(n,)`` of boxes ``(n, 4)`` in strides."""
    if kind == "l1":
        return functional.smooth_l1_loss(own, wanted, reduction="none").mean(dim=-1)
    return 1 - overlap(own, wanted)[1] + 0.1 * (own - wanted).abs().mean(dim=-1)  # a side at 0 has no gradient of overlap
