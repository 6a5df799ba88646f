"""How fast files are, beside each other: what one of them takes alone says more of the machine's other work."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.export import Artifact
from edge_agent.infer.inputs import tensor_of
from edge_agent.infer.runtimes import load

_LOADS = 3
_ROUNDS = 50  # after each load
_SECONDS = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Speedup:
    """Of int8 over fp32 of the same format, both run in turns in the best runtime, one thread."""

    middle: float  # the median over all turns
    high: float  # what chance can make of it: below that it surely is
    fp32_ms: float  # p50

    @classmethod
    def of(cls, fast_ms: NDArray[np.float64], slow_ms: NDArray[np.float64]) -> "Speedup":
        """Both ``(loads, turns)``, from ``in_turns``.

        ``high`` is the best load's upper end of the median's 99 % interval, that of ranks (Conover, Practical Nonparametric
        Statistics, 3.2): a file loaded twice differs from itself by up to 2 %, which no number of turns shows.
        """
        ratios = np.sort(slow_ms / fast_ms, axis=1)
        turns = ratios.shape[1]
        rank = min(math.ceil((turns + 2.576 * math.sqrt(turns)) / 2), turns - 1)
        return cls(middle=float(np.median(ratios)), high=float(ratios[:, rank].max()), fp32_ms=float(np.median(slow_ms)))


def time_interleaved(artifacts: Sequence[Artifact], splits: Splits) -> dict[str, NDArray[np.float64]]:
    """As ``in_turns`` has them, by target."""
    times = in_turns(artifacts, splits)
    return {artifact.target: each for artifact, each in zip(artifacts, times, strict=True)}


def in_turns(artifacts: Sequence[Artifact], splits: Splits, *, seconds: float = _SECONDS) -> list[NDArray[np.float64]]:
    """``(loads, turns)`` milliseconds of each file, one thread: a busy moment of the machine hits all of them.

    Every round has an order of its own, for what ran before leaves its caches behind; and every file is loaded several times,
    for where its memory comes to lie is luck.
    """
    draw = np.random.default_rng(0)
    tensors = [tensor_of(splits.test.contents[0], splits.input_for(a.layout)) for a in artifacts]
    loads = []
    for _ in range(_LOADS):
        runs = [partial(load(a.format, a.data).run, tensor) for a, tensor in zip(artifacts, tensors, strict=True)]
        loads.append(_turns(runs, draw, seconds / _LOADS))
    turns = min(len(each) for each in loads)
    return list(np.stack([each[:turns] for each in loads]).transpose(2, 0, 1))


def speedup(artifact: Artifact, times: Mapping[str, NDArray[np.float64]]) -> Speedup | None:
    """None where there is nothing to compare with."""
    full = artifact.target.replace("int8", "fp32")
    if full == artifact.target or full not in times:
        return None
    return Speedup.of(times[artifact.target], times[full])


def _turns(runs: Sequence[Callable[[], object]], draw: np.random.Generator, seconds: float) -> NDArray[np.float64]:
    """``(turns, files)`` milliseconds; one turn at least, and no more when the time is over."""
    taken: list[list[float]] = []
    end = time.monotonic() + seconds
    for round_ in range(_ROUNDS + 5):
        row = [0.0] * len(runs)
        for number in draw.permutation(len(runs)):
            started = time.perf_counter()
            runs[number]()
            row[number] = (time.perf_counter() - started) * 1e3
        if round_ >= 5:  # the first runs pay for lazy allocation
            taken.append(row)
            if time.monotonic() > end:
                break
    return np.array(taken)
