"""From what a group of devices did to readings with intervals, for ``cloud_hub.core.gates``.

Gates look every few seconds for as long as a version soaks, and frames that follow each other are alike. Both make the usual
intervals far too narrow. So readings are counted in clusters: by device where there are DEVICES or more, else by device and
slot; only what differs between clusters counts as chance. And an interval is WIDTH standard errors each way: as wide as the
asymptotic confidence sequence (I. Waudby-Smith and others, "Time-uniform central limit theory and asymptotic confidence
sequences", Annals of Statistics 52, 2024) is after a hundred thousand looks at an error of one in a hundred. What is counted
one by one (updates, labels, crashes) has a sequence that is exact, by the method of mixtures (H. Robbins, "Statistical methods
related to the law of the iterated logarithm", Annals of Mathematical Statistics 41, 1970).
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cloud_hub.archive.histograms import percentile
from cloud_hub.core.drift import CONFIDENCE_BINS, compare
from cloud_hub.core.gates import Metric, Reading
from cloud_hub.core.model import Baseline
from cloud_hub.core.tallies import Array, Tally

DEVICES = 12  # from here on devices are compared, not moments
WIDTH = 4.5  # standard errors
ERROR = 0.01  # of the sequences that are exact: the share of rollouts without a difference in which they ever leave it out

_CLUSTERS = 12  # fewer say nothing of how far they differ
_GROUPS = 32  # of clusters, one left out at a time
_P95 = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashes:
    """Of one device."""

    count: int
    hours: float  # that it was watched


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All that is known of one group of devices; None: it is no matter of theirs."""

    tallies: Sequence[Tally] = ()
    crashes: Sequence[Crashes] | None = None
    installs: tuple[int, int] | None = None  # committed, ended
    answers: tuple[int, int, int] | None = None  # right, labelled, devices


def readings(group: Group, baseline: Callable[[str], Baseline | None]) -> dict[Metric, Reading]:
    """Of every metric that there is anything of; ``baseline`` of "name:version"."""
    made = _of_tallies(group.tallies, baseline)
    if group.crashes:
        made[Metric.CRASH_RATE] = _crash_rate(group.crashes)
    if group.installs is not None and group.installs[1]:
        made[Metric.INSTALL_SUCCESS] = proportion(*group.installs, devices=group.installs[1])
    if group.answers is not None and group.answers[1]:
        right, labelled, devices = group.answers
        made[Metric.ACCURACY] = proportion(right, labelled, devices=devices)
    return made


def proportion(hits: int, of: int, *, devices: int) -> Reading:
    """Interval that holds at every look at once, for single events that do not hang together: the beta-binomial mixture."""
    mixed = math.lgamma(hits + 1) + math.lgamma(of - hits + 1) - math.lgamma(of + 2) + math.log(ERROR)

    def likely(share: float) -> bool:
        seen = (hits * math.log(share) if hits else 0.0) + ((of - hits) * math.log1p(-share) if of > hits else 0.0)
        return mixed <= seen

    value = hits / of
    low = _edge(likely, value, 1e-9) if hits else 0.0
    high = _edge(likely, value, 1 - 1e-9) if hits < of else 1.0
    return Reading(value=value, low=low, high=high, samples=of, devices=devices)


def rate(count: int, hours: float) -> tuple[float, float, float]:
    """Events an hour, and an interval as that of ``proportion``: the gamma-Poisson mixture."""
    mixed = math.lgamma(count + 1) - (count + 1) * math.log(1 + hours) + math.log(ERROR)

    def likely(each_hour: float) -> bool:
        return mixed <= (count * math.log(each_hour) if count else 0.0) - each_hour * hours

    value = count / hours
    top = value + 1 / hours
    while likely(top):
        top *= 2
    return value, _edge(likely, value, 1e-12) if count else 0.0, _edge(likely, value, top)


def _of_tallies(tallies: Sequence[Tally], baseline: Callable[[str], Baseline | None]) -> dict[Metric, Reading]:
    made: dict[Metric, Reading] = {}
    told = [tally for tally in tallies if tally.readings]
    devices = len({tally.device for tally in told})
    clusters = _clusters(told)
    count = _column(clusters, lambda tally: tally.readings)
    if len(clusters) >= _CLUSTERS:
        uncertain = _share(_column(clusters, lambda tally: tally.uncertain), count)
        made[Metric.UNCERTAIN_RATE] = _reading(*uncertain, samples=count.sum(), devices=devices, bounds=(0.0, 1.0))
        shift = _mean(_column(clusters, lambda tally: tally.shift), count)
        made[Metric.CONFIDENCE_SHIFT] = _reading(*shift, samples=count.sum(), devices=devices, bounds=(-1.0, 1.0))
        made[Metric.LATENCY_P95_MS] = _latency(clusters, count, devices)
        if (drift := _drift(told, devices, baseline)) is not None:
            made[Metric.DRIFT_SCORE] = drift
    counted = [tally for tally in tallies if tally.attempts]
    clusters = _clusters(counted)
    if len(clusters) >= _CLUSTERS:
        attempts = _column(clusters, lambda tally: tally.attempts)
        errors = _share(_column(clusters, lambda tally: tally.errors), attempts)
        devices = len({tally.device for tally in counted})
        made[Metric.ERROR_RATE] = _reading(*errors, samples=attempts.sum(), devices=devices, bounds=(0.0, 1.0))
    return made


def _clusters(tallies: Sequence[Tally]) -> list[list[Tally]]:
    by_device = len({tally.device for tally in tallies}) >= DEVICES
    found: dict[tuple[str, int], list[Tally]] = {}
    for tally in tallies:
        found.setdefault((tally.device, -1 if by_device else tally.slot), []).append(tally)
    return list(found.values())


def _column(clusters: Sequence[Sequence[Tally]], of: Callable[[Tally], float]) -> Array:
    return np.array([sum(map(of, cluster)) for cluster in clusters], dtype=np.float64)


def _mean(parts: Array, counts: Array) -> tuple[float, float]:
    """Of all together, and its standard error between clusters (a ratio estimator, linearised)."""
    n, total = len(parts), counts.sum()
    mean = parts.sum() / total
    return float(mean), float(np.sqrt(n / (n - 1) * ((parts - mean * counts) ** 2).sum()) / total)


def _share(hits: Array, counts: Array) -> tuple[float, float]:
    """As ``_mean``, and never surer than if all were independent: of what never happened the clusters would say 0 +- 0."""
    mean, error = _mean(hits, counts)
    total = float(counts.sum())
    near = (float(hits.sum()) + 0.5) / (total + 1)
    return mean, max(error, math.sqrt(near * (1 - near) / total))


def _reading(value: float, error: float, *, samples: float, devices: int, bounds: tuple[float, float]) -> Reading:
    low, high = max(bounds[0], value - WIDTH * error), min(bounds[1], value + WIDTH * error)
    return Reading(value=value, low=min(low, value), high=max(high, value), samples=float(samples), devices=devices)


def _latency(clusters: Sequence[Sequence[Tally]], count: Array, devices: int) -> Reading:
    """The interval of the share below the value found, read off as latencies (R. Woodruff, JASA 47, 1952)."""
    total: Counter[int] = Counter()
    for cluster in clusters:
        for tally in cluster:
            total.update(tally.latency)
    value = percentile("latency_ms", total, _P95)
    bucket = _bucket_at(total, _P95)
    below = _column(clusters, lambda tally: sum(n for at, n in tally.latency.items() if at <= bucket))
    _, error = _share(below, count)
    low = percentile("latency_ms", total, max(0.0, _P95 - WIDTH * error))
    high = percentile("latency_ms", total, min(1.0, _P95 + WIDTH * error))
    return Reading(value=value, low=low, high=high, samples=float(count.sum()), devices=devices)


def _bucket_at(histogram: Mapping[int, int], share: float) -> int:
    wanted, seen = share * (sum(histogram.values()) - 1), 0
    for bucket in sorted(histogram):
        seen += histogram[bucket]
        if seen > wanted:
            return bucket
    raise ValueError("the histogram is empty")


def _drift(tallies: Sequence[Tally], devices: int, baseline: Callable[[str], Baseline | None]) -> Reading | None:
    """Of the version that most of the readings are of; the error by leaving out a group of clusters at a time (jackknife)."""
    said: Counter[str] = Counter()
    for tally in tallies:
        said[tally.version] += tally.readings
    version = said.most_common(1)[0][0]
    yardstick = baseline(version)
    clusters = _clusters([tally for tally in tallies if tally.version == version])
    if yardstick is None or len(clusters) < _CLUSTERS:
        return None
    groups: list[list[Tally]] = [[] for _ in range(min(_GROUPS, len(clusters)))]
    for number, cluster in enumerate(clusters):
        groups[number % len(groups)] += cluster
    parts = [_counts(group, len(yardstick.label_share)) for group in groups]
    labels, confidence = sum(part[0] for part in parts), sum(part[1] for part in parts)
    value = _psi(labels, confidence, yardstick)
    without = np.array([_psi(labels - part[0], confidence - part[1], yardstick) for part in parts])
    n = len(without)
    error = float(np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()))
    return _reading(value, error, samples=float(confidence.sum()), devices=devices, bounds=(0.0, math.inf))


def _counts(tallies: Iterable[Tally], classes: int) -> tuple[Any, Any]:
    labels, confidence = np.zeros(classes), np.zeros(CONFIDENCE_BINS)
    for tally in tallies:
        confidence += tally.confidence
        for label, n in tally.labels.items():
            if label < classes:
                labels[label] += n
    return labels, confidence


def _psi(labels: Any, confidence: Any, baseline: Baseline) -> float:
    """The larger of the two, less what chance gives."""
    bins = len(baseline.confidence_share)
    found = [compare(labels, baseline.label_share, baseline.samples, bound=0.0).psi]
    if bins == len(confidence):
        found.append(compare(confidence, baseline.confidence_share, baseline.samples, bound=0.0).psi)
    return max(found)


def _crash_rate(crashes: Sequence[Crashes]) -> Reading:
    """As wide as single crashes make it, or as what differs between devices does."""
    counts = np.array([one.count for one in crashes], dtype=np.float64)
    hours = np.array([one.hours for one in crashes])
    value, low, high = rate(int(counts.sum()), max(float(hours.sum()), 1e-6))
    if len(crashes) >= DEVICES and hours.sum() > 0:
        _, error = _mean(counts, hours)
        low, high = max(0.0, min(low, value - WIDTH * error)), max(high, value + WIDTH * error)
    return Reading(value=value, low=low, high=high, samples=float(hours.sum()) * 60, devices=len(crashes))


def _edge(likely: Callable[[float], bool], inside: float, outside: float) -> float:
    """Where ``likely`` ends between the two."""
    if likely(outside):
        return outside
    for _ in range(60):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if likely(middle) else (inside, middle)
    return inside
