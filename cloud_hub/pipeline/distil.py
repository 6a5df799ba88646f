"""A small network that learns from a large one (Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015)."""

import torch
from torch import Tensor, nn

from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.task import Loss, Task


def distillation(task: Task, teacher: nn.Module, splits: Splits) -> Loss:
    """``alpha`` of the teacher's opinion on the very same varied samples, the rest of the labels'."""
    teacher.eval().requires_grad_(False)
    plain, alpha = task.loss(splits), task.spec.train.alpha
    asked: list[Tensor] = []  # the batch the teacher saw last, and what it said: with mixup one batch has two losses

    def loss(outputs: Tensor, batch: Tensor, targets: Tensor) -> Tensor:
        if not asked or asked[0] is not batch:
            with torch.no_grad():
                asked[:] = [batch, teacher(batch)]
        return alpha * task.distance(outputs, asked[1]) + (1 - alpha) * plain(outputs.float(), batch, targets)

    return loss
