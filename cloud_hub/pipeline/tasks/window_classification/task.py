"""Windows of one of several classes."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from torch import nn

from cloud_hub.pipeline import windows
from cloud_hub.pipeline.classes import Classes
from cloud_hub.pipeline.clean import Decode, Item, RawSample
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.task import Outputs, Score
from cloud_hub.pipeline.tasks.sections import ConvSpec
from cloud_hub.pipeline.tasks.window_classification.network import build
from protos.contract.inputs import Input


class WindowClassification(Classes):
    def load(self, labels: tuple[str, ...], samples: Iterable[RawSample]) -> Splits:
        self._notes: list[str] = []
        splits = super().load(labels, samples)
        splits.report.notes += self._notes
        return splits

    def decoder(self) -> Decode:
        return windows.decoder(self.spec.preprocess.steps, self.spec.preprocess.channels)

    def fit_input(self, items: Sequence[Item]) -> Input:
        input, self._notes = windows.fit(items, self.spec.preprocess.steps, self.spec.preprocess.channels)
        return input

    def feeder(self, splits: Splits) -> windows.WindowFeeder:
        return windows.WindowFeeder(self.spec.augment, noise=self.spec.preprocess.noise)

    def network(self, section: ConvSpec, splits: Splits) -> nn.Module:
        return build(
            section, channels=len(windows.input_of(splits).channels), classes=len(splits.labels), seed=self.spec.train.seed
        )

    def value(self, outputs: Outputs, split: Split, splits: Splits) -> float:
        """Mean F1 of the classes that are there."""
        said, classes = outputs.argmax(1), max(outputs.shape[1], len(splits.labels))
        truth = np.bincount(split.targets, minlength=classes)
        given = np.bincount(said, minlength=classes)
        right = np.bincount(split.targets[said == split.targets], minlength=classes)
        there = truth > 0
        return float((2 * right[there] / (truth[there] + given[there])).mean())

    def score(self, outputs: Outputs, split: Split, splits: Splits) -> Score:
        score = super().score(outputs, split, splits)
        accuracy = float((outputs.argmax(1) == split.targets).mean())
        return replace(score, details={"accuracy": round(accuracy, 4), **score.details})
