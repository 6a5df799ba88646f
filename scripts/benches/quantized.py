"""What int8 gains and costs in each device runtime: latency, size, accuracy and output error against fp32 of the same network.

The network (1.6 million parameters, 96 x 96) is trained here on traffic signs by day where that data set is at hand
(``TIDELINE_DATA`` or ``../shared/data``), else on scikit-learn's digits. Runtimes run one thread, fp32 and int8 in turns.
"""

import argparse
import csv
import io
import os
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from cloud_hub.core.spec import parse
from cloud_hub.pipeline import export, train
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.checkpoint import Checkpoint
from cloud_hub.pipeline.clean import RawSample
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.export import Artifact
from cloud_hub.pipeline.task import Task
from cloud_hub.pipeline.verify import run
from edge_agent.core.ports import Runtime
from edge_agent.infer.inputs import tensor_of
from edge_agent.infer.runtimes import available, load
from protos.contract.ids import digest_of
from scripts.benches._figures import figure

BENCH = "quantized"
SPEC = """
name: bench
data: {dataset: bench, calibration: 128}
preprocess: {width: 96, height: 96}
teacher: {width: 32, stages: 4, epochs: EPOCHS}
student: {width: 32, stages: 4, epochs: EPOCHS}
train: {augment: [shift], patience: 100}
targets: [onnx-fp32, onnx-int8, tflite-fp32, tflite-int8]
"""
# The slowest runtime has no fast int8 kernels on x86: it is here for 32-bit Arm, where it does.
LATENCY_AIM = {"onnx": ">= 1.3", "tflite": ">= 1.3", "tflite-legacy": ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a third of the pictures and few epochs: rougher figures")
    quick = parser.parse_args().quick
    spec = parse(SPEC.replace("EPOCHS", "3" if quick else "8"))
    samples = list(_signs() or _digits())
    labels = tuple(sorted({sample.label for sample in samples}))
    task = tasks.make(spec)
    splits = task.load(labels, samples[:: 3 if quick else 1])
    with tempfile.TemporaryDirectory() as folder:
        network, artifacts = _make(task, splits, Path(folder))
    reference = tasks.predict(network, task.feeder(splits), splits.test.inputs)
    files = {artifact.target: artifact for artifact in artifacts}
    for runtime in available():
        kind = "onnx" if runtime == "onnx" else "tflite"
        _compare(runtime, files[f"{kind}-fp32"], files[f"{kind}-int8"], splits, reference, rounds=60 if quick else 400)


def _make(task: Task, splits: Splits, folder: Path) -> tuple[nn.Module, tuple[Artifact, ...]]:
    spec = task.spec
    network = task.network(spec.student, splits)
    train.fit(
        task,
        network,
        splits,
        epochs=spec.student.epochs,
        loss=task.loss(splits),
        checkpoint=Checkpoint(folder / "network", "bench"),
        tell=_tell,
    )
    return network, export.export(network, splits, spec.targets, folder, _tell)


def _compare(
    runtime: str, full: Artifact, small: Artifact, splits: Splits, reference: NDArray[np.float32], *, rounds: int
) -> None:
    """Figures of one runtime, int8 with fp32 as the reference."""
    test = splits.test
    loaded = {artifact.target: load(artifact.format, artifact.data, 1, runtime) for artifact in (full, small)}
    spec = splits.input_for(full.layout)
    fast, slow = _latencies([loaded[small.target], loaded[full.target]], tensor_of(test.contents[0], spec), rounds)
    name = f"{runtime}, int8 against fp32"
    figure(
        BENCH, f"{name}: speed (p50, 1 thread)", 1 / fast * 1e3, "inferences/s", reference=1e3 / slow, aim=LATENCY_AIM[runtime]
    )
    figure(BENCH, f"{name}: file", len(small.data), "bytes", reference=len(full.data), aim="<= 0.35")
    logits = {target: run(one, test.contents, spec) for target, one in loaded.items()}
    right = {target: float((each.argmax(1) == test.targets).mean()) for target, each in logits.items()}
    figure(BENCH, f"{name}: accuracy", right[small.target], "share", reference=right[full.target], aim=">= 0.98")
    error = float(np.linalg.norm(logits[small.target] - reference) / np.linalg.norm(reference))
    figure(BENCH, f"{name}: output error", error, "of |logits|", aim="<= 0.1")


def _latencies(runtimes: Sequence[Runtime], tensor: NDArray[np.float32], rounds: int) -> list[float]:
    """p50 milliseconds of each, run in turns."""
    times: list[list[float]] = [[] for _ in runtimes]
    for i in range(rounds + 10):
        for runtime, kept in zip(runtimes, times, strict=True):
            started = time.perf_counter()
            runtime.run(tensor)
            if i >= 10:
                kept.append((time.perf_counter() - started) * 1e3)
    return [statistics.median(kept) for kept in times]


def _signs() -> Iterator[RawSample] | None:
    """German traffic signs by day; a track of one physical sign is a source."""
    folder = Path(os.environ.get("TIDELINE_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")) / "gtsrb32"
    return _read_signs(folder) if (folder / "train_day.tar.gz").is_file() else None


def _read_signs(folder: Path) -> Iterator[RawSample]:
    with (folder / "index.csv").open(newline="") as file:
        index = {row["path"]: row for row in csv.DictReader(file)}
    for archive in ("train_day", "val_day"):
        with tarfile.open(folder / f"{archive}.tar.gz") as members:
            for member in members:
                row = index.get(member.name.removeprefix("./"))
                file_ = members.extractfile(member) if member.isfile() else None
                if row and file_:
                    yield _sample(file_.read(), row["class_name"], f"{row['split']}-{row['class_id']}-{row['track']}")


def _digits() -> Iterator[RawSample]:
    from sklearn.datasets import load_digits

    scans = load_digits()
    for i, (scan, label) in enumerate(zip(scans.images, scans.target, strict=True)):
        buffer = io.BytesIO()
        Image.fromarray((scan * (255 / 16)).astype(np.uint8)).resize((96, 96)).save(buffer, "png")
        yield _sample(buffer.getvalue(), str(label), f"scan-{i}")


def _sample(image: bytes, label: str, source: str) -> RawSample:
    digest = digest_of(image)
    return RawSample(id=digest, digest=digest, content=image, label=label, source=source)


def _tell(fraction: float, line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
