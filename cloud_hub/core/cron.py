"""When a schedule of five cron fields is due, in UTC."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from apscheduler.triggers.cron import CronTrigger

from cloud_hub.core.errors import Invalid

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")  # cron(5) counts from Sunday, 7 is Sunday again
_LOOK_BACK = (timedelta(hours=1), timedelta(days=1), timedelta(days=32), timedelta(days=366), timedelta(days=4 * 366 + 1))


def check(fields: str) -> None:
    """Raises Invalid saying what is wrong, also for a day that never comes: looking for it costs a second every time."""
    if _trigger(fields).get_next_fire_time(None, datetime.now(UTC)) is None:
        raise Invalid(f"schedule {fields!r} is never due")


def last_due(fields: str, *, after: datetime, until: datetime) -> datetime | None:
    """The latest time the schedule was due behind ``after``, up to ``until``; None where it was not.

    What a hub that was away missed is due once, not once for every miss. Raises Invalid.
    """
    trigger = _trigger(fields)
    for back in _LOOK_BACK:
        start = max(after, until - back)
        found: datetime | None = None
        following = trigger.get_next_fire_time(None, start + timedelta(microseconds=1))
        while following is not None and following <= until:
            found = following
            following = trigger.get_next_fire_time(None, found + timedelta(microseconds=1))
        if found is not None or start == after:
            return found
    return None


@lru_cache(maxsize=64)
def _trigger(fields: str) -> CronTrigger:
    parts = fields.split()
    if len(parts) != 5:
        raise Invalid(f"a schedule has five fields (minute hour day month weekday), got {fields!r}")
    try:
        return CronTrigger.from_crontab(" ".join([*parts[:4], _weekdays(parts[4])]), timezone=UTC)
    except (ValueError, TypeError) as error:
        raise Invalid(f"schedule {fields!r}: {error}") from error


def _weekdays(field: str) -> str:
    """APScheduler counts weekdays from Monday, cron from Sunday: names mean the same to both."""
    return ",".join(name for part in field.split(",") for name in _weekday(part))


def _weekday(part: str) -> list[str]:
    if re.fullmatch(r"[0-7]", part):
        return [_DAYS[int(part)]]
    if match := re.fullmatch(r"([0-7])-([0-7])(?:/([1-7]))?", part):
        first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
        if first > last:
            raise ValueError(f"weekdays {part!r} run backwards")
        return list(dict.fromkeys(_DAYS[day] for day in range(first, last + 1, step)))
    if match := re.fullmatch(r"\*/([1-7])", part):
        return list(dict.fromkeys(_DAYS[day] for day in range(0, 7, int(match[1]))))
    return [part]
