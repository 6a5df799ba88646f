from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_hub.core.alert_rules import AlertRule
from cloud_hub.core.alerts import Change, Growth, Phase, Standing, Subject, step
from cloud_hub.core.model import DEFAULT_TENANT

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOT = AlertRule(name="hot", source="device.temperature_c", above=80.0, clear=75.0, for_s=60.0, clear_for_s=30.0)
DISK = AlertRule(name="disk-low", source="device.disk_free_ratio", below=0.05, clear=0.08)


def walk(rule: AlertRule, values: list[tuple[float, float | None]]) -> list[tuple[float, Change]]:
    """(seconds, value) -> (seconds, change)."""
    standing: Standing | None = None
    changes = []
    for at_s, value in values:
        standing, change = step(rule, standing, value, START + timedelta(seconds=at_s))
        if change is not None:
            changes.append((at_s, change))
    return changes


@pytest.mark.parametrize(
    ("values", "changes"),
    [
        pytest.param([(0, 81), (59, 81), (60, 81)], [(60, Change.FIRED)], id="it fires once the condition has held for long"),
        pytest.param([(0, 81), (50, 79), (51, 81), (100, 81)], [], id="a break starts the time anew"),
        pytest.param([(0, 81), (30, None), (60, 81)], [(60, Change.FIRED)], id="no word is no break"),
        pytest.param([(0, 80), (60, 80)], [], id="the threshold itself does not fire"),
        pytest.param(
            [(0, 81), (60, 81), (61, 76), (300, 79.9)], [(60, Change.FIRED)], id="between the thresholds nothing changes"
        ),
        pytest.param(
            [(0, 81), (60, 81), (70, 75), (99, 74), (100, 74)],
            [(60, Change.FIRED), (100, Change.RESOLVED)],
            id="it resolves once it has been clear for long",
        ),
        pytest.param(
            [(0, 81), (60, 81), (70, 74), (80, 82), (90, 74), (119, 74), (120, 74)],
            [(60, Change.FIRED), (80, Change.AGAIN), (120, Change.RESOLVED)],
            id="a relapse is the same alert",
        ),
        pytest.param([(0, float("nan")), (60, float("nan"))], [], id="not a number says nothing"),
        pytest.param([(100, 81), (10, 81), (70, 81)], [(70, Change.FIRED)], id="a clock that was put back holds up nothing"),
    ],
)  # fmt: skip
def test_a_rule_is_slow_to_fire_and_slow_to_clear(values: list[tuple[float, float | None]], changes: list[object]) -> None:
    assert walk(HOT, values) == changes


def test_a_rule_without_times_acts_at_once_and_below_is_above_upside_down() -> None:
    values: list[tuple[float, float | None]] = [(0, 0.049), (1, 0.06), (2, 0.079), (3, 0.08), (4, 0.05)]
    assert walk(DISK, values) == [(0, Change.FIRED), (3, Change.RESOLVED)]


VALUES = st.lists(st.tuples(st.floats(0.1, 90.0), st.one_of(st.none(), st.floats(60, 100, allow_nan=False))), max_size=60)


@given(VALUES, st.sampled_from([0.0, 10.0, 60.0]), st.sampled_from([0.0, 10.0, 60.0]))
def test_fired_and_resolved_take_turns_and_only_after_their_times(
    steps: list[tuple[float, float | None]], for_s: float, clear_for_s: float
) -> None:
    rule = replace(HOT, for_s=for_s, clear_for_s=clear_for_s)
    at_s, timeline = 0.0, []
    for pause_s, value in steps:
        at_s += pause_s
        timeline.append((at_s, value))
    changes = [(at, change) for at, change in walk(rule, timeline) if change is not Change.AGAIN]
    for number, (at, change) in enumerate(changes):
        assert change is (Change.FIRED if number % 2 == 0 else Change.RESOLVED)
        span_s = for_s if change is Change.FIRED else clear_for_s
        known = [(t, v) for t, v in timeline if at - span_s < t <= at and v is not None]
        assert all(rule.fires(v) if change is Change.FIRED else rule.clears(v) for _, v in known)


@given(st.lists(st.floats(75.01, 79.99), max_size=30), st.booleans())
def test_values_between_the_thresholds_never_change_anything(values: list[float], firing: bool) -> None:
    standing = Standing(phase=Phase.FIRING, since=START) if firing else None
    for number, value in enumerate(values):
        after, change = step(HOT, standing, value, START + timedelta(minutes=number))
        assert (after, change) == (standing, None)


def test_growth_is_what_came_within_the_span_and_a_restart_begins_anew() -> None:
    growth = Growth(last=(100.0,), at_ms=0)
    assert growth.told((100.0,), 5_000, 600.0) is growth
    growth = growth.told((130.0,), 10_000, 600.0)
    assert growth.total(10_000, 600.0) == (30.0,)
    growth = growth.told((7.0,), 20_000, 600.0)  # its process began anew
    assert growth.total(20_000, 600.0) == (37.0,)
    assert growth.total(615_000, 600.0) in ((7.0,), (37.0,))  # entries of one twentieth of the span share their fate
    assert growth.total(700_000, 600.0) == ()


def test_the_share_of_failures_is_of_what_was_done_meanwhile_not_since_they_were_counted_first() -> None:
    growth = Growth(last=(0.0, 0.0), at_ms=0)
    growth = growth.told((50.0, 3_600_000.0), 3_600_000, 600.0)  # an hour of good ones, then 50 bad ones
    errors, good = growth.total(3_600_000, 600.0)
    assert (errors, good) == (50.0, 600_000.0)
    growth = growth.told((100.0, 3_600_010.0), 3_630_000, 600.0)
    assert growth.total(3_630_000, 600.0) == (100.0, 600_010.0)


@given(st.lists(st.tuples(st.integers(1, 90_000), st.integers(0, 50)), max_size=80))
def test_growth_stays_small_and_never_exceeds_what_has_grown(steps: list[tuple[int, int]]) -> None:
    growth, at_ms, value = Growth(last=(0.0,), at_ms=0), 0, 0.0
    for pause_ms, more in steps:
        at_ms, value = at_ms + pause_ms, value + more
        growth = growth.told((value,), at_ms, 60.0)
        assert len(growth.grown) <= 22
        assert sum(growth.total(at_ms, 60.0)) <= value


def test_a_subject_is_selected_by_labels_id_board_and_model() -> None:
    camera = Subject(tenant=DEFAULT_TENANT, device="cam-1", board="x86", labels={"site": "gate"}, model="signs", version=3)
    assert camera.matches({}) and camera.matches({"site": "gate", "id": "cam-1", "board": "x86", "model": "signs"})
    assert camera.matches({"model": "signs:3"}) and not camera.matches({"model": "signs:4"})
    assert not camera.matches({"site": "yard"}) and not camera.matches({"floor": "1"})
    assert not Subject(tenant=DEFAULT_TENANT).matches({"site": "gate"})
