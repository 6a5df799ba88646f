"""Windows that are told in numbers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cloud_hub.pipeline import windows
from cloud_hub.pipeline.clean import Decode, Item
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.numbers import Numbers
from cloud_hub.pipeline.tasks.sections import ConvSpec
from cloud_hub.pipeline.tasks.window_regression.network import build
from protos.contract.inputs import Input


class WindowRegression(Numbers):
    def decoder(self) -> Decode:
        return windows.decoder(self.spec.preprocess.steps, self.spec.preprocess.channels)

    def fit_input(self, items: Sequence[Item], notes: list[str]) -> Input:
        input, said = windows.fit(items, self.spec.preprocess.steps, self.spec.preprocess.channels)
        notes += said
        return input

    def read(self, label: str) -> NDArray[np.float64] | None:
        target, section = super().read(label), self.spec.preprocess
        if target is None or (section.least is None and section.most is None):
            return target
        return np.clip(target, section.least, section.most)

    def feeder(self, splits: Splits) -> windows.WindowFeeder:
        return windows.WindowFeeder(self.spec.augment, noise=self.spec.preprocess.noise)

    def network(self, section: ConvSpec, splits: Splits) -> nn.Module:
        return build(
            section,
            channels=len(windows.input_of(splits).channels),
            values=self.output(splits).size,
            seed=self.spec.train.seed,
        )
