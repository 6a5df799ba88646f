"""The training loop: data, schedule, step, validation, checkpoint, in the order they happen."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec_sections.train import TrainSpec
from cloud_hub.core.tasks import Metric
from cloud_hub.pipeline import optimise
from cloud_hub.pipeline.adversarial import attack, with_attacked
from cloud_hub.pipeline.checkpoint import Checkpoint, Learner, State
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.feed import Feed, Part, mixed
from cloud_hub.pipeline.group import ALONE, Group
from cloud_hub.pipeline.optimise import Average, Precision
from cloud_hub.pipeline.progress import Step
from cloud_hub.pipeline.task import Feeder, Loss, Outputs, Task

Tell = Callable[[float, str], None]  # fraction 0..1 of this stage, line


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What the loop made; the network holds the weights of its best epoch."""

    value: float  # of the metric, on the validation split
    epochs: int  # run, over all attempts
    seconds: float  # over all attempts
    history: tuple[Mapping[str, float], ...] = ()  # of each epoch: "loss", "val_loss" and "value", the metric on validation


def unheard(*, epoch: int, epochs: int, step: int, steps: int, loss: Callable[[], float]) -> None:
    """A Step nobody listens to."""


def fit(
    task: Task,
    network: nn.Module,
    splits: Splits,
    *,
    epochs: int,
    loss: Loss,
    checkpoint: Checkpoint,
    tell: Tell,
    step: Step = unheard,
    group: Group = ALONE,
) -> Fitted:
    """Train what is not frozen of ``network`` in place, going on from ``checkpoint`` where an earlier attempt left one.

    Every epoch seeds itself, so a resumed run sees the batches the uninterrupted one would have seen; on a CPU it ends with the
    same bytes. In a ``group`` every process calls this with its own copy of the same network.

    Raises:
        Invalid: the loss is no longer a number.
    """
    spec, metric = task.spec.train, task.metric
    place = next(network.parameters()).device
    if any(isinstance(module, nn.Conv2d) for module in network.modules()):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs lack this form
    feeder = task.feeder(splits).to(place)
    plain = task.loss(splits)
    precision = Precision(place, spec.precision)
    average = Average(network, spec.ema) if spec.ema else None
    learner = Learner(network, optimise.optimizer(network, spec), average, precision.scaler)
    state = checkpoint.load(learner, group.shared(checkpoint.content() if group.leads else b"", place))
    epochs = state.epochs or epochs
    if not _over(state, epochs, spec):
        feed = Feed(splits.train, feeder, place, group)
        run = _Run(task, learner, precision, feeder, loss, plain, group)
        with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
            while not _over(state, epochs, spec):
                started = time.monotonic()
                mean = run.epoch(feed, state.epoch, epochs, step)
                with learner.shown():
                    judged = _validate(task, network, feeder, plain, splits) if group.leads else (0.0, 0.0)
                    value, val_loss, seconds = group.agreed((*judged, time.monotonic() - started), place)
                    good = value if metric.higher_is_better else -value
                    state = checkpoint.judged(state, network, good, val_loss, seconds=seconds)
                if spec.minutes and state.epoch == 1:
                    epochs = max(1, min(epochs, int(spec.minutes * 60 / seconds)))
                    state = replace(state, epochs=epochs)
                state = replace(state, history=(*state.history, (mean, val_loss, value)))
                if group.leads:
                    checkpoint.save(state, learner)
                    tell(state.epoch / epochs, _line(metric, state, epochs, mean))
    checkpoint.restore_best(network)
    best = state.best_value if metric.higher_is_better else -state.best_value
    history = tuple({"loss": each[0], "val_loss": each[1], "value": each[2]} for each in state.history)
    return Fitted(value=best, epochs=state.epoch, seconds=round(state.seconds, 2), history=history)


def _over(state: State, epochs: int, spec: TrainSpec) -> bool:
    late = spec.minutes > 0 and state.seconds >= spec.minutes * 60
    return state.epoch >= epochs or state.stale >= spec.patience or late


class _Run:
    """The steps of an epoch. Nothing in them waits for the device: losses are summed there and looked at when they are told."""

    def __init__(
        self, task: Task, learner: Learner, precision: Precision, feeder: Feeder, loss: Loss, plain: Loss, group: Group
    ) -> None:
        self._spec = task.spec.train
        self._learner, self._precision, self._feeder, self._loss, self._group = learner, precision, feeder, loss, group
        against = self._spec.adversarial
        self._attack = attack(against, plain) if against.attack != "none" else None
        model = group.wrap(learner.network)
        self._model: nn.Module = torch.compile(model) if self._spec.compile else model  # type: ignore[assignment]
        self._place = next(learner.network.parameters()).device

    def epoch(self, feed: Feed, epoch: int, epochs: int, told: Step) -> float:
        """The mean loss. Raises Invalid where it is no number."""
        spec, optimizer = self._spec, self._learner.optimizer
        order = feed.order(spec, epoch)
        steps = feed.steps(spec, order)
        draw = np.random.default_rng((spec.seed, epoch, self._group.rank, 1))
        torch.manual_seed(int(draw.integers(2**62)))  # of dropout and attacks
        total = torch.zeros((), device=self._place)
        _train_mode(self._learner.network)
        for number, parts in enumerate(feed.batches(spec, epoch, order)):
            optimise.set_rate(optimizer, spec.lr * optimise.rate((epoch + number / steps) / epochs, spec.warmup, spec.schedule))
            optimizer.zero_grad(set_to_none=True)
            for part in parts:
                with nullcontext() if part.last else self._group.apart(self._model):
                    total += self._backward(part, draw)
            self._precision.step(optimizer, spec.clip)
            if self._learner.average is not None:
                self._learner.average.update(self._learner.network)
            mean = _Mean(total, number + 1)
            told(epoch=epoch + 1, epochs=epochs, step=number + 1, steps=steps, loss=mean)
        return _Mean(self._group.mean(total), steps)()

    def _backward(self, part: Part, draw: np.random.Generator) -> Tensor:
        """Adds to the gradients; returns what the part adds to the batch's mean loss."""
        spec, targets = self._spec, part.targets
        batch = self._feeder(part.light)
        if batch.ndim == 4:
            batch = batch.contiguous(memory_format=torch.channels_last)
        others, share = targets, 1.0
        if spec.mixup and batch.is_floating_point():
            batch, others, share = mixed(batch, targets, spec.mixup, draw)
        with self._precision.cast():
            given = batch
            if self._attack is not None:
                given = with_attacked(self._attack, spec.adversarial.share, self._learner.network, batch, targets)
            outputs = self._model(given).float()
            value = self._loss(outputs, batch, targets)  # a teacher sees the batch unbent
            if share < 1:
                value = share * value + (1 - share) * self._loss(outputs, batch, others)
            value = value * part.weight
        self._precision.backward(value)
        return value.detach()


class _Mean:
    """Of a sum on the device, fetched when it is asked for."""

    def __init__(self, total: Tensor, count: int) -> None:
        self._total, self._count = total, count

    def __call__(self) -> float:
        """Raises Invalid."""
        mean = float(self._total) / self._count
        if not math.isfinite(mean):
            raise Invalid(f"the training loss became {mean}: lower 'train.lr', or look at the data")
        return mean


def _train_mode(network: nn.Module) -> None:
    """Where some weights are frozen, frozen batch norm keeps its statistics as well: its layer must not change."""
    network.train()
    if all(parameter.requires_grad for parameter in network.parameters()):
        return
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not any(p.requires_grad for p in module.parameters()):
            module.eval()


def _validate(task: Task, network: nn.Module, feeder: Feeder, loss: Loss, splits: Splits) -> tuple[float, float]:
    """(metric, loss) on the validation split."""
    outputs, losses = validate(network, feeder, loss, splits.val)
    return task.value(outputs, splits.val, splits), losses


@torch.inference_mode()
def validate(network: nn.Module, feeder: Feeder, loss: Loss, split: Split, *, batch: int = 256) -> tuple[Outputs, float]:
    """Outputs ``(N, size)``, and the mean loss."""
    network.eval()
    place = next(network.parameters()).device
    parts, losses = [], []
    for start in range(0, len(split), batch):
        rows = slice(start, start + batch)
        light = feeder(feeder.light(torch.from_numpy(split.inputs[rows]).to(place)))
        targets = torch.from_numpy(split.targets[rows]).to(place)
        given = network(light).float()
        losses.append(loss(given, light, targets) * len(targets))
        parts.append(given.flatten(1))
    outputs: Outputs = torch.cat(parts).cpu().numpy()
    return outputs, float(torch.stack(losses).sum()) / len(split)


def _line(metric: Metric, state: State, epochs: int, loss: float) -> str:
    left_s = state.seconds / state.epoch * (epochs - state.epoch)
    sign = 1 if metric.higher_is_better else -1
    return (
        f"epoch {state.epoch}/{epochs}: loss {loss:.3f}, validation {metric.name} {sign * state.value:.3f}"
        f" (best {sign * state.best_value:.3f}), at most {left_s:.0f} s left"
    )
