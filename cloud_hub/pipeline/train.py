"""The training loop: data, schedule, step, validation, checkpoint, in the order they happen."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import TrainSpec
from cloud_hub.pipeline.augment import augment
from cloud_hub.pipeline.checkpoint import Checkpoint, State
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.models import Input, predict

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # logits (B, classes), input (B, channels, H, W), labels (B,) -> scalar
Tell = Callable[[float, str], None]  # fraction 0..1 of this stage, line

_ON_DEVICE_BYTES = 2 << 30  # a training split up to this size is copied to the GPU once


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What the loop made; the network holds the weights of its best epoch."""

    accuracy: float  # 0..1, on the validation split
    epochs: int  # run, over all attempts
    seconds: float  # over all attempts


def cross_entropy(spec: TrainSpec) -> Loss:
    def loss(logits: Tensor, batch: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels, label_smoothing=spec.label_smoothing)

    return loss


def fit(
    network: nn.Module, splits: Splits, spec: TrainSpec, *, epochs: int, loss: Loss, checkpoint: Checkpoint, tell: Tell
) -> Fitted:
    """Train ``network`` in place, going on from ``checkpoint`` where an earlier attempt of the same job left one.

    Every epoch seeds itself, so a resumed run sees the batches the uninterrupted one would have seen.

    Raises:
        Invalid: the loss is no longer a number.
    """
    place = next(network.parameters()).device
    tensors = Input(splits.mean, splits.std).to(place)
    feed = _Feed(splits.train, tensors, place)
    optimizer = _optimizer(network, spec)
    state = checkpoint.load(network, optimizer)
    while state.epoch < epochs and state.stale < spec.patience:
        started = time.monotonic()
        steps = math.ceil(len(feed.order(spec, state.epoch)) / spec.batch_size)
        total = 0.0
        network.train()
        for step, (light, labels) in enumerate(feed.batches(spec, state.epoch)):
            _set_rate(optimizer, spec.lr * rate((state.epoch + step / steps) / epochs, spec.warmup))
            total += _step(network, optimizer, loss, tensors(light), labels, spec.clip)
        accuracy, val_loss = _validate(network, tensors, splits.val)
        state = checkpoint.judged(state, network, accuracy, val_loss, seconds=time.monotonic() - started)
        checkpoint.save(state, network, optimizer)
        tell(state.epoch / epochs, _line(state, epochs, total / steps))
    checkpoint.restore_best(network)
    return Fitted(accuracy=state.best_accuracy, epochs=state.epoch, seconds=round(state.seconds, 2))


def rate(done: float, warmup: float) -> float:
    """Share of the peak learning rate when ``done`` (0..1) of the training is over: linear warm-up, then half a cosine."""
    if done < warmup:
        return max(done / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup))))


class _Feed:
    """Batches of frames and labels on the device, in an order that depends on nothing but the seed and the epoch."""

    def __init__(self, split: Split, tensors: Input, place: torch.device) -> None:
        fits = split.frames.nbytes <= _ON_DEVICE_BYTES
        self._frames = torch.from_numpy(split.frames).to(place if fits else "cpu")
        self._labels = torch.from_numpy(split.labels).to(place)
        self._counts = np.bincount(split.labels)
        self._split = split
        self._tensors = tensors
        self._place = place
        self._generator = torch.Generator(device=place)  # of augmentation

    def order(self, spec: TrainSpec, epoch: int) -> NDArray[np.int64]:
        """Every frame once; with ``balance`` frames of a rare class up to sqrt(largest / own) times."""
        draw = np.random.default_rng((spec.seed, epoch))
        times = np.ones(len(self._split))
        if spec.balance:
            times = np.sqrt(self._counts.max() / self._counts)[self._split.labels]
        whole = np.floor(times + draw.random(len(times))).astype(np.int64)
        return draw.permutation(np.repeat(np.arange(len(times)), whole))

    def batches(self, spec: TrainSpec, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """``(B, 3, H, W)`` light in 0..1, augmented, and ``(B,)`` labels."""
        self._generator.manual_seed(spec.seed * 100_003 + epoch)
        order = torch.from_numpy(self.order(spec, epoch)).to(self._frames.device)
        for rows in torch.split(order, spec.batch_size):
            if len(rows) == 1 and len(order) > 1:
                continue  # batch norm has no variance of one picture
            light = self._tensors.light(self._frames[rows].to(self._place))
            yield augment(light, spec.augment, self._generator), self._labels[rows.to(self._place)]


def _step(network: nn.Module, optimizer: Optimizer, loss: Loss, batch: Tensor, labels: Tensor, clip: float) -> float:
    mixed = batch.device.type == "cuda" and torch.cuda.is_bf16_supported()
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(batch.device.type, dtype=torch.bfloat16, enabled=mixed):  # bf16 has fp32's range: no loss scaling
        value = loss(network(batch), batch, labels)
    value.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), clip)
    optimizer.step()
    number = float(value.detach())
    if not math.isfinite(number):
        raise Invalid(f"the training loss became {number}: lower 'train.lr', or look at the images")
    return number


def _optimizer(network: nn.Module, spec: TrainSpec) -> Optimizer:
    """Weight decay for matrices and kernels only: it has no meaning for biases and batch norm."""
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": spec.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=spec.lr)


def _set_rate(optimizer: Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value


def _validate(network: nn.Module, tensors: Input, split: Split) -> tuple[float, float]:
    """(accuracy, loss) on the validation split."""
    logits = torch.from_numpy(predict(network, tensors, split.frames))
    labels = torch.from_numpy(split.labels)
    return float((logits.argmax(1) == labels).float().mean()), float(functional.cross_entropy(logits, labels))


def _line(state: State, epochs: int, loss: float) -> str:
    left_s = state.seconds / state.epoch * (epochs - state.epoch)
    return (
        f"epoch {state.epoch}/{epochs}: loss {loss:.3f}, validation accuracy {state.accuracy:.3f}"
        f" (best {state.best_accuracy:.3f}), at most {left_s:.0f} s left"
    )
