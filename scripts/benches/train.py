"""Samples a second of the pipeline's training loop, beside a bare PyTorch loop on the same network and data, in turns.

The bare loop is what one writes by hand: batches by index, forward, loss, backward, AdamW, and the validation split after every
epoch. Ours has a schedule, clipping, progress, early stopping and a checkpoint after every epoch on top.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from cloud_hub.core.spec import parse
from cloud_hub.pipeline import networks, train
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.checkpoint import Checkpoint
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.task import Task
from scripts.benches._figures import figure
from scripts.benches.quantized import _digits, _signs

BENCH = "train"
SPEC = """
name: bench
data: {dataset: bench}
preprocess: {width: 32, height: 32}
teacher: {width: WIDTH, epochs: 2}
train: {augment: [], balance: false, label_smoothing: 0.0, patience: 1000, EXTRA}
"""
_AIM = ">= 0.97"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a third of the pictures, fewer turns: rougher figures")
    quick = parser.parse_args().quick
    samples = list(_signs() or _digits())[:: 3 if quick else 1]
    labels = tuple(sorted({sample.label for sample in samples}))
    for width, extra, name in (
        (8, "", "8 channels"),
        (24, "", "24 channels"),
        (24, "ema: 0.99", "24 channels, weights averaged"),
    ):
        task = tasks.make(parse(SPEC.replace("WIDTH", str(width)).replace("EXTRA", extra)))
        compare(task, task.load(labels, samples), f"{name}, batch {task.spec.train.batch_size}", turns=2 if quick else 5)


def compare(task: Task, splits: Splits, name: str, *, turns: int) -> None:
    epochs = task.spec.teacher.epochs
    trained = len(splits.train) * epochs
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    with tempfile.TemporaryDirectory(prefix="bench-train-") as folder:
        for turn in range(turns + 1):
            for way, run in (("ours", ours), ("bare", bare)):
                network = task.network(task.spec.teacher, splits).to(networks.device())
                started = time.perf_counter()
                run(task, network, splits, epochs, Path(folder) / f"{turn}")
                if network.head.weight.is_cuda:
                    torch.cuda.synchronize()
                if turn:  # the first pays for lazy allocation
                    times[way].append(trained / (time.perf_counter() - started))
    ratio = statistics.median(a / b for a, b in zip(times["ours"], times["bare"], strict=True))
    mine, theirs = (statistics.median(times[way]) for way in ("ours", "bare"))
    figure(BENCH, f"loop, {name}", mine, "samples/s", reference=theirs, ratio=ratio, aim=_AIM)


def ours(task: Task, network: nn.Module, splits: Splits, epochs: int, path: Path) -> None:
    train.fit(
        task,
        network,
        splits,
        epochs=epochs,
        loss=task.loss(splits),
        checkpoint=Checkpoint(path, "bench"),
        tell=lambda fraction, line: None,
    )


def bare(task: Task, network: nn.Module, splits: Splits, epochs: int, path: Path) -> None:
    place, size = networks.device(), task.spec.train.batch_size
    inputs, targets = torch.from_numpy(splits.train.inputs).to(place), torch.from_numpy(splits.train.targets).to(place)
    val, truth = torch.from_numpy(splits.val.inputs).to(place), torch.from_numpy(splits.val.targets).to(place)
    feeder = task.feeder(splits).to(place)
    optimizer = torch.optim.AdamW(network.parameters(), lr=task.spec.train.lr)
    for _ in range(epochs):
        network.train()
        for rows in torch.randperm(len(inputs)).split(size):
            there = rows.to(place)
            batch = feeder(feeder.light(inputs[there]))
            optimizer.zero_grad()
            with torch.autocast(place.type, torch.bfloat16, enabled=place.type == "cuda"):
                loss = nn.functional.cross_entropy(network(batch), targets[there])
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.inference_mode():
            parts = [network(feeder(feeder.light(part))) for part in val.split(256)]
            float((torch.cat(parts).argmax(1) == truth).float().mean())


if __name__ == "__main__":
    main()
