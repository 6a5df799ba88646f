"""Rows of a table, each of one of several classes, which may cost differently to miss."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cloud_hub.core.errors import Invalid
from cloud_hub.pipeline import contents, losses
from cloud_hub.pipeline.auc import mean_auc, one_against_rest
from cloud_hub.pipeline.classes import Classes, probabilities
from cloud_hub.pipeline.clean import Decode, Item, RawSample
from cloud_hub.pipeline.columns import fit_rows
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.evaluation.calibration import calibration
from cloud_hub.pipeline.task import Loss, Outputs, Score
from cloud_hub.pipeline.tasks.tabular_classification import NetworkSpec, TableSpec
from cloud_hub.pipeline.tasks.tabular_classification.network import build
from protos.contract.inputs import Input, SampleKind

_BINS = 10  # of the calibration error (Guo et al., 2017)


class TabularClassification(Classes):
    def load(self, labels: tuple[str, ...], samples: Iterable[RawSample]) -> Splits:
        if unknown := sorted(set(self._table.costs) - set(labels)):
            raise Invalid(f"training spec: 'preprocess.costs.{unknown[0]}' is no label of the data set: {', '.join(labels)}")
        self._notes: list[str] = []
        splits = super().load(labels, samples)
        splits.report.notes += self._notes
        return splits

    def decoder(self) -> Decode:
        return contents.decoder(SampleKind.ROW)

    def fit_input(self, items: Sequence[Item]) -> Input:
        table = self._table
        rows = [
            {name: cell for name, cell in item.content.items() if name not in table.exclude}
            for item in items
            if isinstance(item.content, dict)
        ]
        input, self._notes = fit_rows(rows, max_categories=table.max_categories, indicators=table.indicators)
        return input

    def network(self, section: NetworkSpec, splits: Splits) -> nn.Module:
        return build(section, features=splits.input.shape[1], classes=len(splits.labels), seed=self.spec.train.seed)

    def loss(self, splits: Splits) -> Loss:
        """Each class weighs what it costs to miss, so that the largest output is the cheapest answer."""
        weights = torch.from_numpy(self._weights(splits)).float()
        loss = losses.focal if self.spec.loss == "focal" else losses.cross_entropy

        def weighted(outputs: Tensor, batch: Tensor, targets: Tensor) -> Tensor:
            return loss(outputs, targets, smoothing=self.spec.train.label_smoothing, weights=weights.to(outputs.device))

        return weighted

    def value(self, outputs: Outputs, split: Split, splits: Splits) -> float:
        return mean_auc(outputs, split.targets, len(splits.labels))

    def each(self, outputs: Outputs, split: Split, splits: Splits) -> None:
        """The area under a curve is no mean over samples."""

    def comparable(self, part: Split, whole: Split) -> bool:
        """Samples of one class have no area: the chance that ``value`` then gives is no measurement."""
        return len(np.unique(part.targets)) > 1 or len(np.unique(whole.targets)) == 1

    def score(self, outputs: Outputs, split: Split, splits: Splits) -> Score:
        plain = super().score(outputs, split, splits)
        labels, said = splits.labels, outputs.argmax(1)
        recall = np.array(list(plain.by_class.values()))
        auc = one_against_rest(outputs, split.targets, len(labels))
        costs = self._costs(splits)
        details = {
            **plain.details,
            "accuracy": round(float((said == split.targets).mean()), 4),
            "balanced_accuracy": round(float(recall.mean()), 4),
            "auc_by_class": {name: round(float(a), 4) for name, a in zip(labels, auc, strict=True) if np.isfinite(a)},
            "calibration_error": round(_calibration_error(self._unshifted(outputs, splits), split.targets), 4),
            "cost": round(float(costs[split.targets][said != split.targets].sum() / len(split)), 4),
            "cost_of_one_answer": round(_cheapest(split.targets, costs), 4),  # to be beaten: the same for everybody
        }
        return replace(plain, details=details)

    @property
    def _table(self) -> TableSpec:
        table: TableSpec = self.spec.preprocess
        return table

    def _costs(self, splits: Splits) -> NDArray[np.float64]:
        return np.array([self._table.cost(label) for label in splits.labels])

    def _weights(self, splits: Splits) -> NDArray[np.float64]:
        """Costs; where they are given, without what drawing rare classes more often would add to them."""
        costs = self._costs(splits)
        if self.spec.train.balance and self._table.costs:
            counts = np.bincount(splits.train.targets, minlength=len(costs))
            costs = costs / np.sqrt(counts.max() / np.maximum(counts, 1))
        weights: NDArray[np.float64] = costs / costs.mean()
        return weights

    def _unshifted(self, outputs: Outputs, splits: Splits) -> Outputs:
        """Logits of what is likely, out of those of what is dear."""
        costs = np.log(self._costs(splits)).astype(np.float32)
        return outputs[:, : len(costs)] - costs


def _cheapest(targets: NDArray[np.int64], costs: NDArray[np.float64]) -> float:
    """Mean cost of the one answer that costs least when it is given for every sample."""
    missed = costs * np.bincount(targets, minlength=len(costs))
    return float((missed.sum() - missed).min() / len(targets))


def _calibration_error(outputs: Outputs, targets: NDArray[np.int64]) -> float:
    """Mean distance between how sure it is and how often it is right, over bins of confidence; 0..1."""
    shares = probabilities(outputs, 1.0)
    return calibration(shares.max(1), shares.argmax(1) == targets, _BINS).ece
