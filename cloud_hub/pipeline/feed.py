"""Batches on the device that trains, in an order that depends on nothing but the seed and the epoch."""

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec_sections.train import TrainSpec
from cloud_hub.pipeline.data import Split
from cloud_hub.pipeline.group import ALONE, Group
from cloud_hub.pipeline.task import Feeder

ON_DEVICE_BYTES = 2 << 30  # a training split up to this size is copied to the GPU once; a bigger one batch by batch
_AHEAD = 3  # batches that are fetched before they are asked for


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """What goes through the network at once: a batch, or one of several parts of it."""

    light: Tensor  # of ``Feeder.light``, varied
    targets: Tensor
    weight: float  # of its mean loss, so that gradients summed over parts and averaged over processes are the batch's
    last: bool  # of its batch


class Feed:
    def __init__(self, split: Split, feeder: Feeder, place: torch.device, group: Group = ALONE) -> None:
        self._near = split.inputs.nbytes <= ON_DEVICE_BYTES and not isinstance(split.inputs, np.memmap)
        self._inputs = torch.from_numpy(split.inputs).to(place) if self._near else None
        self._targets = torch.from_numpy(split.targets).to(place)
        self._split, self._feeder, self._place, self._group = split, feeder, place, group
        self._generator = torch.Generator(device=place)  # of augmentation

    def order(self, spec: TrainSpec, epoch: int) -> NDArray[np.int64]:
        """Every sample once; with ``balance`` samples of a rare class up to sqrt(largest / own) times."""
        draw = np.random.default_rng((spec.seed, epoch))
        targets = self._split.targets
        times = np.ones(len(self._split))
        if spec.balance and targets.ndim == 1 and np.issubdtype(targets.dtype, np.integer):
            counts = np.bincount(targets)
            times = np.sqrt(counts.max() / counts)[targets]
        whole = np.floor(times + draw.random(len(times))).astype(np.int64)
        return draw.permutation(np.repeat(np.arange(len(times)), whole))

    def steps(self, spec: TrainSpec, order: NDArray[np.int64]) -> int:
        """Batches of an epoch. A last one that leaves a process with one sample is left out: it has no variance.

        Raises:
            Invalid: there are fewer samples than the processes need.
        """
        whole, rest = divmod(len(order), spec.batch_size)
        least = 2 * self._group.world
        if whole == 0 and self._group.world > 1 and rest < least:
            raise Invalid(f"{rest} samples to train on are too few for 'train.processes': {self._group.world}")
        return whole + (rest >= least or (whole == 0 and rest > 0))

    def batches(self, spec: TrainSpec, epoch: int, order: NDArray[np.int64]) -> Iterator[list[Part]]:
        """One list for each step."""
        self._generator.manual_seed(spec.seed * 100_003 + epoch + 1_000_003 * self._group.rank)
        batches = torch.split(torch.from_numpy(order), spec.batch_size)[: self.steps(spec, order)]
        rows = [self._parts(batch, spec) for batch in batches]
        flat = [part for parts in rows for part in parts]
        fetched = self._fetch(flat)
        for batch, parts in zip(batches, rows, strict=True):
            whole = len(batch) / self._group.world
            yield [self._made(*next(fetched), whole, last=part is parts[-1]) for part in parts]

    def _parts(self, batch: Tensor, spec: TrainSpec) -> list[Tensor]:
        count = max(1, min(spec.accumulate, len(batch) // (2 * self._group.world)))
        return list(self._group.share(batch).tensor_split(count))

    def _made(self, inputs: Tensor, targets: Tensor, whole: float, *, last: bool) -> Part:
        light, varied = self._feeder.vary(self._feeder.light(inputs), targets, self._generator)
        return Part(light=light, targets=varied, weight=len(inputs) / whole, last=last)

    def _fetch(self, parts: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets on the device."""
        if self._inputs is not None:
            for rows in parts:
                there = rows.to(self._place, non_blocking=True)
                yield self._inputs.index_select(0, there), self._targets.index_select(0, there)
            return
        for inputs, rows in ahead(parts, self._gathered):
            there = rows.to(self._place, non_blocking=True)
            yield inputs.to(self._place, non_blocking=True), self._targets.index_select(0, there)

    def _gathered(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        inputs = torch.from_numpy(np.ascontiguousarray(self._split.inputs[rows.numpy()]))
        if self._place.type == "cuda":
            torch.cuda.set_device(self._place)  # a thread begins with the first GPU, and pinning would take memory there
            inputs = inputs.pin_memory()
        return inputs, rows


def ahead(
    parts: list[Tensor], gather: Callable[[Tensor], tuple[Tensor, Tensor]], *, depth: int = _AHEAD
) -> Iterator[tuple[Tensor, Tensor]]:
    """What ``gather`` gives for each, in order, made by a thread while the device computes. It ends with the iterator."""
    ready: queue.Queue[tuple[Tensor, Tensor] | BaseException] = queue.Queue(depth)
    over = threading.Event()

    def put(item: tuple[Tensor, Tensor] | BaseException) -> None:
        while not over.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        for rows in parts:
            if over.is_set():
                return
            try:
                put(gather(rows))
            except Exception as error:  # noqa: BLE001  # told to the loop, which raises it
                return put(error)

    thread = threading.Thread(target=work, name="feed", daemon=True)
    thread.start()
    try:
        for _ in parts:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        over.set()
        thread.join()


def mixed(batch: Tensor, targets: Tensor, alpha: float, draw: np.random.Generator) -> tuple[Tensor, Tensor, float]:
    """Mixup (Zhang et al., 2018): each sample of ``batch`` (B, ...) float with another of it.

    Returns the mixed batch, the targets of the others, and the share of the first ones, at least a half.
    """
    share = float(draw.beta(alpha, alpha))
    share = max(share, 1 - share)
    turn = int(
        draw.integers(1, max(2, len(batch)))
    )  # rows are shuffled: a rotation pairs as well as a permutation, and is cheap
    return batch.lerp(batch.roll(turn, 0), 1 - share), targets.roll(turn, 0), share
