"""Spans against sets of numbers."""

import itertools
import random

from cloud_hub.core import spans

TOP = 40


def random_spans(rng: random.Random) -> tuple[list[spans.Span], set[int]]:
    pieces = [(first, first + rng.randrange(6)) for first in (rng.randrange(TOP) for _ in range(rng.randrange(8)))]
    return pieces, {number for first, last in pieces for number in range(first, last + 1)}


def test_joined_spans_hold_the_same_numbers_and_never_touch() -> None:
    rng = random.Random(1)
    for _ in range(2000):
        pieces, numbers = random_spans(rng)
        found = spans.joined(pieces)
        assert {number for first, last in found for number in range(first, last + 1)} == numbers
        assert all(before[1] + 1 < after[0] for before, after in itertools.pairwise(found))


def test_touching_and_holes_agree_with_the_numbers() -> None:
    rng = random.Random(2)
    for _ in range(5000):
        pieces, numbers = random_spans(rng)
        found, first = spans.joined(pieces), rng.randrange(TOP)
        last = first + rng.randrange(10)
        asked = set(range(first, last + 1))
        assert spans.touches(found, first, last) == bool(numbers & asked)
        missing = spans.holes(found, first, last)
        assert {number for start, end in missing for number in range(start, end + 1)} == asked - numbers
        assert missing == spans.joined(missing)
