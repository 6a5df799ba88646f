"""The training loop on a GPU: samples a second, arithmetic against the chip's peak in bf16, and what fetching data takes of it.

Pictures are random bytes of 64 x 64; the network is the pipeline's own, wide enough to keep a GPU busy. Arithmetic is that of
convolutions and products, forward and backward, as torch counts it.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from cloud_hub.core.spec import parse
from cloud_hub.pipeline import feed, train
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.checkpoint import Checkpoint
from cloud_hub.pipeline.clean import CleaningReport
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.feed import Feed
from cloud_hub.pipeline.task import Task
from protos.contract.inputs import ImageInput, Layout
from scripts.benches._figures import figure

BENCH = "train-gpu"
SPEC = """
name: bench
data: {dataset: bench}
preprocess: {width: 64, height: 64}
teacher: {width: 128, stages: 3, convs: 3, epochs: 3}
train: {augment: [], balance: false, patience: 1000, batch_size: 512, compile: COMPILE}
"""
SIDE, CLASSES = 64, 10
_PEAKS = {
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10G": 70e12,
    "T4": 65e12,
}  # dense, bf16
_HOST_LIMIT = 1  # bytes: everything is fetched batch by batch from the host's memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer pictures: rougher figures")
    quick = parser.parse_args().quick
    if not torch.cuda.is_available():
        print("train-gpu: there is no GPU here that torch can use; where there is one, install torch for CUDA", file=sys.stderr)
        return
    peak, whose = _peak()
    splits = _pictures(8_192 if quick else 40_960)
    for compiled in (False, True):
        task = tasks.make(parse(SPEC.replace("COMPILE", "on" if compiled else "off")))
        rate = _rate(task, splits)
        name = "compiled" if compiled else "eager"
        flops = _flops(task, splits) * rate
        figure(BENCH, f"loop, {name}, bf16", rate, "samples/s")
        figure(BENCH, f"arithmetic, {name}, bf16", flops / 1e12, "TFLOP/s", reference=peak / 1e12, aim=">= 0.3")
    print(f"train-gpu: the peak is {whose}", file=sys.stderr)
    task = tasks.make(parse(SPEC.replace("COMPILE", "off")))
    resident = _rate(task, splits)
    figure(BENCH, "fetching, data on the GPU", _fetching(task, splits) * resident, "of the time", aim="<= 0.1")
    feed.ON_DEVICE_BYTES = _HOST_LIMIT
    figure(BENCH, "loop, data on the host", _rate(task, splits), "samples/s", reference=resident, aim=">= 0.9")
    figure(BENCH, "fetching, data on the host", _fetching(task, splits) * resident, "of the time", aim="<= 0.5")


def _peak() -> tuple[float, str]:
    """Operations a second, and whose word that is."""
    name = torch.cuda.get_device_name()
    known = next((value for chip, value in _PEAKS.items() if chip in name), None)
    if known is not None:
        return known, f"the data sheet's of {name}"
    a, b = (torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    for _ in range(5):
        a @ b
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(20):
        a @ b
    torch.cuda.synchronize()
    return 20 * 2 * 8192**3 / (time.perf_counter() - started), f"what a large product reaches on {name}"


def _pictures(count: int) -> Splits:
    draw = np.random.default_rng(0)

    def split(size: int) -> Split:
        frames = draw.integers(0, 256, (size, SIDE, SIDE, 3), dtype=np.uint8)
        return Split(contents=frames, inputs=frames, targets=draw.integers(0, CLASSES, size), groups=("",) * size)

    return Splits(
        labels=tuple(str(i) for i in range(CLASSES)),
        train=split(count),
        val=split(256),
        test=split(256),
        calibration=np.arange(8),
        input=ImageInput(width=SIDE, height=SIDE, channels=3, layout=Layout.NCHW, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        fingerprint="bench",
        report=CleaningReport(),
    )


def _rate(task: Task, splits: Splits) -> float:
    """Samples a second over all epochs but the first."""
    network = task.network(task.spec.teacher, splits).cuda()
    ends: list[float] = []
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as folder:
        train.fit(
            task,
            network,
            splits,
            epochs=task.spec.teacher.epochs,
            loss=task.loss(splits),
            checkpoint=Checkpoint(Path(folder) / "c", "bench"),
            tell=lambda fraction, line: ends.append(time.perf_counter()),
        )
    return len(splits.train) * (len(ends) - 1) / (ends[-1] - ends[0])


def _fetching(task: Task, splits: Splits) -> float:
    """Seconds for a sample: batches on the device, made and thrown away."""
    given = Feed(splits.train, task.feeder(splits).cuda(), torch.device("cuda"))
    order = given.order(task.spec.train, 0)
    for parts in given.batches(task.spec.train, 0, order[: 4 * task.spec.train.batch_size]):
        del parts
    torch.cuda.synchronize()
    started = time.perf_counter()
    for parts in given.batches(task.spec.train, 1, order):
        del parts
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / len(order)


def _flops(task: Task, splits: Splits) -> float:
    """Of one sample, forward and backward."""
    count = 16
    network = task.network(task.spec.teacher, splits).cuda().train()
    feeder = task.feeder(splits).cuda()
    some = splits.train.take(np.arange(count))
    batch = feeder(feeder.light(torch.from_numpy(some.inputs).cuda()))
    counter = FlopCounterMode(display=False)
    with counter:
        task.loss(splits)(network(batch), batch, torch.from_numpy(some.targets).cuda()).backward()
    return counter.get_total_flops() / count


if __name__ == "__main__":
    main()
