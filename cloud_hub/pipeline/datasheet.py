"""What a data set holds, so that somebody can judge it before a model is trained on it (after Gebru et al., 2018): counts,
distributions, gaps, what leaks from one split into another, and how the newest samples differ from those that train."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import numpy as np

from cloud_hub.core.datasets import Holding, VersionSample, source_of
from cloud_hub.core.errors import HubError, Invalid
from cloud_hub.core.spec import DataSpec
from cloud_hub.core.tasks import Annotation
from cloud_hub.pipeline import columns, split
from cloud_hub.pipeline.clean import Item, RawSample, clean
from cloud_hub.pipeline.sheets import measures
from cloud_hub.pipeline.sheets.measures import Measured
from cloud_hub.pipeline.split import SPLITS, TRAIN
from protos.contract.ids import Digest
from protos.contract.inputs import SampleKind
from protos.contract.samples import Window

MAX_READ = 5000  # samples that are decoded: enough for every share below to be right within a point
_EXAMPLES = 24
_NEWEST = 0.1  # share of the samples
_FEW = 50  # samples of a class below which little is known about it
_UNEVEN = 20  # times as many of the commonest class as of the rarest
_NEAR = 20  # pictures that look alike, told by name
_CHANGED, _LARGE = 0.1, 0.25  # of the stability index: the usual bounds
_ROWS = 200  # sources, devices and days in the figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    label: str
    split: str
    content: Any  # as a device sees it


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """``facts`` are JSON; ``sheets.page`` draws them, and the examples."""

    facts: Mapping[str, Any]
    examples: tuple[Example, ...]

    def json(self) -> str:
        return json.dumps(_plain(self.facts), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def make(
    holding: Holding, samples: Iterable[VersionSample], read: Callable[[Digest], bytes], spec: DataSpec | None = None
) -> Sheet:
    """
    Args:
        samples: by digest, so that the first MAX_READ of them are as good as drawn at random.
        spec: says how they are split; default: as a specification does that says nothing.
    Raises:
        Invalid: there is no sample.
    """
    listed = list(samples)
    if not listed:
        raise Invalid(f"data set {holding.name} has no labelled sample: there is nothing to report")
    spec = spec or DataSpec(dataset=holding.name)
    sources = [source_of(sample, spec.take_s) or sample.digest for sample in listed]
    parts, notes = _parts(holding, listed, sources, spec)
    split_of = {sample.id: part for sample, part in zip(listed, parts, strict=True)}
    labels = holding.labels if holding.annotation is Annotation.CLASS else None
    raw = (_raw(sample, read) for sample in listed[:MAX_READ])
    items, report = clean(raw, measures.decoder(holding.kind), labels, limit=MAX_READ)
    by_part = defaultdict(list)
    for item in items:
        by_part[split_of[item.id]].append(item)
    train = measures.measured(holding.kind, [item.content for item in by_part[TRAIN]])
    newest = measures.measured(holding.kind, [item.content for item in _newest(items)])
    every = measures.measured(holding.kind, [item.content for item in items])
    facts = {
        "dataset": holding.name,
        "kind": holding.kind.name.lower(),
        "annotation": holding.annotation.name.lower(),
        "samples": len(listed),
        "read": min(len(listed), MAX_READ),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "counts": _counts(holding, listed, parts),
        "cleaning": report.as_json(),
        "columns": _columns(every),
        "leaks": _leaks(holding.kind, sources, parts, by_part),
        "drift": _drift(train, newest, by_part[TRAIN], _newest(items)),
        "notes": [*notes, *_balance(holding, listed, parts), *report.lines()[1:]],
    }
    return Sheet(facts=facts, examples=_examples(items, split_of))


def _raw(sample: VersionSample, read: Callable[[Digest], bytes]) -> RawSample:
    try:
        content = read(sample.digest)
    except HubError:  # the report counts it
        content = b""
    return RawSample(
        id=sample.id,
        digest=sample.digest,
        content=content,
        label=sample.label,
        source=sample.source,
        split=sample.split,
        name=sample.name,
        group=sample.group or "imported",
        at_ms=sample.at_ms or sample.added_ms,
        origin=sample.origin,
    )


def _parts(
    holding: Holding, samples: Sequence[VersionSample], sources: Sequence[str], spec: DataSpec
) -> tuple[list[str], list[str]]:
    """The split of each as a job would have it; "" for all where it could not."""
    items = [
        Item(
            content="",
            label=sample.label,
            source=source,
            split=sample.split,
            digest=sample.digest,
            group=sample.group,
            label_origin=sample.origin,
        )
        for sample, source in zip(samples, sources, strict=True)
    ]
    try:
        return split.assign(items, spec, classes=holding.annotation is Annotation.CLASS)
    except Invalid as error:
        return [sample.split for sample in samples], [f"it cannot be split: {error}"]


def _counts(holding: Holding, samples: Sequence[VersionSample], parts: Sequence[str]) -> dict[str, Any]:
    by: dict[str, dict[str, Counter[str]]] = {
        name: defaultdict(Counter) for name in ("label", "device", "source", "day", "origin")
    }
    for sample, part in zip(samples, parts, strict=True):
        part = part or "left out"
        for label in _labels_of(holding, sample.label):
            by["label"][label][part] += 1
        by["device"][sample.group or "imported"][part] += 1
        by["source"][sample.source][part] += 1
        at = sample.at_ms or sample.added_ms
        by["day"][datetime.fromtimestamp(at / 1000, UTC).date().isoformat()][part] += 1
        by["origin"][sample.origin or "none"][part] += 1
    sources = [sum(counts.values()) for counts in by["source"].values()]
    counts = {name: _most(found) for name, found in by.items()}
    return {
        "split": dict(Counter(part or "left out" for part in parts)),
        **counts,
        "sources": {"number": len(sources), "median": float(np.median(sources)), "largest": max(sources)},
        "values": _label_values(holding, samples),
    }


def _labels_of(holding: Holding, label: str) -> list[str]:
    if holding.annotation is Annotation.CLASS:
        return [label]
    if holding.annotation is Annotation.BOXES:
        return [str(box["label"]) for box in json.loads(label or "[]")] or ["no box"]
    return []


def _label_values(holding: Holding, samples: Sequence[VersionSample]) -> dict[str, Any]:
    """Of labels that are numbers: how each of them is spread."""
    if holding.annotation is not Annotation.VALUES:
        return {}
    values = [json.loads(sample.label) for sample in samples if sample.label]
    several = [value if isinstance(value, list) else [value] for value in values]
    width = min((len(value) for value in several), default=0)
    found = {f"value {i + 1}": np.array([value[i] for value in several], np.float64) for i in range(min(width, 8))}
    return {name: _number_facts(numbers) for name, numbers in found.items()}


def _most(found: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
    """The largest of them, by name."""
    largest = sorted(found, key=lambda name: (-found[name].total(), name))[:_ROWS]
    return {name: dict(found[name]) for name in sorted(largest)}


def _columns(every: Measured) -> dict[str, Any]:
    facts: dict[str, Any] = {name: _number_facts(values) for name, values in every.numbers.items()}
    for name, counts in every.categories.items():
        top = dict(counts.most_common(20))
        facts[name] = {"type": "category", "values": len(counts), "missing": every.missing[name], "top": top}
    return facts


def _number_facts(values: "np.ndarray[Any, np.dtype[np.float64]]") -> dict[str, Any]:
    spread = columns.spread(values)
    there = values[np.isfinite(values)]
    quantiles = [float(q) for q in np.quantile(there, (0, 0.05, 0.5, 0.95, 1))] if len(there) else []
    edges, counts = measures.histogram(values)
    return {
        "type": "number",
        "mean": spread.mean,
        "std": spread.std,
        "missing": spread.missing,
        "infinite": spread.infinite,
        "outliers": spread.outliers,
        "constant": spread.constant,
        "quantiles": dict(zip(("least", "5 %", "median", "95 %", "most"), quantiles, strict=False)),
        "edges": edges,
        "counts": counts,
    }


def _leaks(
    kind: SampleKind, sources: Sequence[str], parts: Sequence[str], by_part: Mapping[str, Sequence[Item]]
) -> dict[str, Any]:
    """What is in a held-out split and, the same or nearly, in the one that trains."""
    places = defaultdict(set)
    for source, part in zip(sources, parts, strict=True):
        places[source].add(part)
    shared = sorted(source for source, found in places.items() if len(found & set(SPLITS)) > 1)
    facts: dict[str, Any] = {"sources": len(shared), "source_examples": shared[:_NEAR]}
    held = [item for part in SPLITS[1:] for item in by_part.get(part, ())]
    trained = by_part.get(TRAIN, ())
    if kind is SampleKind.IMAGE:
        looks = {measures.look(item.content) for item in trained if isinstance(item.content, np.ndarray)}
        near = [item.id for item in held if isinstance(item.content, np.ndarray) and measures.look(item.content) in looks]
        facts |= {"alike": len(near), "alike_examples": near[:_NEAR], "compared": len(held)}
    elif kind is SampleKind.WINDOW:
        steps = set(chain.from_iterable(measures.steps_of(i.content) for i in trained if isinstance(i.content, Window)))
        near = [i.id for i in held if isinstance(i.content, Window) and not steps.isdisjoint(measures.steps_of(i.content))]
        facts |= {"alike": len(near), "alike_examples": near[:_NEAR], "compared": len(held)}
    return facts


def _newest(items: Sequence[Item]) -> list[Item]:
    ordered = sorted(items, key=lambda item: (item.at_ms, item.digest))
    return ordered[-max(1, round(_NEWEST * len(ordered))) :] if ordered else []


def _drift(train: Measured, newest: Measured, trained: Sequence[Item], new: Sequence[Item]) -> dict[str, Any]:
    """How far the newest samples are from those that train, column by column."""
    none = np.zeros(0)
    found = {name: measures.distance(values, newest.numbers.get(name, none)) for name, values in train.numbers.items()}
    for name, counts in train.categories.items():
        found[name] = measures.category_distance(counts, newest.categories.get(name, {}))
    labels = [Counter(item.label for item in items if len(item.label) < 64) for items in (trained, new)]
    return {
        "newest": len(new),
        "since": datetime.fromtimestamp(new[0].at_ms / 1000, UTC).isoformat(timespec="seconds") if new else "",
        "columns": found,
        "labels": measures.category_distance(labels[0], labels[1]),
        "changed": sorted(name for name, value in found.items() if value > _CHANGED),
        "large": sorted(name for name, value in found.items() if value > _LARGE),
    }


def _balance(holding: Holding, samples: Sequence[VersionSample], parts: Sequence[str]) -> list[str]:
    if holding.annotation is not Annotation.CLASS:
        return []
    trained = Counter(sample.label for sample, part in zip(samples, parts, strict=True) if part == TRAIN)
    notes = []
    if absent := [label for label in holding.labels if not trained[label]]:
        notes.append(f"no sample trains {', '.join(map(repr, absent[:10]))}")
    if few := [f"{label!r} ({trained[label]})" for label in holding.labels if 0 < trained[label] < _FEW]:
        notes.append(f"fewer than {_FEW} samples train {', '.join(few[:10])}")
    there = [count for count in trained.values() if count]
    if there and max(there) > _UNEVEN * min(there):
        notes.append(f"the commonest class has {max(there) / min(there):.0f} times as many samples as the rarest")
    return notes


def _examples(items: Sequence[Item], split_of: Mapping[str, str]) -> tuple[Example, ...]:
    """Of each label in turn."""
    turns: Counter[str] = Counter()
    order = []
    for i, item in enumerate(items):
        order.append((turns[item.label], item.label, i))
        turns[item.label] += 1
    chosen = [items[i] for _, _, i in sorted(order)[:_EXAMPLES]]
    return tuple(Example(label=item.label, split=split_of[item.id], content=item.content) for item in chosen)


def _plain(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
