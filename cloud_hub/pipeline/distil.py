"""A small network that learns from a large one (Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cloud_hub.core.spec import TrainSpec
from cloud_hub.pipeline.train import Loss


def distillation(teacher: nn.Module, spec: TrainSpec) -> Loss:
    """``alpha`` of the teacher's softened opinion on the very same augmented pictures, the rest of the labels'."""
    teacher.eval().requires_grad_(False)
    heat = spec.temperature

    def loss(logits: Tensor, batch: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            opinion = functional.log_softmax(teacher(batch).float() / heat, dim=1)
        own = functional.log_softmax(logits.float() / heat, dim=1)
        # heat squared keeps the gradient's size independent of the temperature (section 2.1 of the paper)
        soft = functional.kl_div(own, opinion, reduction="batchmean", log_target=True) * heat * heat
        hard = functional.cross_entropy(logits.float(), labels, label_smoothing=spec.label_smoothing)
        return spec.alpha * soft + (1 - spec.alpha) * hard

    return loss
