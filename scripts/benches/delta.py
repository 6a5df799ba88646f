"""Bytes of an update as a delta: a network trained anew, one that was trained on, and two of which only some weights were.

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
import zstandard

from cloud_hub.core.spec import parse
from cloud_hub.core.spec_sections.train import FinetuneSpec
from cloud_hub.delta import patch, tensors
from cloud_hub.pipeline import export, finetune, frozen, train
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
_FURTHER = {"last layer": "head", "low rank": "lora"}  # in int8 with the scales of the file before


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One update of one file."""

    name: str
    base: bytes
    target: bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller network and fewer epochs: rougher figures")
    parser.add_argument("--work", type=Path, help="keep networks and files there: a run that was stopped goes on")
    arguments = parser.parse_args()
    quick = arguments.quick
    spec = parse(SPEC.replace("EPOCHS", "3" if quick else "12").replace("STAGES", "3" if quick else "4"))
    samples = list(_signs() or _digits())[:: 3 if quick else 1]
    task = tasks.make(spec)
    splits = task.load(tuple(sorted({sample.label for sample in samples})), samples)
    with tempfile.TemporaryDirectory(prefix="bench-delta-") as name:
        changes = _changes(task, splits, arguments.work or Path(name))
        for change in changes:
            _sizes(change)
        _costs(next(change for change in changes if change.name == "fine-tune, onnx-int8"), Path(name))
        _costs(next(change for change in changes if change.name == "last layer, onnx-fp32"), Path(name))


def _changes(task: Task, splits: Splits, folder: Path) -> list[Change]:
    half = replace(splits, train=splits.train.take(np.arange(0, len(splits.train), 2)), calibration=splits.calibration // 2)
    places = {name: folder / name for name in ("base", "full retrain", "fine-tune", *_FURTHER)}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    base = _trained(task, _new(task, splits, seed=0), half, places["base"])
    before = _files(task, base, half, places["base"])
    networks = {
        "full retrain": _trained(task, _new(task, splits, seed=1), splits, places["full retrain"]),
        "fine-tune": _tuned(task, base, splits, places["fine-tune"]),
        **{name: _further(task, mode, base, splits, places[name]) for name, mode in _FURTHER.items()},
    }
    for name in _FURTHER:
        for converter, kept in frozen.BASE.items():  # as a job that goes on from the champion lays it out
            (places[name] / kept).write_bytes(before[f"{converter}-int8"])
    changes = []
    for update, network in networks.items():
        made = _files(task, network, splits, places[update])
        changes += [Change(name=f"{update}, {target}", base=before[target], target=made[target]) for target in made]
        _accuracy(task, update, network, splits)
    _accuracy(task, "base", base, splits)
    return changes


def _accuracy(task: Task, name: str, network: Network, splits: Splits) -> None:
    """Of the network before it is quantized, on the test split: what the bytes buy."""
    outputs = tasks.predict(network, task.feeder(splits), splits.test.inputs)
    figure(BENCH, f"{name}: {task.metric.name}", task.value(outputs, splits.test, splits), "")


def _new(task: Task, splits: Splits, *, seed: int) -> Network:
    seeded = replace(task.spec, train=replace(task.spec.train, seed=seed))
    return cast(Network, tasks.make(seeded).network(task.spec.student, splits))


def _trained(task: Task, network: Network, splits: Splits, folder: Path) -> Network:
    epochs, loss = task.spec.student.epochs, task.loss(splits)
    checkpoint = Checkpoint(folder / "network", "bench")
    train.fit(task, network, splits, epochs=epochs, loss=loss, checkpoint=checkpoint, tell=_tell)
    return network


def _tuned(task: Task, base: Network, splits: Splits, folder: Path) -> Network:
    """All layers go on with all samples, at a tenth of the rate, for a third of the epochs."""
    spec = task.spec
    slow = replace(spec.train, lr=spec.train.lr / 10)
    short = replace(spec, train=slow, student=replace(spec.student, epochs=max(1, spec.student.epochs // 3)))
    return _trained(tasks.make(short), copy.deepcopy(base), splits, folder)


def _further(task: Task, mode: str, base: Network, splits: Splits, folder: Path) -> Network:
    """As a job does it: batch norm stays as it is, and what is not trained whole stays within its int8 scales."""
    tuned = replace(task.spec.train, finetune=FinetuneSpec(mode=mode, epochs=max(1, task.spec.student.epochs // 3)))
    own = task.under(replace(task.spec, train=tuned, student=replace(task.spec.student, epochs=tuned.finetune.epochs)))
    network = copy.deepcopy(base).cpu()
    for note in finetune.freeze(network, own, splits):
        _tell(0, note)
    _trained(own, network, splits, folder)
    finetune.finish(network)
    return network


def _files(task: Task, network: Network, splits: Splits, folder: Path) -> Mapping[str, bytes]:
    """By target. Those that an earlier run left in the folder are taken as they are."""
    paths = {target: folder / target for target in task.spec.targets}
    if not all(path.exists() for path in paths.values()):
        for made in export.export(network, splits, task.spec.targets, folder, _tell):
            paths[made.target].write_bytes(made.data)
    return {target: path.read_bytes() for target, path in paths.items()}


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
