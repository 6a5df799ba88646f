"""Maintenance windows as people write them."""

import re

from protos.contract.errors import InvalidValue
from protos.contract.twin import MaintenanceWindow

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FORM = re.compile(r"(?:(?P<days>[a-z,-]+) +)?(?P<start>\d{1,2}:\d{2})-(?P<end>\d{1,2}:\d{2})(?: +(?P<zone>local|utc))?")
_EXAMPLE = "write it as 'mon-fri 02:00-05:00', 'sat,sun 22:00-04:00 local' or '02:00-05:00'"


def parse_window(text: str) -> MaintenanceWindow:
    """From ``[days] HH:MM-HH:MM [local|utc]``; one that ends before it starts ends on the next day. Raises InvalidValue."""
    found = _FORM.fullmatch(" ".join(text.lower().split()))
    if found is None:
        raise InvalidValue(f"{text[:80]!r} is no window: {_EXAMPLE}")
    return MaintenanceWindow(
        start_minute=_minute(found["start"]),
        end_minute=_minute(found["end"]),
        days=_days(found["days"]) if found["days"] else frozenset(range(7)),
        local=found["zone"] == "local",
    )


def format_window(window: MaintenanceWindow) -> str:
    """What ``parse_window`` reads."""
    days = "" if len(window.days) == len(DAYS) else ",".join(DAYS[day] for day in sorted(window.days)) + " "
    start, end = (f"{minute // 60:02}:{minute % 60:02}" for minute in (window.start_minute, window.end_minute))
    return f"{days}{start}-{end}{' local' if window.local else ''}"


def _minute(text: str) -> int:
    hours, minutes = (int(part) for part in text.split(":"))
    if minutes > 59 or hours * 60 + minutes > 24 * 60:
        raise InvalidValue(f"{text!r} is no time of a day")
    return hours * 60 + minutes


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise InvalidValue(f"{part!r} is no day: {_EXAMPLE}")
        start, end = DAYS.index(first), DAYS.index(last or first)
        found |= {day % 7 for day in range(start, end + 1 if end >= start else end + 8)}
    return frozenset(found)
