"""Sorted, disjoint (first, last) ranges of sequences with a hole between any two: what of a stream is there."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]  # both inclusive


def joined(spans: Iterable[Span]) -> list[Span]:
    """Of ranges in any order, which may touch or overlap."""
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def touches(spans: Sequence[Span], first: int, last: int) -> bool:
    """Whether any of ``first..last`` is in ``spans``."""
    before = bisect_right(spans, last, key=lambda span: span[0]) - 1  # the last one that starts at or before ``last``
    return before >= 0 and spans[before][1] >= first


def holes(spans: Iterable[Span], first: int, last: int) -> list[Span]:
    """What of ``first..last`` is in none of ``spans``."""
    found = []
    for start, end in spans:
        if start > last:
            break
        if start > first:
            found.append((first, start - 1))
        first = max(first, end + 1)
    if first <= last:
        found.append((first, last))
    return found
