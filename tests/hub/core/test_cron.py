"""When a schedule is due."""

from datetime import UTC, datetime, timedelta

import pytest

from cloud_hub.core import cron
from cloud_hub.core.errors import Invalid

SUNDAY = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "after", "due"),
    [
        ("0 3 * * *", SUNDAY - timedelta(days=1), SUNDAY.replace(hour=3)),
        ("*/15 * * * *", SUNDAY - timedelta(minutes=1), SUNDAY),
        ("*/15 * * * *", SUNDAY, None),
        ("30 12 * * *", SUNDAY - timedelta(hours=1), None),
        ("0 0 * * 0", SUNDAY - timedelta(days=8), SUNDAY.replace(hour=0)),
        ("0 0 * * 7", SUNDAY - timedelta(days=8), SUNDAY.replace(hour=0)),
        ("0 0 * * 1", SUNDAY - timedelta(days=8), SUNDAY.replace(hour=0) - timedelta(days=6)),
        ("0 0 * * 1-5", SUNDAY - timedelta(days=8), SUNDAY.replace(hour=0) - timedelta(days=2)),
        ("0 0 * * sat", SUNDAY - timedelta(days=8), SUNDAY.replace(hour=0) - timedelta(days=1)),
        ("0 0 1 1 *", SUNDAY - timedelta(days=300), datetime(2026, 1, 1, tzinfo=UTC)),
        ("0 0 29 2 *", datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC)),
    ],
)
def test_a_schedule_is_due_at_its_latest_time(fields: str, after: datetime, due: datetime | None) -> None:
    assert cron.last_due(fields, after=after, until=SUNDAY) == due


def test_a_long_absence_is_due_once() -> None:
    assert cron.last_due("* * * * *", after=SUNDAY - timedelta(days=3650), until=SUNDAY) == SUNDAY


@pytest.mark.parametrize("fields", ["", "* * *", "61 * * * *", "a b c d e", "0 0 * * 5-1", "0 0 * * 9", "* * * * * *"])
def test_what_is_no_schedule_is_refused(fields: str) -> None:
    with pytest.raises(Invalid):
        cron.check(fields)


def test_a_schedule_that_never_comes_is_refused() -> None:
    with pytest.raises(Invalid, match="never due"):
        cron.check("0 0 30 2 *")
