"""The whole way of a model, stage after stage: data, teacher, student, files, proof, verdict, package."""

import hashlib
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path

import torch

from cloud_hub.core import spec as specs
from cloud_hub.core.spec import NetworkSpec, TrainingSpec
from cloud_hub.pipeline import data, evaluate, export, gate, models, publish, train, verify
from cloud_hub.pipeline.checkpoint import Checkpoint
from cloud_hub.pipeline.clean import RawSample
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.distil import distillation
from cloud_hub.pipeline.gate import Champion, Decision
from cloud_hub.pipeline.models import Input, Network
from cloud_hub.pipeline.progress import Progress, Stages, silent
from cloud_hub.pipeline.publish import Package
from cloud_hub.pipeline.train import Fitted, Loss
from cloud_hub.pipeline.verify import Verified
from protos.contract import ids

_PACKAGES = ("tideline", "torch", "onnx", "onnxruntime", "litert-torch", "ai-edge-litert", "ai-edge-quantizer", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Trained, but the gate said no."""

    reason: str
    report: Mapping[str, object]  # JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    package: Package
    report: Mapping[str, object]  # JSON: metrics and lineage


def retrain(
    spec: TrainingSpec,
    labels: tuple[str, ...],
    samples: Iterable[RawSample],
    *,
    folder: Path,
    reserve: Callable[[], int],
    champion: Champion | None = None,
    progress: Progress = silent,
) -> Published | Rejected:
    """Train, compress, export, prove and judge one version.

    Args:
        labels: of the data set, in its order.
        folder: the job's own; an interrupted job that is given it again goes on after its last whole epoch.
        reserve: gives the version's number; called once, when the gate has said yes.
    Raises:
        Invalid: the data or the spec cannot be used; the message is the cleaning report.
    """
    stages = Stages(progress)
    with stages.stage("data"):
        splits = data.load(spec, labels, samples)
        for line in splits.report.lines():
            stages.tell(1, line)
        stages.tell(1, f"{len(splits.train)} images to train, {len(splits.val)} to validate, {len(splits.test)} to test")
    with stages.stage("teacher"):
        teacher, taught = _fit(spec, spec.teacher, splits, train.cross_entropy(spec.train), folder / "teacher", stages)
    with stages.stage("student"):
        student, learned = _fit(spec, spec.student, splits, distillation(teacher, spec.train), folder / "student", stages)
        tensors = Input(splits.mean, splits.std).to(models.device())
        reference = models.predict(student, tensors, splits.test.frames)
        own = evaluate.score(reference, splits.test, splits.labels)
        best = evaluate.score(models.predict(teacher, tensors, splits.test.frames), splits.test, splits.labels)
    with stages.stage("export"):
        artifacts = export.export(student, splits, spec.targets, folder, stages.tell)
    with stages.stage("verify"):
        name = ids.model_name(spec.name)
        verified = verify.verify(artifacts, splits, reference, name, spec.task, folder, stages.tell)
        decision = gate.decide(spec.gate, spec.targets, verified, own.accuracy, champion, splits)
        for line in decision.lines(champion):
            stages.tell(1, line)
    networks = {
        "teacher": _network_report(teacher, taught, best),
        "student": _network_report(student, learned, own),
    }
    report = _report(spec, splits, networks, verified, decision, champion, stages)
    if decision.reason:
        return Rejected(reason=decision.reason, report=report)
    with stages.stage("publish"):
        made = publish.package(spec, reserve(), decision.kept, splits)
        stages.tell(0.5, f"version {made.version} passes the gate as {', '.join(v.target for v in made.variants)}")
    confidence = {"temperature": made.temperature, "min_confidence": made.min_confidence}
    return Published(package=made, report={**report, "confidence": confidence, "stages_s": dict(stages.seconds)})


def _fit(
    spec: TrainingSpec, network_spec: NetworkSpec, splits: Splits, loss: Loss, path: Path, stages: Stages
) -> tuple[Network, Fitted]:
    image = spec.preprocess
    network = models.build(
        network_spec,
        channels=image.channels,
        side=min(image.width, image.height),
        classes=len(splits.labels),
        seed=spec.train.seed,
    ).to(models.device())
    shaped_by = (splits.fingerprint, splits.labels, spec.preprocess, spec.teacher, spec.student, spec.train)
    key = hashlib.sha256(repr(shaped_by).encode()).hexdigest()
    checkpoint = Checkpoint(path.with_suffix(".safetensors"), key)
    fitted = train.fit(
        network, splits, spec.train, epochs=network_spec.epochs, loss=loss, checkpoint=checkpoint, tell=stages.tell
    )
    return network, fitted


def _network_report(network: Network, fitted: Fitted, score: evaluate.Score) -> dict[str, object]:
    return {
        "parameters": models.parameters(network),
        "epochs": fitted.epochs,
        "train_s": fitted.seconds,
        "validation_accuracy": round(fitted.accuracy, 5),
        "test": score.as_json(),
    }


def _report(
    spec: TrainingSpec,
    splits: Splits,
    networks: Mapping[str, object],
    verified: tuple[Verified, ...],
    decision: Decision,
    champion: Champion | None,
    stages: Stages,
) -> dict[str, object]:
    """Everything needed to say later where a version came from."""
    return {
        "data": {
            **splits.report.as_json(),
            "labels": list(splits.labels),
            "splits": {name: len(getattr(splits, name)) for name in ("train", "val", "test")},
            "fingerprint": splits.fingerprint,
        },
        **networks,
        "variants": {item.artifact.target: item.as_json() for item in verified},
        "test": {item.artifact.target: item.score.as_json() for item in decision.kept},
        "refused": decision.refused,
        "reason": decision.reason,
        "champion": {"version": champion.version, "accuracy": decision.champion_accuracy} if champion else None,
        "spec": specs.dump(spec),
        "stages_s": dict(stages.seconds),
        "made_with": {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "device": models.device().type,
            "threads": torch.get_num_threads(),
            **{package: installed(package) for package in _PACKAGES},
        },
    }
