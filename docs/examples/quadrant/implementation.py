"""What the task of ``declaration.py`` does. It imports torch, so only the worker loads it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from cloud_hub.pipeline import contents
from cloud_hub.pipeline.classes import Classes
from cloud_hub.pipeline.clean import Decode, Item
from cloud_hub.pipeline.data import Splits
from protos.contract.inputs import Input, NumericColumn, RowInput, SampleKind


class Quadrant(Classes):
    def decoder(self) -> Decode:
        return contents.decoder(SampleKind.ROW)

    def fit_input(self, items: Sequence[Item]) -> Input:
        names = (self.spec.preprocess.x, self.spec.preprocess.y)
        columns = [np.array([item.content.get(name, np.nan) for item in items], np.float32) for name in names]  # type: ignore[union-attr]
        scales = [(float(np.nanmean(values)), max(1e-3, float(np.nanstd(values)))) for values in columns]
        return RowInput(
            columns=tuple(NumericColumn(name=name, mean=mean, std=std) for name, (mean, std) in zip(names, scales, strict=True))
        )

    def network(self, section: Any, splits: Splits) -> nn.Module:
        torch.manual_seed(self.spec.train.seed)
        return nn.Sequential(nn.Linear(2, section.hidden), nn.ReLU(), nn.Linear(section.hidden, len(splits.labels)))
