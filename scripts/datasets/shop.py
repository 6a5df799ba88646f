"""Synthetic: nobody chose any of this. Each item is of one of several kinds, users like two of them, and the first items of a
kind are its popular ones. So the best anybody can do is known: to name the popular ones of the two kinds.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_hub.pipeline.clean import RawSample
from protos.contract.samples import encode_row
from scripts.datasets import Example, raw

KINDS, EACH = 8, 15  # items of a kind
LABELS = tuple(f"item-{kind}-{i}" for kind in range(KINDS) for i in range(EACH))
_LIKED = 0.9  # share of the choices that are of a liked kind
_LENGTH = 12


def samples(folder: Path = Path(), users: int = 600, seed: int = 0) -> Iterator[RawSample]:
    draw = np.random.default_rng((11, seed))
    for user in range(users):
        liked = draw.choice(KINDS, 2, replace=False)
        chances = _chances(liked)
        seen: list[str] = []
        for i in range(_LENGTH):
            item = LABELS[draw.choice(len(LABELS), p=chances)]
            if i >= 3:
                row = {"seen": list(dict.fromkeys(seen)), "hour": float(draw.integers(24))}
                yield raw(encode_row(row), item, name=f"{user}-{i}", source=f"user-{user}", at_ms=i, group=f"shop-{user % 2}")
            seen.append(item)


def best_hit_rate(top: int = 10) -> float:
    """Of who knows the two kinds, and names the ``top`` likeliest items."""
    return float(np.sort(_chances(np.array([0, 1])))[-top:].sum())


def _chances(liked: NDArray[np.int64]) -> NDArray[np.float64]:
    popular = np.tile(1 / np.arange(1, EACH + 1), KINDS)
    fancy = np.isin(np.arange(KINDS), liked).repeat(EACH)
    chances = np.where(fancy, _LIKED / 2, (1 - _LIKED) / (KINDS - 2)) * popular / popular[:EACH].sum()
    return chances


EXAMPLES = (
    Example(
        name="shop",
        data="synthetic: choices of 600 made-up users among 120 items of 8 kinds",
        samples=samples,
        labels=LABELS,
        reference=f"who knows what each user likes: {best_hit_rate():.3f}",
        figures=("popular_hit_rate_10", "ndcg_10", "coverage"),
        quick={"teacher": {"epochs": 4}, "student": {"epochs": 4}},
    ),
)
