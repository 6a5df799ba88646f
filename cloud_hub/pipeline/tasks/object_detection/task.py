"""Pictures, and the boxes in them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import TrainingSpec
from cloud_hub.pipeline import data, images, split
from cloud_hub.pipeline.clean import CleaningReport, Item, RawSample, clean
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.split import SPLITS, TRAIN
from cloud_hub.pipeline.task import Detected, Loss, Outputs, Score, Task
from cloud_hub.pipeline.tasks.object_detection import NetworkSpec, SceneSpec
from cloud_hub.pipeline.tasks.object_detection.boxes import Unreadable, read, stacked
from cloud_hub.pipeline.tasks.object_detection.loss import detection_distance, detection_loss
from cloud_hub.pipeline.tasks.object_detection.network import build
from cloud_hub.pipeline.tasks.object_detection.precision import Matched, average_precisions, match, mean_precision
from cloud_hub.pipeline.tasks.object_detection.scenes import SceneFeeder
from edge_agent.infer.boxes import boxes_of
from protos.contract.inputs import ImageInput, Layout
from protos.contract.outputs import Detection, Output

_LEAST_SCORE = 0.05  # of boxes the metric looks at: below it there is hardly any right one, and most of the work
_OVERLAP, _TIGHT = 0.5, 0.75  # from here on a box is right
_THRESHOLDS = np.arange(0.1, 0.91, 0.05)  # one of them is what devices keep boxes from
_KEPT = 200_000  # pictures whose matches are remembered


class ObjectDetection(Task):
    def __init__(self, spec: TrainingSpec) -> None:
        super().__init__(spec)
        self._matches: dict[tuple[int, int, float], Matched] = {}

    # -- data -------------------------------------------------------------------------------------------------------------

    def load(self, labels: tuple[str, ...], samples: Iterable[RawSample]) -> Splits:
        spec, scene = self.spec, self._scene
        items, report = clean(
            samples,
            images.decoder(scene.width, scene.height, scene.channels),
            None,
            limit=spec.data.max_samples,
            limit_bytes=spec.data.max_bytes,
        )
        items = self._read(items, labels, report)
        if len(items) < spec.data.min_samples:
            raise data.unusable(f"{len(items)} usable samples, data.min_samples is {spec.data.min_samples}", spec, report)
        try:
            parts, notes = split.assign(items, spec.data, classes=False)
        except Invalid as error:
            raise data.unusable(str(error), spec, report) from error
        report.notes += notes
        rows = data.by_split(items, parts)
        seen = np.unique(np.concatenate([item.target[:, 0] for item in rows[TRAIN]])).astype(int)
        if not len(seen):
            raise data.unusable("no picture to train on has a box", spec, report)
        if len(seen) < len(labels):
            unknown = [repr(label) for i, label in enumerate(labels) if i not in seen]
            report.notes.append(f"the model will not know {', '.join(unknown)}: no box to train on")
        held = (image for image in (np.asarray(item.content) for item in rows[TRAIN]))
        mean, std = images.statistics(np.stack(list(held)), scene.channels)
        train, val, test = (_split(rows[name], seen, scene.max_boxes) for name in SPLITS)
        return Splits(
            labels=tuple(labels[i] for i in seen),
            train=train,
            val=val,
            test=test,
            calibration=data.even(rows[TRAIN], spec.data.calibration),
            input=ImageInput(
                width=scene.width, height=scene.height, channels=scene.channels, layout=Layout.NCHW, mean=mean, std=std
            ),
            fingerprint=data.fingerprint(rows),
            report=report,
        )

    def _read(self, items: Sequence[Item], labels: tuple[str, ...], report: CleaningReport) -> list[Item]:
        kept = []
        for item in items:
            try:
                boxes = read(item.label, labels) if item.label else None
            except Unreadable as error:
                report.drop(str(error), item.id or item.digest)
                continue
            if boxes is None:
                report.drop("no label", item.id or item.digest)
            elif len(boxes) > self._scene.max_boxes:
                report.drop(f"more than preprocess.max_boxes ({self._scene.max_boxes})", item.id or item.digest)
            else:
                kept.append(replace(item, target=boxes))
        report.kept = len(kept)
        return kept

    def feeder(self, splits: Splits) -> SceneFeeder:
        input = splits.input
        assert isinstance(input, ImageInput)
        return SceneFeeder(input.mean, input.std, self.spec.augment)

    # -- network ----------------------------------------------------------------------------------------------------------

    def network(self, section: NetworkSpec, splits: Splits) -> nn.Module:
        return build(section, self._scene, classes=len(splits.labels), seed=self.spec.train.seed)

    def loss(self, splits: Splits) -> Loss:
        grid, smoothing = self.output(splits), self.spec.train.label_smoothing

        def loss(outputs: Tensor, batch: Tensor, targets: Tensor) -> Tensor:
            return detection_loss(outputs, targets, grid, sides=self.spec.loss, smoothing=smoothing)

        return loss

    def distance(self, own: Tensor, teacher: Tensor) -> Tensor:
        scene = self._scene
        cells = scene.height // scene.stride * (scene.width // scene.stride)
        return detection_distance(own, teacher, cells=cells)

    # -- judgement --------------------------------------------------------------------------------------------------------

    def value(self, outputs: Outputs, split: Split, splits: Splits) -> float:
        return mean_precision(self._matched(outputs, split, splits))

    def comparable(self, part: Split, whole: Split) -> bool:
        """Pictures of nothing are no failure: the 0 that ``value`` then gives is no measurement."""
        return bool((part.targets[..., 0] >= 0).any())

    def score(self, outputs: Outputs, split: Split, splits: Splits) -> Score:
        plain = super().score(outputs, split, splits)
        matched = self._matched(outputs, split, splits)
        truths = np.bincount(np.concatenate([each.truths for each in matched]))
        device = self.output(splits)
        right, wrong, missed = _counts(matched, device.min_score)
        return replace(
            plain,
            by_class={splits.labels[kind]: value for kind, value in average_precisions(matched).items()},
            class_samples={splits.labels[kind]: int(count) for kind, count in enumerate(truths) if count},  # boxes
            details={
                "map75": round(mean_precision(self._matched(outputs, split, splits, _TIGHT)), 4),
                "boxes": right + missed,
                f"precision_at_{device.min_score}": round(right / max(right + wrong, 1), 4),
                f"recall_at_{device.min_score}": round(right / max(right + missed, 1), 4),
            },
        )

    def detected(self, outputs: Outputs, split: Split, splits: Splits) -> dict[str, Detected]:
        matched = self._matched(outputs, split, splits)
        label, score, right, truths = (
            np.concatenate([getattr(each, name) for each in matched]) for name in ("label", "score", "right", "truths")
        )
        return {
            name: Detected(score=score[label == kind], right=right[label == kind], truths=int((truths == kind).sum()))
            for kind, name in enumerate(splits.labels)
        }

    def _matched(self, outputs: Outputs, split: Split, splits: Splits, least: float = _OVERLAP) -> list[Matched]:
        """Remembered by what it follows from: a bootstrap asks for the same pictures a thousand times."""
        grid = replace(self.output(splits), min_score=_LEAST_SCORE)
        found = []
        if len(self._matches) > _KEPT:
            self._matches.clear()
        for row, truth in zip(outputs, split.targets, strict=True):
            key = (hash(row.tobytes()), hash(truth.tobytes()), least)
            if (matched := self._matches.get(key)) is None:
                matched = self._matches[key] = match(boxes_of(row, grid)[0], truth, least)
            found.append(matched)
        return found

    # -- the device -------------------------------------------------------------------------------------------------------

    def output(self, splits: Splits, outputs: Outputs | None = None) -> Detection:
        """Calibrated: boxes are kept from the score on that gives the best F1 on the validation split."""
        scene = self._scene
        grid = Detection(
            classes=splits.labels,
            rows=scene.height // scene.stride,
            columns=scene.width // scene.stride,
            stride=scene.stride,
            max_boxes=min(100, 2 * scene.max_boxes),
        )
        if outputs is None:
            return grid
        copies = np.tile(np.arange(len(splits.val)), len(outputs) // len(splits.val))
        matched = self._matched(outputs, splits.val.take(copies), splits)
        best = max(_THRESHOLDS, key=lambda least: _f1(*_counts(matched, least)))
        return replace(grid, min_score=float(np.float32(best)))

    def translated(self, outputs: Outputs, theirs: Output, splits: Splits) -> Outputs:
        """Columns in our order; a class they do not know is never found."""
        ours = self.output(splits)
        if not isinstance(theirs, Detection) or (theirs.rows, theirs.columns) != (ours.rows, ours.columns):
            raise Invalid("its boxes come from another grid")
        cells = outputs.reshape(len(outputs), -1, 4 + len(theirs.classes))
        known = [theirs.classes.index(label) if label in theirs.classes else None for label in ours.classes]
        never = np.full(cells.shape[:2], -100.0, np.float32)
        columns = [cells[..., i] for i in range(4)] + [never if i is None else cells[..., 4 + i] for i in known]
        ordered: Outputs = np.stack(columns, axis=-1).reshape(len(outputs), -1)
        return ordered

    def golden_rows(self, split: Split, count: int) -> NDArray[np.int64]:
        """Those with most boxes first among evenly spread ones: empty pictures show little."""
        boxes = (split.targets[:, :, 0] >= 0).sum(1)
        order: NDArray[np.int64] = np.argsort(-boxes, kind="stable")[: max(count, len(split) // 2)]
        return np.sort(order[np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).astype(np.int64))])

    @property
    def _scene(self) -> SceneSpec:
        scene: SceneSpec = self.spec.preprocess
        return scene


def _split(items: Sequence[Item], classes: NDArray[Any], most: int) -> Split:
    """Boxes of classes that are not trained are left out: what cannot be learned must not be asked for."""
    frames = np.stack([np.asarray(item.content) for item in items])
    index = {int(kind): i for i, kind in enumerate(classes)}
    own = []
    for item in items:
        known = item.target[[int(kind) in index for kind in item.target[:, 0]]].reshape(-1, 5)
        known[:, 0] = [index[int(kind)] for kind in known[:, 0]]
        own.append(known)
    return Split(
        contents=frames,
        inputs=frames,
        targets=stacked(own, most),
        groups=tuple(item.group for item in items),
        origins=tuple(item.origin for item in items),
    )


def _counts(matched: Sequence[Matched], least: float) -> tuple[int, int, int]:
    """Boxes of ``least`` score that are right, that are wrong, and truths that nothing found."""
    right = sum(int(each.right[each.score >= least].sum()) for each in matched)
    said = sum(int((each.score >= least).sum()) for each in matched)
    return right, said - right, sum(len(each.truths) for each in matched) - right


def _f1(right: int, wrong: int, missed: int) -> float:
    return 2 * right / max(2 * right + wrong + missed, 1)
