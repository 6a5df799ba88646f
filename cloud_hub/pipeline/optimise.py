"""From gradients to better weights: the optimiser, its rate, the numbers it computes in, the average of where it has been."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import SGD, AdamW, Optimizer

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec_sections.train import TrainSpec

_WARM_STEPS = 10  # of the average: the first weights are chance, and must not weigh for long


def optimizer(network: nn.Module, spec: TrainSpec) -> Optimizer:
    """For what is not frozen. Weight decay is for matrices and kernels only: it has no meaning for biases and batch norm."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": spec.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if spec.optimizer == "sgd":
        return SGD(groups, lr=spec.lr, momentum=spec.momentum, nesterov=spec.momentum > 0, fused=True)
    return AdamW(groups, lr=spec.lr, fused=True)  # one kernel for all tensors, on CPUs too


def rate(done: float, warmup: float, schedule: str = "cosine") -> float:
    """Share of the peak learning rate when ``done`` (0..1) of the training is over: linear warm-up, then the schedule."""
    if done < warmup:
        return max(done / warmup, 0.01)
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup))))


def set_rate(optimizer: Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value


class Precision:
    """The numbers of forward and backward pass; weights and their averages stay float32.

    ``auto`` is bf16 on a GPU that has it: it has float32's range, so that gradients need no scaling. fp16 has not: its loss is
    scaled so that small gradients do not vanish, and a step with an overflow is left out.
    """

    def __init__(self, place: torch.device, wish: str) -> None:
        if wish == "auto":
            has = place.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)  # which is slower than fp32
            wish = "bf16" if has else "fp32"
        self.name = wish
        self._place = place.type
        self._type = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(wish)
        self.scaler = GradScaler(place.type, enabled=wish == "fp16")

    def cast(self) -> AbstractContextManager[None]:
        return torch.autocast(self._place, dtype=self._type, enabled=self._type is not None)

    def backward(self, value: Tensor) -> None:
        self.scaler.scale(value).backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: Optimizer, clip: float) -> None:
        """With gradients no longer than ``clip`` all together."""
        self.scaler.unscale_(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, clip, foreach=True)
        self.scaler.step(optimizer)
        self.scaler.update()


class Average:
    """Exponential moving average of the weights, batch norm's statistics included (Polyak and Juditsky, 1992).

    Each step keeps ``decay`` of it, less while there were few steps.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.steps = 0
        self.tensors = {name: tensor.detach().clone() for name, tensor in _floats(network).items()}
        self._decay = decay

    def update(self, network: nn.Module) -> None:
        self.steps += 1
        keep = min(self._decay, self.steps / (self.steps + _WARM_STEPS))
        now = [tensor.detach() for tensor in _floats(network).values()]
        torch._foreach_lerp_(list(self.tensors.values()), now, 1 - keep)

    def load(self, tensors: dict[str, Tensor], steps: int) -> None:
        """Raises Invalid where they are another network's."""
        if tensors.keys() != self.tensors.keys():
            raise Invalid("the averaged weights of the checkpoint are not those of this network")
        for name, tensor in tensors.items():
            self.tensors[name].copy_(tensor)
        self.steps = steps

    @contextmanager
    def in_place(self, network: nn.Module) -> Iterator[None]:
        """The network holds the averaged weights inside, its own ones again afterwards."""
        own = _floats(network)
        kept = {name: tensor.detach().clone() for name, tensor in own.items()}
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(self.tensors[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in own.items():
                    tensor.copy_(kept[name])


def _floats(network: nn.Module) -> dict[str, Tensor]:
    found = {name: tensor for name, tensor in network.named_parameters() if tensor.requires_grad}
    return found | {name: tensor for name, tensor in network.named_buffers() if tensor.is_floating_point()}
