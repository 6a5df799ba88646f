"""How much may be used, also by a device that is started again and again."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from edge_agent.core.budget import Budget
from edge_agent.core.clock import Clock
from tests.agent.clocks import ManualClock


def spend(budget: Budget, tries: int) -> int:
    return sum(budget.take() for _ in range(tries))


def test_the_budget_fills_over_the_hour_and_never_beyond_it() -> None:
    clock = ManualClock()
    budget = Budget(6, clock)
    assert [budget.take() for _ in range(7)] == [True] * 6 + [False]
    clock.advance(599)
    assert not budget.take()
    clock.advance(2)
    assert budget.take()
    assert not budget.take()
    clock.advance(3600 * 24)
    assert sum(budget.take() for _ in range(20)) == 6


def test_no_budget_keeps_nothing() -> None:
    clock = ManualClock()
    budget = Budget(0, clock)
    clock.advance(10**6)
    assert not budget.take()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "budget"


def test_a_restart_refills_only_what_the_time_since_allows(path: Path) -> None:
    clock = ManualClock()
    budget = Budget(60, clock, path)
    assert spend(budget, 100) == 60
    budget.save(soon=True)
    assert spend(Budget(60, clock, path), 100) == 0
    clock.advance(120)
    assert spend(Budget(60, clock, path), 100) == 2


def test_a_device_that_crashes_in_a_loop_gets_no_budget_out_of_it(path: Path) -> None:
    clock = ManualClock()
    kept = 0
    for _ in range(300):
        budget = Budget(100, clock, path)
        for _ in range(5):
            if budget.take():
                kept += 1
                budget.save()
    assert kept == 100


def test_saving_spares_the_flash_while_little_was_spent(path: Path) -> None:
    budget = Budget(1000, ManualClock(), path)
    assert spend(budget, 9) == 9
    budget.save()
    assert not path.exists()
    assert budget.take()
    budget.save()
    assert json.loads(path.read_bytes())["tokens"] == 990


class Wrong(ManualClock):
    """Its wall is off by so much."""

    def __init__(self, off: timedelta) -> None:
        super().__init__()
        self._start += off


@pytest.mark.parametrize(("clock", "left"), [(Wrong(timedelta(days=-9000)), 0), (Wrong(timedelta(days=9000)), 10)])
def test_a_wall_clock_that_jumps_gives_at_most_one_budget(path: Path, clock: Clock, left: int) -> None:
    budget = Budget(10, ManualClock(), path)
    spend(budget, 10)
    budget.save(soon=True)
    assert spend(Budget(10, clock, path), 100) == left


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"tokens": "x", "at": "2025-01-01"}', b"\xff\x00"])
def test_a_damaged_file_begins_anew(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert spend(Budget(10, ManualClock(), path), 100) == 10


def test_without_room_to_save_it_goes_on(tmp_path: Path) -> None:
    budget = Budget(10, ManualClock(), tmp_path / "nowhere" / "budget")
    assert budget.take()
    budget.save(soon=True)


def test_what_is_used_in_any_case_leaves_a_debt_of_one_hour_at_most(tmp_path: Path) -> None:
    clock = ManualClock()
    budget = Budget(1000, clock, tmp_path / "budget")
    budget.spend(400)
    assert budget.left == pytest.approx(600)
    budget.spend(5000)
    assert budget.left == pytest.approx(-1000) and not budget.take()
    budget.save(soon=True)
    assert Budget(1000, clock, tmp_path / "budget").left == pytest.approx(-1000), "a restart forgives nothing"
    clock.advance(3600)
    assert budget.left == pytest.approx(0)
    clock.advance(1800)
    assert budget.left == pytest.approx(500)
