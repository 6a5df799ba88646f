"""Windows that are like normal ones, or not."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cloud_hub.core.errors import Invalid
from cloud_hub.pipeline import data, losses, split, windows
from cloud_hub.pipeline.auc import auc
from cloud_hub.pipeline.clean import CleaningReport, Item, RawSample, clean
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.split import SPLITS, TRAIN
from cloud_hub.pipeline.task import Loss, Outputs, Score, Task
from cloud_hub.pipeline.tasks.anomaly_detection import AutoencoderSpec
from cloud_hub.pipeline.tasks.anomaly_detection.network import build
from edge_agent.infer.inputs import tensors_of
from protos.contract.inputs import Input, WindowInput
from protos.contract.manifest import Manifest
from protos.contract.outputs import ANOMALY, NORMAL, Reconstruction

_FALSE_ALARMS = 0.01  # share of normal windows, at which the share of found anomalies is reported
_LEAST_THRESHOLD = 1e-6  # a network that reproduces everything still needs one


class AnomalyDetection(Task):
    """Targets are 0 for normal and 1 for an anomaly; a sample without a label counts as normal. Anomalies never train."""

    # -- data -------------------------------------------------------------------------------------------------------------

    def load(self, labels: tuple[str, ...], samples: Iterable[RawSample]) -> Splits:
        spec, section = self.spec, self.spec.preprocess
        items, report = clean(
            samples,
            windows.decoder(section.steps, section.channels),
            None,
            limit=spec.data.max_samples,
            limit_bytes=spec.data.max_bytes,
        )
        items = _known(items, report)
        if len(items) < spec.data.min_samples:
            raise data.unusable(f"{len(items)} usable samples, data.min_samples is {spec.data.min_samples}", spec, report)
        try:
            parts, notes = split.assign(items, spec.data, classes=False)
            rows = data.by_split(items, parts)
            notes += _keep_normal(rows)
            input, said = windows.fit(rows[TRAIN], section.steps, section.channels)
        except Invalid as error:
            raise data.unusable(str(error), spec, report) from error
        report.notes += notes + said
        train, val, test = (_split(rows[name], input) for name in SPLITS)
        return Splits(
            labels=(NORMAL, ANOMALY),
            train=train,
            val=val,
            test=test,
            calibration=data.even(rows[TRAIN], spec.data.calibration),
            input=input,
            fingerprint=data.fingerprint(rows),
            report=report,
        )

    def feeder(self, splits: Splits) -> windows.WindowFeeder:
        return windows.WindowFeeder(self.spec.augment, noise=self.spec.preprocess.noise)

    # -- network ----------------------------------------------------------------------------------------------------------

    def network(self, section: AutoencoderSpec, splits: Splits) -> nn.Module:
        _, steps, channels = windows.input_of(splits).shape
        return build(section, steps=steps, channels=channels, seed=self.spec.train.seed)

    def loss(self, splits: Splits) -> Loss:
        of = losses.huber if self.spec.loss == "huber" else losses.mse

        def loss(outputs: Tensor, batch: Tensor, targets: Tensor) -> Tensor:
            return of(outputs, batch)

        return loss

    def distance(self, own: Tensor, teacher: Tensor) -> Tensor:
        """From the nearest multiple of what the teacher says: how much of a window it gives back is its own affair."""
        with torch.no_grad():
            nearest = teacher * ((own * teacher).sum() / teacher.square().sum().clamp(min=1e-12))
        return losses.mse(own, nearest)

    # -- judgement --------------------------------------------------------------------------------------------------------

    def value(self, outputs: Outputs, split: Split, splits: Splits) -> float:
        errors = errors_of(outputs, split)
        if _both(split):
            return auc(errors, split.targets == 1)
        return explained(outputs, split)

    def score(self, outputs: Outputs, split: Split, splits: Splits) -> Score:
        errors, anomalous = errors_of(outputs, split), split.targets == 1
        both = _both(split)
        details: dict[str, Any] = {"measure": "auroc" if both else "explained variance"}
        by_class = {}
        for name, rows in ((NORMAL, ~anomalous), (ANOMALY, anomalous)):
            if rows.any():
                details[f"error_{name}"] = {f"p{p}": round(float(np.percentile(errors[rows], p)), 6) for p in (50, 95, 99)}
        if both:
            limit = float(np.quantile(errors[~anomalous], 1 - _FALSE_ALARMS))
            by_class = {NORMAL: float((errors[~anomalous] <= limit).mean()), ANOMALY: float((errors[anomalous] > limit).mean())}
            details["found_at_1_percent_false_alarms"] = round(by_class[ANOMALY], 4)
            details["best_f1"] = round(best_f1(errors, anomalous), 4)
            details["separation_by_mean"] = round(auc(by_mean(split), anomalous), 4)
        return Score(
            value=self.value(outputs, split, splits),
            samples=len(split),
            by_class=by_class,
            class_samples={name: int((split.targets == i).sum()) for i, name in enumerate(splits.labels) if name in by_class},
            by_group=self.by_group(outputs, split, splits),
            details=details,
        )

    def comparable(self, part: Split, whole: Split) -> bool:
        """By the measure that holds for all: what has no known anomaly says nothing beside a whole that has."""
        return _both(part) or not _both(whole)

    # -- the device -------------------------------------------------------------------------------------------------------

    def usual_rows(self, split: Split) -> NDArray[np.int64]:
        """The normal ones: of what lies beyond, an int8 file cuts its output off."""
        return np.flatnonzero(split.targets == 0)

    def output(self, splits: Splits, outputs: Outputs | None = None) -> Reconstruction:
        _, steps, channels = windows.input_of(splits).shape
        if outputs is None:
            return Reconstruction(values=steps * channels, threshold=1.0)
        files = len(outputs) // len(splits.val)
        errors = np.concatenate([errors_of(part, splits.val) for part in np.split(outputs, files)])
        normal = errors[np.tile(splits.val.targets == 0, files)]
        threshold = float(np.quantile(normal, self.spec.preprocess.quantile))
        return Reconstruction(values=steps * channels, threshold=float(np.float32(max(threshold, _LEAST_THRESHOLD))))

    def from_champion(self, outputs: Outputs, theirs: Manifest, splits: Splits) -> Outputs:
        """What it made of its own tensors, in the units of ours."""
        input, ours = theirs.input, windows.input_of(splits)
        if not isinstance(input, WindowInput) or (input.channels, input.steps) != (ours.channels, ours.steps):
            raise Invalid("its windows have other channels or steps")
        told = outputs.reshape(-1, ours.steps, len(ours.channels)).astype(np.float64)
        told = (told * np.array(input.std) + np.array(input.mean) - np.array(ours.mean)) / np.array(ours.std)
        scaled: Outputs = told.reshape(outputs.shape).astype(np.float32)
        return scaled


def errors_of(outputs: Outputs, split: Split) -> NDArray[np.float64]:
    """``(N,)``: the mean squared error of each window, as a device reckons it."""
    return np.asarray(np.mean(np.square(outputs - split.inputs.reshape(len(outputs), -1)), axis=1, dtype=np.float64))


def explained(outputs: Outputs, split: Split) -> float:
    """Share of the windows' variance that the best multiple of what was made of them explains, 0..1."""
    windows = split.inputs.reshape(len(outputs), -1).astype(np.float64)
    common = float(np.sum(windows * outputs)) ** 2
    return common / max(float(np.sum(np.square(windows)) * np.sum(np.square(outputs), dtype=np.float64)), 1e-12)


def by_mean(split: Split) -> NDArray[np.float64]:
    """``(N,)``: how far the means of each window's channels are from those in training. What is learned must beat that."""
    return np.asarray(np.sqrt(np.square(split.inputs.mean(1, dtype=np.float64)).sum(1)))


def _both(split: Split) -> bool:
    return 0 < int((split.targets == 1).sum()) < len(split)


def best_f1(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Of all thresholds the best one's."""
    hits = np.cumsum(positive[np.argsort(-scores, kind="stable")])
    return float((2 * hits / (np.arange(1, len(scores) + 1) + positive.sum())).max())


def _known(items: Sequence[Item], report: CleaningReport) -> list[Item]:
    kept = []
    for item in items:
        if item.label in ("", NORMAL, ANOMALY):
            kept.append(item)
        else:
            report.drop(f"its label is neither {NORMAL!r} nor {ANOMALY!r}", item.digest[-6:])
    report.kept = len(kept)
    return kept


def _keep_normal(rows: dict[str, list[Item]]) -> list[str]:
    """Anomalies leave the training split, in place. Raises Invalid: nothing normal is left in a split that needs it."""
    anomalies = sum(item.label == ANOMALY for item in rows[TRAIN])
    rows[TRAIN] = [item for item in rows[TRAIN] if item.label != ANOMALY]
    for name in SPLITS:
        if all(item.label == ANOMALY for item in rows[name]):
            raise Invalid(f"no normal sample is left for '{name}'")
    if not anomalies:
        return []
    return [f"{anomalies} anomalies came with sources that train: they are left out, for only what is normal is learned"]


def _split(items: Sequence[Item], input: Input) -> Split:
    contents = [item.content for item in items]
    return Split(
        contents=contents,
        inputs=tensors_of(contents, input),
        targets=np.array([item.label == ANOMALY for item in items], dtype=np.int64),
        groups=tuple(item.group for item in items),
        origins=tuple(item.origin for item in items),
    )
