"""Inputs bent against a network as little as it takes: to train on, and to see how much it stands."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from cloud_hub.core.spec_sections.train import AdversarialSpec
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.task import Loss, Outputs, Task

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]  # network, its input (B, ...), targets -> the input, bent

_STRIDE = 2.5  # the steps of pgd together go so many times ``eps`` far (Madry et al., 2018)
_MEASURED_STEPS = 10  # at least, of pgd: fewer flatter
_MEASURED_SAMPLES = 1000  # of a split, evenly taken: enough for a point of accuracy


def attack(spec: AdversarialSpec, loss: Loss) -> Attack:
    """Climb ``loss`` within ``eps`` of each value, in the network's input space, where 1 is a standard deviation.

    FGSM takes one step of ``eps`` (Goodfellow et al., 2015); PGD several from a start drawn from torch's generator. Batch norm
    is as on the device meanwhile, and no gradient of the weights is touched.
    """
    single = spec.attack == "fgsm"
    steps, stride = (1, spec.eps) if single else (spec.steps, _STRIDE * spec.eps / spec.steps)

    def bent(network: nn.Module, batch: Tensor, targets: Tensor) -> Tensor:
        clean = batch.detach()
        modes = [(module, module.training) for module in network.modules()]  # frozen batch norm never is in training
        network.eval()
        off = torch.zeros_like(clean) if single else torch.empty_like(clean).uniform_(-spec.eps, spec.eps)
        for _ in range(steps):
            tried = (clean + off).requires_grad_()
            (slope,) = torch.autograd.grad(loss(network(tried).float(), clean, targets), tried)
            off = (off + stride * slope.sign()).clamp_(-spec.eps, spec.eps)
        for module, training in modes:
            module.training = training
        return clean + off

    return bent


def with_attacked(bent: Attack, share: float, network: nn.Module, batch: Tensor, targets: Tensor) -> Tensor:
    """The batch with its first ``share`` bent: rows are in random order already."""
    count = max(1, round(share * len(batch)))
    return torch.cat((bent(network, batch[:count], targets[:count]), batch[count:]))


def robust(task: Task, network: nn.Module, splits: Splits, split: Split, *, batch: int = 256) -> dict[str, object]:
    """For a report: the task's metric on bent inputs of (up to 1000 samples of) a split, beside that on the same ones unbent.

    The attack is the spec's, at least ten steps of it; PGD where the spec names none.
    """
    asked = task.spec.train.adversarial
    spec = replace(asked, attack="pgd" if asked.attack == "none" else asked.attack, steps=max(asked.steps, _MEASURED_STEPS))
    rows = np.unique(np.linspace(0, len(split) - 1, min(len(split), _MEASURED_SAMPLES)).astype(np.int64))
    some = split.take(rows)
    place = next(network.parameters()).device
    feeder = task.feeder(splits).to(place)
    bent = attack(spec, task.loss(splits))
    network.eval()
    clean: list[Outputs] = []
    worst: list[Outputs] = []
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        torch.manual_seed(task.spec.train.seed)
        for start in range(0, len(some), batch):
            part = slice(start, start + batch)
            inputs = feeder(feeder.light(torch.from_numpy(some.inputs[part]).to(place)))
            targets = torch.from_numpy(some.targets[part]).to(place)
            for tried, kept in ((inputs, clean), (bent(network, inputs, targets), worst)):
                with torch.no_grad():
                    kept.append(network(tried).flatten(1).float().cpu().numpy())
    name = task.metric.name
    return {
        "attack": spec.attack,
        "eps": spec.eps,
        "steps": 1 if spec.attack == "fgsm" else spec.steps,
        "samples": len(some),
        name: round(task.value(np.concatenate(worst), some, splits), 5),
        f"{name}_unbent": round(task.value(np.concatenate(clean), some, splits), 5),
    }
