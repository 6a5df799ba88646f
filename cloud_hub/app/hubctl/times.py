"""Points in time as users give them."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from protos.contract.telemetry import to_ms

Since = Annotated[str, typer.Option(help="ISO 8601 time, or how long ago: 90s, 15m, 2h, 7d. Default: the beginning.")]
Until = Annotated[str, typer.Option(help="As --since; exclusive. Default: now.")]

_AGO = re.compile(r"(\d{1,9})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def spoken(seconds: float) -> str:
    """A length of time to the nearest unit that says enough."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def time_ms(text: str) -> int:
    """Milliseconds; 0 for none. Raises typer.BadParameter."""
    if not text:
        return 0
    try:
        if ago := _AGO.fullmatch(text):
            at = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            at = datetime.fromisoformat(text)
        return to_ms(at if at.tzinfo else at.replace(tzinfo=UTC))
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"a time is ISO 8601 (2026-01-31T12:00:00Z) or an age (90s, 15m, 2h, 7d), got {text!r}"
        ) from error


def span_ms(text: str) -> int:
    """Milliseconds of a length of time. Raises typer.BadParameter."""
    if found := _AGO.fullmatch(text):
        return round(timedelta(**{_UNITS[found[2]]: int(found[1])}).total_seconds() * 1000)
    raise typer.BadParameter(f"a length of time is a number and s, m, h or d (30s, 5m, 1h), got {text!r}")
