"""Choices of users: which item comes next."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from cloud_hub.core.errors import Invalid
from cloud_hub.pipeline import classes, contents, data, losses, split
from cloud_hub.pipeline.clean import CleaningReport, Item, RawSample, clean
from cloud_hub.pipeline.columns import categories, fit_rows
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.sparse import SparseFeeder, sparse
from cloud_hub.pipeline.split import SPLITS, TEST, TRAIN
from cloud_hub.pipeline.task import Loss, Outputs, Score, Task
from cloud_hub.pipeline.tasks.recommendation import ChoiceSpec, NetworkSpec
from cloud_hub.pipeline.tasks.recommendation.network import build
from cloud_hub.pipeline.tasks.recommendation.ranks import gain, mean_reciprocal, popular_ranks, ranks
from edge_agent.infer.inputs import Content, encoder
from protos.contract.inputs import CategoryColumn, Input, RowInput, SampleKind
from protos.contract.outputs import Output, Ranking
from protos.contract.samples import Row

_DECODE = contents.decoder(SampleKind.ROW)
_TOP = 10  # of the metric, as its name says; what a device is told is ``preprocess.top``


class Recommendation(Task):
    """Targets are ``(N, 1)``: drawing rare items more often would teach that they are not rare."""

    # -- data -------------------------------------------------------------------------------------------------------------

    def load(self, labels: tuple[str, ...], samples: Iterable[RawSample]) -> Splits:
        spec = self.spec
        items, report = clean(samples, _decoded, labels, limit=spec.data.max_samples, limit_bytes=spec.data.max_bytes)
        if len(items) < spec.data.min_samples:
            raise data.unusable(f"{len(items)} usable samples, data.min_samples is {spec.data.min_samples}", spec, report)
        try:
            parts, notes = split.assign(items, spec.data, classes=False)
            rows = data.by_split(items, parts)
            chosen = Counter(item.label for item in rows[TRAIN])
            known = tuple(sorted(chosen, key=lambda label: (-chosen[label], label))[: self._choice.max_items])
            if len(known) < max(2, self._choice.top):
                raise Invalid(f"{len(known)} items are chosen in the training split, preprocess.top is {self._choice.top}")
            for name in SPLITS:
                rows[name] = self._asked(name, rows[name], known, notes)
            input = self._input(rows[TRAIN], known, notes)
        except Invalid as error:
            raise data.unusable(str(error), spec, report) from error
        report.notes += notes
        train, val, test = (self._split(rows[name], known, input) for name in SPLITS)
        return Splits(
            labels=known,  # most popular first
            train=train,
            val=val,
            test=test,
            calibration=data.even(rows[TRAIN], spec.data.calibration),
            input=input,
            fingerprint=data.fingerprint(rows),
            report=report,
            facts={"chosen": tuple(chosen[label] for label in known)},
        )

    def _asked(self, name: str, items: Sequence[Item], known: tuple[str, ...], notes: list[str]) -> list[Item]:
        """What is learned from, or asked for: of who is tested the newest choice alone, so that each counts once."""
        if name == TEST and self._choice.held_out == "last":
            newest: dict[str, Item] = {}
            for item in items:
                if item.source not in newest or item.at_ms >= newest[item.source].at_ms:
                    newest[item.source] = item
            items = list(newest.values())
        among = set(known)
        kept = [item for item in items if item.label in among]
        if len(kept) < len(items):
            notes.append(
                f"{len(items) - len(kept)} of {len(items)} choices in '{name}' are of items that are not learned: left out"
            )
        if not kept:
            raise Invalid(f"no choice is left for '{name}'")
        return kept

    def _split(self, items: Sequence[Item], known: tuple[str, ...], input: RowInput) -> Split:
        index = {label: i for i, label in enumerate(known)}
        rows = [_row(item) for item in items]
        return Split(
            contents=rows,
            inputs=self.inputs(rows, input),
            targets=np.array([[index[item.label]] for item in items], np.int64),
            groups=tuple(item.group for item in items),
            origins=tuple(item.origin for item in items),
        )

    def _input(self, items: Sequence[Item], known: tuple[str, ...], notes: list[str]) -> RowInput:
        """The seen items first, those that can be chosen in the order of the outputs, then the context."""
        rows = [_row(item) for item in items]
        column = self._choice.seen
        seen = categories(cell for row in rows for cell in [row.get(column)])
        if not seen:
            raise Invalid(f"no row has the column preprocess.seen: {column!r}")
        others = sorted(set(seen) - set(known), key=lambda item: (-seen[item], item))
        first = CategoryColumn(name=column, values=(*known, *others[: max(0, self._choice.max_items - len(known))]))
        context = [{name: cell for name, cell in row.items() if name != column} for row in rows]
        if not any(context):
            return RowInput(columns=(first,))
        fitted, said = fit_rows(context, max_categories=self._choice.max_categories)
        notes += said
        return RowInput(columns=(first, *fitted.columns))

    def inputs(self, contents: Sequence[Content], input: Input) -> NDArray[Any]:
        encode = encoder(input)
        return sparse(encode(content)[0] for content in contents)

    def in_units_of(self, splits: Splits, theirs: Output) -> Splits:
        """Items in that version's order, as its input and its weights have them, however popular they are by now."""
        if set(theirs.labels) != set(splits.labels):
            raise Invalid("the version that would be trained further knows other items: train this one from chance first")
        place = np.array([theirs.labels.index(label) for label in splits.labels], np.int64)
        chosen = dict(zip(splits.labels, splits.facts["chosen"], strict=True))
        parts = {name: getattr(splits, name) for name in SPLITS}
        return replace(
            splits,
            labels=theirs.labels,
            facts={**splits.facts, "chosen": tuple(chosen[label] for label in theirs.labels)},
            **{name: replace(part, targets=place[part.targets]) for name, part in parts.items()},
        )

    def feeder(self, splits: Splits) -> SparseFeeder:
        return SparseFeeder(splits.input.shape[1])

    # -- network ----------------------------------------------------------------------------------------------------------

    def network(self, section: NetworkSpec, splits: Splits) -> nn.Module:
        chosen = splits.facts["chosen"]
        return build(section, features=splits.input.shape[1], chosen=chosen, seed=self.spec.train.seed)

    def loss(self, splits: Splits) -> Loss:
        of = losses.bce if self.spec.loss == "bce" else losses.cross_entropy

        def loss(outputs: Tensor, batch: Tensor, targets: Tensor) -> Tensor:
            return of(outputs, targets[:, 0], smoothing=self.spec.train.label_smoothing)

        return loss

    def distance(self, own: Tensor, teacher: Tensor) -> Tensor:
        return classes.soft_distance(own, teacher, self.spec.train.temperature)

    # -- judgement --------------------------------------------------------------------------------------------------------

    def value(self, outputs: Outputs, split: Split, splits: Splits) -> float:
        return float(self.each(outputs, split, splits).mean())

    def each(self, outputs: Outputs, split: Split, splits: Splits) -> NDArray[np.float64]:
        return (ranks(outputs, split.targets[:, 0]) < _TOP).astype(np.float64)

    def score(self, outputs: Outputs, split: Split, splits: Splits) -> Score:
        targets = split.targets[:, 0]
        own, popular = ranks(outputs, targets), popular_ranks(_seen(split, len(splits.labels)), targets)
        named = np.argsort(-outputs, axis=1, kind="stable")[:, :_TOP]
        return replace(
            super().score(outputs, split, splits),
            details={
                "ndcg_10": round(gain(own, _TOP), 4),
                "mrr_10": round(mean_reciprocal(own, _TOP), 4),
                "coverage": round(len(np.unique(named)) / len(splits.labels), 4),  # share of all items that anybody is told
                "popular_hit_rate_10": round(float((popular < _TOP).mean()), 4),  # of those not seen yet; to be beaten
                "popular_ndcg_10": round(gain(popular, _TOP), 4),
            },
        )

    # -- the device -------------------------------------------------------------------------------------------------------

    def translated(self, outputs: Outputs, theirs: Output, splits: Splits) -> Outputs:
        return classes.known_to(outputs, theirs.labels, splits.labels)

    def output(self, splits: Splits, outputs: Outputs | None = None) -> Ranking:
        top = min(self._choice.top, len(splits.labels))
        if outputs is None:
            return Ranking(labels=splits.labels, top=top)
        targets = np.tile(splits.val.targets[:, 0], len(outputs) // len(splits.val))
        temperature = classes.fit_temperature(outputs, targets)
        threshold = classes.uncertain_below(outputs, temperature)
        return Ranking(labels=splits.labels, top=top, min_confidence=threshold, temperature=temperature)

    @property
    def _choice(self) -> ChoiceSpec:
        choice: ChoiceSpec = self.spec.preprocess
        return choice


def _decoded(sample: RawSample, report: CleaningReport) -> tuple[bytes, Content] | None:
    """Two who have seen the same may choose differently, and so may one: only the same choice of one user is the same."""
    decoded = _DECODE(sample, report)
    if decoded is None:
        return None
    key, row = decoded
    return hashlib.sha256(key + f"{sample.source}\n{sample.label}".encode()).digest(), row


def _row(item: Item) -> Row:
    assert isinstance(item.content, dict)
    return item.content


def _seen(split: Split, items: int) -> NDArray[np.bool_]:
    """``(N, items)``"""
    seen = np.zeros((len(split), items), bool)
    rows, slots = np.nonzero(split.inputs[:, 1])
    places = split.inputs[rows, 0, slots].astype(np.int64)
    seen[rows[places < items], places[places < items]] = True
    return seen
