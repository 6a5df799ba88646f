"""Times and maintenance windows in a rollout's plan."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cloud_hub.core.errors import Invalid
from protos.contract.errors import InvalidValue
from protos.contract.twin import DAY_MINUTES, MaintenanceWindow

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MAX_YEAR = 2200  # what comes later is a slip of the pen, and no database of ours holds all of it

_CLOCK = re.compile(r"([01]\d|2[0-4]):([0-5]\d)")


def moment(key: str, value: object) -> datetime | None:
    """YAML's own time, or ISO 8601 as text; UTC where it names no zone; whole milliseconds. Raises Invalid naming the key."""
    if value is None:
        return None
    try:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        at = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _wrong(key, f"must be a time as 2026-03-01T02:00:00Z, got {str(value)[:64]!r}") from error
    if not 1971 <= at.year <= MAX_YEAR:
        raise _wrong(key, f"must be in 1971..{MAX_YEAR}, got {at.isoformat()}")
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds")


def windows(values: object) -> tuple[MaintenanceWindow, ...]:
    """A list of ``{from: "22:00", to: "04:00", days: [sat, sun], local: true}``. Raises Invalid naming the key."""
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise _wrong("windows", f"must be a list, got {type(values).__name__}")
    return tuple(_window(f"windows[{number}]", value) for number, value in enumerate(values))


def window_values(window: MaintenanceWindow) -> dict[str, Any]:
    """What ``windows`` takes."""
    return {
        "from": _clock(window.start_minute),
        "to": _clock(window.end_minute),
        "days": [DAYS[day] for day in sorted(window.days)],
        "local": window.local,
    }


def _window(where: str, value: object) -> MaintenanceWindow:
    if not isinstance(value, Mapping):
        raise _wrong(where, "must be a mapping with 'from' and 'to'")
    if unknown := set(value) - {"from", "to", "days", "local"}:
        raise _wrong(where, f"has no key {str(min(map(str, unknown)))[:64]!r}: it has from, to, days and local")
    days, local = value.get("days", DAYS), value.get("local", False)
    if not isinstance(days, Sequence) or isinstance(days, str) or not days or not set(map(str, days)) <= set(DAYS):
        raise _wrong(f"{where}.days", f"must be some of {', '.join(DAYS)}")
    if not isinstance(local, bool):
        raise _wrong(f"{where}.local", "must be true or false")
    try:
        return MaintenanceWindow(
            start_minute=_minute(f"{where}.from", value.get("from")),
            end_minute=_minute(f"{where}.to", value.get("to")),
            days=frozenset(DAYS.index(str(day)) for day in days),
            local=local,
        )
    except InvalidValue as error:
        raise _wrong(where, str(error)) from error


def _minute(key: str, value: object) -> int:
    """Since midnight. YAML reads an unquoted 22:00 as a number in base 60, which is the very same."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= DAY_MINUTES:
        return value
    found = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    minute = int(found[1]) * 60 + int(found[2]) if found else -1
    if not 0 <= minute <= DAY_MINUTES:
        raise _wrong(key, f"must be a time of day as '22:00', got {str(value)[:64]!r}")
    return minute


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _wrong(key: str, problem: str) -> Invalid:
    return Invalid(f"rollout plan: '{key}' {problem}")
