"""A task from its specification to a device's answers, small enough for a test."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from cloud_hub.core.spec import TrainingSpec, parse
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline import train
from cloud_hub.pipeline.checkpoint import Checkpoint
from cloud_hub.pipeline.clean import RawSample
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.publish import Package
from cloud_hub.pipeline.retrain import Published, retrain
from cloud_hub.pipeline.task import Outputs, Task
from edge_agent.infer.model import Model
from edge_agent.infer.runtimes import load
from protos.contract import codec

INT8 = ("onnx-int8", "tflite-int8")


def published(spec: TrainingSpec, labels: tuple[str, ...], samples: Iterable[RawSample], folder: Path) -> Published:
    """The whole way; fails with the gate's reason."""
    made = retrain(spec, labels, samples, folder=folder, reserve=lambda: 1)
    assert isinstance(made, Published), made.reason
    return made


def on_device(package: Package, target: str, runtime: str | None = None) -> Model:
    """As an agent loads it."""
    variant = next(each for each in package.variants if each.target == target)
    manifest = codec.decode_manifest(package.blobs[variant.manifest_digest])
    return Model(manifest, load(manifest.format, package.blobs[variant.artifact_digest], runtime=runtime))


def fitted(text: str, labels: tuple[str, ...], samples: Iterable[RawSample], folder: Path) -> tuple[Task, Splits, nn.Module]:
    """The student alone, without a teacher and without files."""
    spec = parse(text)
    task = tasks.make(spec)
    splits = task.load(labels, samples)
    network = task.network(spec.student, splits)
    folder.mkdir(exist_ok=True)
    checkpoint = Checkpoint(folder / "student.safetensors", "key")
    loss, epochs = task.loss(splits), spec.student.epochs
    train.fit(task, network, splits, epochs=epochs, loss=loss, checkpoint=checkpoint, tell=lambda *_: None)
    return task, splits, network


def on_test(task: Task, splits: Splits, network: nn.Module) -> Outputs:
    return tasks.predict(network, task.feeder(splits), splits.test.inputs)


def figure(made: Published, target: str, name: str) -> Any:
    """Of a file on the test split."""
    return made.report["variants"][target][name]  # type: ignore[index]
