"""Drift, as pure arithmetic: how far a window of readings is from what the model did at validation.

Distributions are compared by the population stability index, PSI = sum((p - q) * ln(p / q)). With n readings against a
baseline of m, PSI of two draws from one distribution is not 0 but behaves like (1/n + 1/m) times a chi-square with
(bins - 1) degrees of freedom (B. Yurdakul, "Statistical Properties of Population Stability Index", Western Michigan
University, 2018). So its expectation is subtracted, and what is left must be above both the configured bound and what
chance alone exceeds once in a thousand windows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_hub.core.config import DriftConfig
from cloud_hub.core.model import Baseline, DriftWindow

CONFIDENCE_BINS = 10
_PRIOR = 0.5  # readings per bin the baseline is smoothed by (Jeffreys): a class it never saw is rare, not impossible
_Z = 3.09  # one-sided 1 in 1,000


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """How far one distribution is from its baseline."""

    psi: float  # less what chance is expected to give; never negative
    bound: float  # above it the distribution has moved

    @property
    def drifted(self) -> bool:
        return self.psi > self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one closed window says."""

    label_psi: float = 0.0
    confidence_psi: float = 0.0
    confidence_shift: float = 0.0  # mean now - mean at validation
    judged: bool = False  # False: too few readings, or no baseline, to say anything
    drifted: bool = False
    reason: str = ""  # what moved, by how much, over which bound


class Change(Enum):
    NONE = "none"
    OPEN = "open"
    CLOSE = "close"


@dataclass(frozen=True, slots=True, kw_only=True)
class Streak:
    """Judged windows in a row of one device under one version; one of the two counts is always 0."""

    drifted: int = 0
    quiet: int = 0


def label_histogram(labels: NDArray[np.integer[Any]], classes: int) -> tuple[int, ...]:
    """``(classes,)`` counts; an index the model does not have is left out."""
    return tuple(np.bincount(labels[labels < classes], minlength=classes).tolist())


def confidence_histogram(confidence: NDArray[np.floating[Any]], bins: int = CONFIDENCE_BINS) -> tuple[int, ...]:
    """``(bins,)`` counts of equal-width bins over 0..1; 1.0 falls into the last one."""
    index = np.minimum((np.asarray(confidence, dtype=np.float64) * bins).astype(np.int64), bins - 1)
    return tuple(np.bincount(index, minlength=bins).tolist())


def baseline_of(
    labels: Sequence[str],
    predicted: NDArray[np.integer[Any]],
    confidence: NDArray[np.floating[Any]],
    *,
    files: int = 1,
) -> Baseline:
    """The yardstick from a validation split: ``(answers,)`` predicted class indices and their confidence, at least one.

    ``files`` that answered the same frames: what they say together is no surer than what one of them says.
    """
    answers = len(predicted)
    return Baseline(
        labels=tuple(labels),
        label_share=tuple(count / answers for count in label_histogram(predicted, len(labels))),
        confidence_share=tuple(count / answers for count in confidence_histogram(confidence)),
        confidence_mean=float(np.mean(confidence)),
        samples=answers // files,
    )


def compare(counts: Sequence[int], share: Sequence[float], samples: int, *, bound: float) -> Moved:
    """``counts`` of a window against a baseline's ``share`` of ``samples``, over the same bins.

    The window is smoothed towards the baseline: towards uniform it would look drifted wherever the baseline is peaked. Where
    both only ever know one bin, as of a confidence that is always 1, nothing can have moved: many readings would tell such a
    window from the few that the smoothing puts into the other bins.
    """
    readings, bins = sum(counts), len(share)
    if sum(count > 0 or part > 0 for count, part in zip(counts, share, strict=True)) <= 1:
        return Moved(psi=0.0, bound=bound)
    expected = (np.asarray(share, dtype=np.float64) * samples + _PRIOR) / (samples + _PRIOR * bins)
    weight = _PRIOR * bins
    seen = (np.asarray(counts, dtype=np.float64) + weight * expected) / (readings + weight)
    psi = float(np.sum((seen - expected) * np.log(seen / expected)))
    unit = 1 / max(readings, 1) + 1 / max(samples, 1)
    chance = (bins - 1) * unit
    return Moved(psi=max(0.0, psi - chance), bound=max(bound, _chi_square(bins - 1) * unit - chance))


def judge(window: DriftWindow, baseline: Baseline, config: DriftConfig) -> Verdict:
    """Whether labels or confidence of ``window`` have moved away from ``baseline``."""
    if window.readings < max(1, config.min_readings) or baseline.samples < 1:
        return Verdict()
    labels = compare(window.label_counts, baseline.label_share, baseline.samples, bound=config.psi)
    confidence = compare(window.confidence_counts, baseline.confidence_share, baseline.samples, bound=config.psi)
    shift = window.confidence_sum / window.readings - baseline.confidence_mean
    drop = max(config.confidence_drop, _Z * _mean_error(baseline, window.readings))
    reasons = []
    if labels.drifted:
        reasons.append(f"labels moved: PSI {labels.psi:.2f}, bound {labels.bound:.2f}; {_most_moved(window, baseline)}")
    if confidence.drifted:
        reasons.append(f"confidence moved: PSI {confidence.psi:.2f}, bound {confidence.bound:.2f}")
    if -shift > drop:
        mean = baseline.confidence_mean
        reasons.append(f"mean confidence {mean + shift:.2f}, {-shift:.2f} below {mean:.2f} at validation, bound {drop:.2f}")
    return Verdict(
        label_psi=labels.psi,
        confidence_psi=confidence.psi,
        confidence_shift=shift,
        judged=True,
        drifted=bool(reasons),
        reason="; ".join(reasons),
    )


def follow(streak: Streak, *, is_open: bool, drifted: bool, config: DriftConfig) -> tuple[Streak, Change]:
    """What one more judged window does to an episode: each opens once and closes once, whatever comes after."""
    streak = Streak(drifted=streak.drifted + 1) if drifted else Streak(quiet=streak.quiet + 1)
    if not is_open and streak.drifted >= config.open_after:
        return streak, Change.OPEN
    if is_open and streak.quiet >= config.close_after:
        return streak, Change.CLOSE
    return streak, Change.NONE


def _chi_square(freedom: int) -> float:
    """What a chi-square exceeds once in a thousand (Wilson and Hilferty, 1931; within 1 % here)."""
    if freedom < 1:
        return 0.0
    spread = 2 / (9 * freedom)
    return float(freedom * (1 - spread + _Z * math.sqrt(spread)) ** 3)


def _mean_error(baseline: Baseline, readings: int) -> float:
    """Standard error of the difference between a window's mean confidence and the baseline's."""
    share = np.asarray(baseline.confidence_share, dtype=np.float64)
    middle = (np.arange(len(share)) + 0.5) / len(share)
    variance = float(share @ (middle - share @ middle) ** 2)
    return math.sqrt(variance * (1 / readings + 1 / max(baseline.samples, 1)))


def _most_moved(window: DriftWindow, baseline: Baseline) -> str:
    total = max(1, sum(window.label_counts))
    shares = [count / total for count in window.label_counts]
    most = max(range(len(shares)), key=lambda i: abs(shares[i] - baseline.label_share[i]))
    return f"most for {baseline.labels[most]!r}, {shares[most]:.0%} of readings against {baseline.label_share[most]:.0%}"
