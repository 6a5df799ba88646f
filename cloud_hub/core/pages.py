"""Listings in pages: how far one goes is a row's number, which clients hand back without looking at it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from cloud_hub.core.errors import Invalid

MAX_PAGE = 1000  # rows

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Where a listing goes on; ``token`` is empty at its beginning."""

    size: int = 100
    token: str = ""


FIRST = Page()


def checked(page: Page) -> Page:
    """Raises Invalid for a size outside 1..MAX_PAGE."""
    if not 1 <= page.size <= MAX_PAGE:
        raise Invalid(f"page size must be in 1..{MAX_PAGE}, got {page.size}")
    return page


def number(page: Page) -> int | None:
    """Of the row that the page before ended with; None: there was none. Raises Invalid."""
    if not page.token:
        return None
    if not (page.token.isascii() and page.token.isdigit() and len(page.token) < 19):
        raise Invalid(f"page token {page.token[:32]!r} is not one that a listing gave")
    return int(page.token)


def cut(rows: Sequence[tuple[int, T]], page: Page) -> tuple[list[T], str]:
    """Of up to one row too many, each with its number: those of the page, and the token of the next one, empty at the end."""
    following = str(rows[page.size - 1][0]) if len(rows) > page.size else ""
    return [row for _, row in rows[: page.size]], following


def within(rows: Sequence[tuple[int, T]], page: Page, weight: Callable[[T], int], most: int) -> Page:
    """The page made so small that its rows weigh ``most`` together at most; one row it always holds."""
    total = 0
    for count, (_, row) in enumerate(rows[: page.size]):
        total += weight(row)
        if total > most and count:
            return replace(page, size=count)
    return page
