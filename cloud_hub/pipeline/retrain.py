"""The whole way of a model, stage after stage: data, teacher, student, files, proof, verdict, package."""

import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path

import torch

from cloud_hub.core import spec as specs
from cloud_hub.core.spec import TrainingSpec
from cloud_hub.pipeline import executors, finetune, learn, networks, noise, pseudo, publish, replay, trial
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.clean import RawSample
from cloud_hub.pipeline.compress.search import search
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.evaluation import conditions
from cloud_hub.pipeline.evaluation.conditions import Devices
from cloud_hub.pipeline.evaluation.evaluate import Written, evaluate, finite
from cloud_hub.pipeline.gate import Champion, Decision
from cloud_hub.pipeline.journal import Journal
from cloud_hub.pipeline.progress import Progress, Stages, shares, silent
from cloud_hub.pipeline.publish import Package
from cloud_hub.pipeline.task import Task
from cloud_hub.pipeline.verify import Verified

_PACKAGES = ("tideline", "torch", "onnx", "onnxruntime", "litert-torch", "ai-edge-litert", "ai-edge-quantizer", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Trained, but the gate said no."""

    reason: str
    report: Mapping[str, object]  # JSON
    written: Written


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    package: Package
    report: Mapping[str, object]  # JSON: metrics and lineage
    written: Written


def retrain(
    spec: TrainingSpec,
    labels: tuple[str, ...],
    samples: Iterable[RawSample],
    *,
    folder: Path,
    reserve: Callable[[], int],
    champion: Champion | None = None,
    unlabelled: Iterable[RawSample] = (),
    old: Iterable[RawSample] = (),
    about: Mapping[str, object] | None = None,
    devices: Devices | None = None,
    journal: Journal | None = None,
    ray_address: str = "",
    progress: Progress = silent,
) -> Published | Rejected:
    """Train, compress, export, prove and judge one version.

    Args:
        labels: of the data set, in its order.
        folder: the job's own; an interrupted job that is given it again goes on after its last whole epoch.
        reserve: gives the version's number; called once, when the gate has said yes.
        journal: of the search for settings; None: a job that is interrupted begins it anew.
        ray_address: of the cluster for specs that ask for one; "": one is begun on this machine.
        about: JSON that joins the report: where the data came from, who asked for the job.
        devices: labels of those that samples come from, for the report.
        unlabelled: samples that the teacher may label (``labels.pseudo``); read only where the spec asks for it.
        old: samples of ``train.replay``'s data set; read only where the spec names one.
    Raises:
        Invalid: the data or the spec cannot be used; the message is the cleaning report.
    """
    searches = spec.compress.search != "off"
    stages = Stages(progress, shares=shares(tuned=spec.tuning.trials > 0, searched=searches))
    task = tasks.make(spec)
    replayed = replay.mixed(samples, old, spec) if spec.train.replay.dataset else None
    samples = replayed.samples if replayed is not None else samples
    executor = executors.of(spec, folder, champion, journal=journal, ray_address=ray_address)
    with stages.stage("data"):
        splits = task.load(labels, samples)
        for line in splits.report.lines():
            stages.tell(1, line)
        if replayed is not None:
            stages.tell(1, replayed.line())
        splits, suspected = noise.look(task, splits, folder, stages.tell)
        for column in conditions.unknown(splits.test, spec.evaluate.slices):
            stages.tell(1, f"'evaluate.slices' names {column!r}, which no sample of the test split has")
        stages.tell(1, f"{len(splits.train)} samples to train, {len(splits.val)} to validate, {len(splits.test)} to test")
    tuned = None
    if spec.tuning.trials:
        with stages.stage("tuning"):
            tuned = executor.tune(task, splits, stages)
            task = task.under(tuned.spec)
    with stages.stage("teacher"):
        taught = learn.teach(task, splits, folder, champion, stages, executor.fit)
        teacher, splits = taught.network, taught.splits
    with stages.stage("student"):
        grown, adopted = pseudo.adopt(task, teacher, splits, unlabelled) if spec.labels.pseudo else (splits, None)
        if adopted is not None:
            stages.tell(0, adopted.line())
        learned = learn.study(task, taught, grown, folder, champion, stages, executor.fit)
    with stages.stage("compress" if searches else "export"):
        searched = search(task, teacher, learned.network, splits, folder, stages)
    with stages.stage("verify"):
        trials = trial.judged(task, searched, learned, splits, folder, stages, champion=champion, replayed=replayed)
        decision, last = trial.verdict(trials), trials[-1]
    made_of = {
        "teacher": taught.report,
        "student": learned.report,
        "compression": searched.as_json(task, [each.decision for each in trials]),
        "replay": last.forgotten.as_json() if last.forgotten is not None else None,
        "tuning": list(tuned.table) if tuned is not None else [],
        "labels": {"pseudo": adopted.as_json()} if adopted is not None else {},
    }
    report = {**_report(task, splits, made_of, last.verified, decision, champion, stages), **(about or {})}
    with stages.stage("report"):
        stages.tell(0, "judged: the report is written")
        histories = {"teacher": taught.history, "student": learned.history}
        written = evaluate(task, splits, last.network, decision.kept or last.verified, report, histories, suspected, devices)
        report = {**report, "evaluation": written.summary}
    if decision.reason:
        return Rejected(reason=decision.reason, report=finite(report), written=written)
    with stages.stage("publish"):
        made = publish.package(task, reserve(), decision.kept, splits, finetune.weights_of(last.network, splits.labels))
        stages.tell(0.5, f"version {made.version} passes the gate as {', '.join(v.target for v in made.variants)}")
        patches = finetune.patch_bytes(champion, {item.artifact.target: item.artifact.data for item in decision.kept})
        for target, patch in patches.items():
            sizes = f"{patch['patch_bytes']} of {patch['size_bytes']} bytes"
            stages.tell(1, f"{target}: devices that have the champion load {sizes}")
    weights = {"digest": made.weights.digest, "size_bytes": made.weights.size_bytes}
    report = {**report, "output": made.about, "stages_s": dict(stages.seconds), "weights": weights, "patches": patches}
    return Published(package=made, report=finite(report), written=written)


def _against(task: Task, champion: Champion | None, decision: Decision) -> dict[str, object] | None:
    if champion is None:
        return None
    compared = (
        decision.compared.as_json(task.metric) if decision.compared else {"verdict": decision.refused.get("champion", "")}
    )
    return {"version": champion.version, "target": champion.target, **compared}


def _report(
    task: Task,
    splits: Splits,
    made_of: Mapping[str, object],
    verified: tuple[Verified, ...],
    decision: Decision,
    champion: Champion | None,
    stages: Stages,
) -> dict[str, object]:
    """Everything needed to say later where a version came from."""
    return {
        "task": task.spec.task,
        "metric": task.metric.name,
        "data": {
            **splits.report.as_json(),
            "labels": list(splits.labels),
            "splits": {name: len(getattr(splits, name)) for name in ("train", "val", "test")},
            "fingerprint": splits.fingerprint,
        },
        **made_of,
        "variants": {item.artifact.target: item.as_json(task.metric) for item in verified},
        "test": {item.artifact.target: item.score.as_json(task.metric) for item in decision.kept},
        "refused": decision.refused,
        "reason": decision.reason,
        "champion": _against(task, champion, decision),
        "spec": specs.dump(task.spec),
        "stages_s": dict(stages.seconds),
        "made_with": {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "device": networks.device().type,
            "threads": torch.get_num_threads(),
            **{package: installed(package) for package in _PACKAGES},
        },
    }
