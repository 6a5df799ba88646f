"""Bytes of an update as a delta: a network trained anew, one that was trained on, and one whose last layer alone was.

The network is the pipeline's own, trained on traffic signs by day where that data set is at hand, else on digits, exported as
the pipeline does it. The reference is the whole file in zstd -19. Beside the two encodings of the hub stand bsdiff4 and detools
where they are installed. What decoding takes is measured in a process of its own, above what that takes with nothing to do.
"""

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
import zstandard

from cloud_hub.core.spec import parse
from cloud_hub.delta import patch, tensors
from cloud_hub.pipeline import export, train
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.checkpoint import Checkpoint
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.task import Task
from cloud_hub.pipeline.tasks.image_classification.network import Network
from scripts.benches._figures import figure
from scripts.benches._undelta import TOOLS, available
from scripts.benches.quantized import _digits, _signs, _tell

BENCH = "delta"
SPEC = """
name: bench
data: {dataset: bench, calibration: 128}
preprocess: {width: 32, height: 32}
teacher: {width: 32, stages: STAGES, epochs: EPOCHS}
student: {width: 32, stages: STAGES, epochs: EPOCHS}
train: {augment: [shift], patience: 100}
targets: [onnx-fp32, onnx-int8, tflite-fp32, tflite-int8]
"""
_HEAD_STEPS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One update of one file."""

    name: str
    base: bytes
    target: bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller network and fewer epochs: rougher figures")
    quick = parser.parse_args().quick
    spec = parse(SPEC.replace("EPOCHS", "3" if quick else "12").replace("STAGES", "3" if quick else "4"))
    samples = list(_signs() or _digits())[:: 3 if quick else 1]
    task = tasks.make(spec)
    splits = task.load(tuple(sorted({sample.label for sample in samples})), samples)
    with tempfile.TemporaryDirectory(prefix="bench-delta-") as name:
        changes = _changes(task, splits, Path(name))
        for change in changes:
            _sizes(change)
        _costs(next(change for change in changes if change.name == "fine-tune, onnx-int8"), Path(name))
        _costs(next(change for change in changes if change.name == "last layer, onnx-fp32"), Path(name))


def _changes(task: Task, splits: Splits, folder: Path) -> list[Change]:
    half = replace(splits, train=splits.train.take(np.arange(0, len(splits.train), 2)), calibration=splits.calibration // 2)
    base = _trained(task, _new(task, splits, seed=0), half, folder / "base")
    networks = {
        "full retrain": _trained(task, _new(task, splits, seed=1), splits, folder / "retrain"),
        "fine-tune": _tuned(task, base, splits, folder / "tuned"),
        "last layer": _last_layer(task, base, splits),
    }
    before = _files(task, base, splits, folder)
    after = {name: _files(task, network, splits, folder) for name, network in networks.items()}
    return [
        Change(name=f"{update}, {target}", base=before[target], target=made[target])
        for update, made in after.items()
        for target in made
    ]


def _new(task: Task, splits: Splits, *, seed: int) -> Network:
    seeded = replace(task.spec, train=replace(task.spec.train, seed=seed))
    return cast(Network, tasks.make(seeded).network(task.spec.student, splits))


def _trained(task: Task, network: Network, splits: Splits, folder: Path) -> Network:
    epochs, loss = task.spec.student.epochs, task.loss(splits)
    train.fit(task, network, splits, epochs=epochs, loss=loss, checkpoint=Checkpoint(folder, "bench"), tell=_tell)
    return network


def _tuned(task: Task, base: Network, splits: Splits, folder: Path) -> Network:
    """All layers go on with all samples, at a tenth of the rate, for a third of the epochs."""
    spec = task.spec
    slow = replace(spec.train, lr=spec.train.lr / 10)
    short = replace(spec, train=slow, student=replace(spec.student, epochs=max(1, spec.student.epochs // 3)))
    return _trained(tasks.make(short), copy.deepcopy(base), splits, folder)


def _last_layer(task: Task, base: Network, splits: Splits) -> Network:
    """The features stay as they are, batch norm included."""
    network = copy.deepcopy(base).eval()
    feeder = task.feeder(splits)
    with torch.inference_mode():
        light = feeder.light(torch.from_numpy(splits.train.inputs))
        features = torch.cat([network.pool(network.features(feeder(part))).flatten(1) for part in light.split(256)])
    features, labels = features.clone(), torch.from_numpy(splits.train.targets)
    optimizer = torch.optim.Adam(network.head.parameters(), lr=1e-3)
    for _ in range(_HEAD_STEPS):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network.head(features), labels).backward()
        optimizer.step()
    return network


def _files(task: Task, network: Network, splits: Splits, folder: Path) -> Mapping[str, bytes]:
    return {made.target: made.data for made in export.export(network, splits, task.spec.targets, folder, _tell)}


def _sizes(change: Change) -> None:
    whole = len(zstandard.ZstdCompressor(level=19).compress(change.target))
    figure(BENCH, f"{change.name}: file", len(change.target), "bytes", reference=whole)
    made = {tool: len(encode(change.base, change.target) or b"") for tool, encode in _encoders().items()}
    for tool, size in made.items():
        figure(BENCH, f"{change.name}: {tool}", size, "bytes", reference=whole)
    shipped = min(made["zstd patch"], made["tensor"] or made["zstd patch"])
    aim = "" if change.name.startswith("full") else "<= 0.8"
    figure(BENCH, f"{change.name}: shipped", shipped, "bytes", reference=whole, aim=aim)


def _encoders() -> dict[str, Callable[[bytes, bytes], bytes | None]]:
    ours: dict[str, Callable[[bytes, bytes], bytes | None]] = {"zstd patch": patch.encode, "tensor": tensors.encode}
    return ours | {tool: partial(TOOLS[tool][0]) for tool in available()}


def _costs(change: Change, folder: Path) -> None:
    """Time to encode and to decode, and the memory that decoding takes."""
    (folder / "old").write_bytes(change.base)
    for tool, encode in _encoders().items():
        started = time.perf_counter()
        delta = encode(change.base, change.target)
        encode_s = time.perf_counter() - started
        if delta is None:
            continue
        (folder / "delta").write_bytes(delta)
        command = [sys.executable, "-m", "scripts.benches._undelta", tool, str(folder), str(len(change.target))]
        decoded = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        if (folder / "new").read_bytes() != change.target:
            raise SystemExit(f"{tool} gave other bytes than it was made for")
        figure(BENCH, f"{change.name}: encode with {tool}", encode_s * 1e3, "ms")
        figure(BENCH, f"{change.name}: decode with {tool}", decoded["ms"], "ms")
        figure(BENCH, f"{change.name}: peak memory of decoding with {tool}", decoded["bytes"] / (1 << 20), "MiB")


if __name__ == "__main__":
    main()
