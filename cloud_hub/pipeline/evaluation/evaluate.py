"""From what a job has made to its report: the one call of the pipeline into this package."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from cloud_hub.pipeline import networks
from cloud_hub.pipeline.clean import Suspect
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.evaluation import findings, gallery, report
from cloud_hub.pipeline.evaluation.conditions import Devices
from cloud_hub.pipeline.evaluation.made import Histories, Made
from cloud_hub.pipeline.task import Outputs, Task, predict
from cloud_hub.pipeline.verify import Verified


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    page: bytes  # HTML
    document: bytes  # JSON
    summary: Mapping[str, object]  # JSON, short: for the report of a version


def evaluate(
    task: Task,
    splits: Splits,
    network: nn.Module,
    verified: Sequence[Verified],
    about: Mapping[str, Any],
    histories: Histories,
    suspected: Sequence[Suspect] = (),
    devices: Devices | None = None,
) -> Written:
    """Of the first of ``verified``, which are those that passed the gate, or else all there are; without any of the network.

    Args:
        network: the student the files were made from.
        about: the job's report so far, with the gate's verdict.
        suspected: labels that look wrong to the rest of their source or to networks that were not trained on them; where
            no such network was asked, the student is.
        devices: labels of those that samples come from: the metric is told of each group.
    """
    feeder = task.feeder(splits).to(networks.device())
    own = {name: predict(network, feeder, getattr(splits, name).inputs) for name in ("train", "val", "test")}
    first = verified[0] if verified else None
    output = task.output(splits, own["val"] if first is None else first.val_outputs)
    outputs = own["test"] if first is None else first.outputs
    suspects = _suspects(task, splits, own, suspected)
    found = findings.find(task, outputs, splits, output, suspects, devices, seed=task.spec.train.seed)
    made = Made(
        name=task.spec.name,
        target="network" if first is None else first.artifact.target,
        metric=task.metric,
        splits=splits,
        findings=found,
        shown=gallery.show(network, feeder, splits, found.answers, task.spec.evaluate.samples, output),
        report=about,
        histories=histories,
    )
    return Written(
        page=report.page(made).encode(),
        document=json.dumps(finite(report.document(made)), sort_keys=True, ensure_ascii=False).encode(),
        summary=_summary(made),
    )


def _suspects(task: Task, splits: Splits, own: Mapping[str, Outputs], crossed: Sequence[Suspect]) -> list[Suspect]:
    """Each once. Of training what others said, where they were asked; the student has not seen what validates and tests."""
    noise, output = task.spec.labels.noise, task.output(splits, own["val"])
    if not noise.find or not findings.has_classes(splits.train, output):
        return []
    asked = {name: outputs for name, outputs in own.items() if not (noise.folds and name == "train")}
    found = [*crossed, *findings.suspected(task, splits, asked, getattr(output, "temperature", 1.0))]
    once = {(one.split, one.id or one.row): one for one in reversed(found)}
    return sorted(once.values(), key=lambda one: -one.margin)


def _summary(made: Made) -> dict[str, object]:
    found = made.findings
    after = found.calibration.get("after")
    return {
        "judged": made.target,
        "overall": found.overall.as_json(),
        "worst": found.worst.as_json() if found.worst else None,
        "surely_worse": [each.as_json() for each in found.parts if each.surely_worse][:10],
        "ece": round(after.ece, 5) if after else None,
        "suspects": len(found.suspects),
    }


def finite(value: Any) -> Any:
    """As JSON, which knows no NaN: null instead. Databases that look at what they store refuse it."""
    if isinstance(value, Mapping):
        return {str(key): finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
