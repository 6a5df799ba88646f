"""How far outputs are from targets, each as one scalar: the mean over the batch. A task picks from these by name.

All of them compute in float32 whatever the outputs come in, for sums of many small numbers drown in bf16.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

FOCUS = 2.0  # of the focal loss (Lin et al., 2017): how much less an easy sample counts
HUBER_DELTA = 1.0  # in the unit of the targets, which tasks scale to a standard deviation of 1


def cross_entropy(outputs: Tensor, targets: Tensor, *, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Logits ``(B, classes)``, targets ``(B,)`` int64; ``smoothing`` (0..1) of the weight goes to all classes alike.

    ``weights`` ``(classes,)``: how much a sample of each class counts.
    """
    return functional.cross_entropy(outputs.float(), targets, weights, label_smoothing=smoothing)


def focal(
    outputs: Tensor, targets: Tensor, *, smoothing: float = 0.0, focus: float = FOCUS, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy that looks away from what is known already; shapes as there."""
    each = functional.cross_entropy(outputs.float(), targets, weights, label_smoothing=smoothing, reduction="none")
    sure = functional.softmax(outputs.float(), dim=1).gather(1, targets[:, None])[:, 0]
    return ((1 - sure) ** focus * each).mean()


def bce(outputs: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Binary cross-entropy of logits. Targets: 0..1 for each output, or int64 classes ``(B,)``, one against all others."""
    if targets.ndim == outputs.ndim - 1 and not targets.is_floating_point():
        targets = functional.one_hot(targets, outputs.shape[1])
    wanted = targets.float() * (1 - smoothing) + smoothing / 2
    return functional.binary_cross_entropy_with_logits(outputs.float(), wanted)


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error; targets hold as many values as outputs, in any shape per sample."""
    return functional.mse_loss(outputs.float().flatten(1), _flat(targets))


def huber(outputs: Tensor, targets: Tensor, *, delta: float = HUBER_DELTA) -> Tensor:
    """Squared up to ``delta``, linear beyond, so that outliers do not rule; shapes as for ``mse``."""
    return functional.huber_loss(outputs.float().flatten(1), _flat(targets), delta=delta)


def quantile(levels: Sequence[float]) -> Callable[[Tensor, Tensor], Tensor]:
    """The pinball loss (Koenker and Bassett, 1978), least where an output is the ``level`` (0..1) quantile of its target.

    Outputs are ``(B, len(levels) * k)``: all k values of the first level, then of the next; targets ``(B, k)``.
    """
    if not levels or not all(0 < level < 1 for level in levels):
        raise ValueError(f"levels of quantiles must be above 0 and below 1, got {list(levels)}")

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        wanted = _flat(targets)[:, None, :]  # (B, 1, k)
        off = wanted - outputs.float().reshape(len(outputs), len(levels), wanted.shape[2])
        each = [torch.maximum(level * part, (level - 1) * part) for level, part in zip(levels, off.unbind(1), strict=True)]
        return torch.stack(each).mean()

    return loss


def _flat(targets: Tensor) -> Tensor:
    """``(B, values)`` float32; ``(B,)`` is one value each."""
    return targets.float().reshape(len(targets), -1)
