import contextlib
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_agent.core.errors import DiskFull
from edge_agent.update import rows
from edge_agent.update.journal import KEPT, Journal
from edge_agent.update.record import Component, Conditions, Found, Wanted
from protos.contract.ids import digest_of
from protos.contract.twin import PackageAssignment, PackageKind
from protos.contract.update import UpdateState as S
from protos.contract.windows import parse_window
from tests.agent.clocks import ManualClock
from tests.agent.update.parts import FIT, as_of_models_alone, release

ONE = release(1)


def open_journal(folder: Path) -> Journal:
    return Journal(folder / "updates.sqlite", (), ManualClock())


def test_what_was_written_is_there_after_it_is_opened_again(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    update = journal.count(journal.advance(journal.offer(Component.MODEL, ONE.wanted(4)), S.FETCHING))
    journal.see(4)
    journal.close()
    again = open_journal(tmp_path)
    assert again.newest() == update
    assert (again.generation(), update.attempts, update.rollout_id) == (4, 1, "r4")


def test_attempts_begin_again_with_every_state_and_a_trial_begins_by_being_tried(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    update = journal.count(journal.advance(journal.offer(Component.MODEL, ONE.wanted(1)), S.FETCHING))
    update = journal.advance(update, S.STAGED)
    assert update.attempts == 0
    update = journal.verify(journal.count(update), FIT)
    assert (update.attempts, update.verified, update.fit) == (1, True, FIT)
    update = journal.advance(journal.count(update), S.TRIAL)
    assert (update.attempts, update.fit) == (1, FIT)
    assert journal.advance(journal.count(update), S.COMMITTED).attempts == 2


def test_a_transition_outside_the_table_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    update = journal.offer(Component.MODEL, ONE.wanted(1))
    with pytest.raises(ValueError, match="cannot go from OFFERED to COMMITTED"):
        journal.advance(update, S.COMMITTED)
    with pytest.raises(ValueError, match="cannot go from FETCHING to TRIAL"):
        journal.advance(update, S.FETCHING, S.TRIAL)
    assert journal.newest() == update


def test_an_offer_cannot_overtake_one_that_is_under_way(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.offer(Component.MODEL, ONE.wanted(1))
    with pytest.raises(ValueError, match="cannot follow"):
        journal.offer(Component.MODEL, ONE.wanted(2))


def test_a_generation_that_asks_for_nothing_is_remembered(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.see(7)
    journal.see(3)
    assert (journal.generation(), journal.newest()) == (7, None)


def test_old_updates_are_forgotten(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for generation in range(1, KEPT + 10):
        journal.advance(journal.offer(Component.MODEL, ONE.wanted(generation)), S.FAILED, reason="x" * 10_000)
    with sqlite3.connect(tmp_path / "updates.sqlite") as db:
        assert db.execute("SELECT count(*), max(length(reason)) FROM updates").fetchone() == (KEPT, 500)


def test_a_row_that_makes_no_sense_counts_as_damage(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.offer(Component.MODEL, ONE.wanted(1))
    journal.close()
    with sqlite3.connect(tmp_path / "updates.sqlite") as db:
        db.execute("UPDATE updates SET state = 99")
    assert open_journal(tmp_path).newest() is None
    assert (tmp_path / "updates.sqlite.damaged").exists()


def test_a_full_disk_is_told_and_changes_nothing(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    update = journal.offer(Component.MODEL, ONE.wanted(1))
    journal._db.execute("PRAGMA max_page_count = 1")  # pages in use stay: nothing can be added
    with pytest.raises(DiskFull):
        for generation in range(2, 100):
            journal.advance(update, S.FAILED, reason="y" * 500)
            update = journal.offer(Component.MODEL, ONE.wanted(generation))
    assert journal.newest() is not None


def test_a_journal_that_cannot_be_opened_says_so_and_one_in_memory_starts_from_the_slots(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="cannot be opened"):
        Journal(tmp_path / "nowhere" / "updates.sqlite", (), ManualClock())
    found = Found(component=Component.MODEL, generation=5, assignment=ONE.assignment, place="a", good=True)
    journal = Journal(None, [found], ManualClock())
    newest = journal.newest()
    assert newest is not None and (journal.generation(), newest.state, newest.place) == (5, S.COMMITTED, "a")


SITE = PackageAssignment(kind=PackageKind.CONFIG, name="site", version="1.2", digest=digest_of(b"x"), size_bytes=1)


def test_each_component_has_a_line_of_its_own(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.offer(Component.CONFIG, Wanted(generation=3, assignment=SITE, rollout_id="r"))
    model = journal.offer(Component.MODEL, ONE.wanted(3))
    journal.advance(model, S.SUPERSEDED)
    journal.offer(Component.MODEL, ONE.wanted(4))
    config = journal.newest(Component.CONFIG)
    assert config is not None and (config.generation, config.state, config.assignment) == (3, S.OFFERED, SITE)
    journal.forget(Component.MODEL)
    assert (journal.newest(Component.MODEL), journal.newest(Component.CONFIG)) == (None, config)


def test_the_conditions_of_an_update_outlive_a_restart_and_follow_the_newest_generation(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    night = Conditions(windows=(parse_window("sat,sun 22:00-04:00 local"),), not_before=datetime(2025, 3, 1, tzinfo=UTC))
    update = journal.offer(Component.CONFIG, Wanted(generation=3, assignment=SITE, conditions=night))
    journal.wait(update, 90.5)
    journal.close()
    journal = open_journal(tmp_path)
    again = journal.newest(Component.CONFIG)
    assert again is not None and (again.conditions, again.waited_s) == (night, 90.5)
    carried = journal.carry(again, Wanted(generation=5, assignment=SITE))
    assert (carried.generation, carried.conditions) == (5, Conditions())


def test_what_was_taken_back_after_it_was_committed_is_no_more_the_newest_committed(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    states = (S.FETCHING, S.STAGED, S.TRIAL, S.COMMITTED)
    first = journal.advance(journal.offer(Component.MODEL, ONE.wanted(1)), *states)
    second = journal.advance(journal.offer(Component.MODEL, ONE.wanted(2)), *states)
    assert journal.committed(Component.MODEL) == second
    journal.remark(second, "it crashed")
    assert journal.committed(Component.MODEL) == first
    with pytest.raises(ValueError, match="its reason is its own"):
        journal.remark(journal.offer(Component.MODEL, ONE.wanted(3)), "it crashed")


@pytest.mark.parametrize("floors", [False, True])
def test_a_journal_of_models_alone_is_taken_over_whole(tmp_path: Path, floors: bool) -> None:
    journal = open_journal(tmp_path)
    journal.advance(journal.offer(Component.MODEL, ONE.wanted(1)), S.FAILED, reason="no room")
    update = journal.advance(journal.offer(Component.MODEL, ONE.wanted(2)), S.FETCHING, S.STAGED, place="b")
    journal.advance(update, S.TRIAL)
    journal.see(2)
    before = journal.newest()
    journal.close()
    as_of_models_alone(tmp_path / "updates.sqlite", floors=floors)
    journal = open_journal(tmp_path)
    newest = journal.newest()
    assert newest is not None and before is not None
    assert newest == replace(before, verified=True), "what was on trial had passed its golden run"
    assert journal.generation() == 2
    assert not (tmp_path / "updates.sqlite.damaged").exists()
    assert journal.advance(newest, S.COMMITTED).state is S.COMMITTED


def test_a_journal_that_excused_no_attempts_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "updates.sqlite"
    with contextlib.closing(open_journal(tmp_path)) as journal:
        offered = journal.offer(Component.MODEL, ONE.wanted(1))
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE updates DROP COLUMN cuts")
    with contextlib.closing(open_journal(tmp_path)) as journal:
        assert journal.newest() == offered
        assert journal.excuse(journal.count(offered)).attempts == 0
    assert not path.with_name("updates.sqlite.damaged").exists()


def test_taking_over_that_does_not_come_to_its_end_leaves_the_old_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(tmp_path)
    journal.offer(Component.MODEL, ONE.wanted(1))
    journal.close()
    as_of_models_alone(tmp_path / "updates.sqlite")
    with monkeypatch.context() as patch:
        patch.setitem(rows._OF_MODELS_ALONE, "place", "no_such_column")
        with pytest.raises(DiskFull):
            open_journal(tmp_path)
    newest = open_journal(tmp_path).newest()
    assert newest is not None and (newest.generation, newest.state) == (1, S.OFFERED)
