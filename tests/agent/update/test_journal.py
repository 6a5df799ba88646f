import sqlite3
from pathlib import Path

import pytest

from edge_agent.core.errors import DiskFull
from edge_agent.update.journal import KEPT, Journal
from edge_agent.update.slots import SlotRecord, Slots
from protos.contract.twin import DesiredTwin
from protos.contract.update import UpdateState as S
from tests.agent.clocks import ManualClock
from tests.agent.update.parts import release

ONE = release(1)


def open_journal(folder: Path) -> Journal:
    return Journal(folder / "updates.sqlite", Slots(folder / "models"), ManualClock())


def test_what_was_written_is_there_after_it_is_opened_again(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    update = journal.count(journal.advance(journal.offer(ONE.desired(4)), S.FETCHING))
    journal.close()
    again = open_journal(tmp_path)
    assert again.newest() == update
    assert (again.generation(), update.attempts, update.rollout_id) == (4, 1, "r4")


def test_attempts_begin_again_with_every_state_and_a_trial_begins_by_being_tried(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    update = journal.count(journal.advance(journal.offer(ONE.desired(1)), S.FETCHING))
    update = journal.advance(update, S.STAGED)
    assert update.attempts == 0
    update = journal.advance(journal.count(update), S.TRIAL, reference_ms=2.5)
    assert (update.attempts, update.reference_ms) == (1, 2.5)
    assert journal.advance(journal.count(update), S.COMMITTED).attempts == 2


def test_a_transition_outside_the_table_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    update = journal.offer(ONE.desired(1))
    with pytest.raises(ValueError, match="cannot go from OFFERED to COMMITTED"):
        journal.advance(update, S.COMMITTED)
    with pytest.raises(ValueError, match="cannot go from FETCHING to TRIAL"):
        journal.advance(update, S.FETCHING, S.TRIAL)
    assert journal.newest() == update


def test_an_offer_cannot_overtake_one_that_is_under_way(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.offer(ONE.desired(1))
    with pytest.raises(ValueError, match="cannot follow"):
        journal.offer(ONE.desired(2))


def test_a_generation_that_asks_for_nothing_is_remembered(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.see(7)
    journal.see(3)
    assert (journal.generation(), journal.newest()) == (7, None)
    with pytest.raises(ValueError, match="no update"):
        journal.offer(DesiredTwin(generation=8))


def test_old_updates_are_forgotten(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for generation in range(1, KEPT + 10):
        journal.advance(journal.offer(ONE.desired(generation)), S.FAILED, reason="x" * 10_000)
    with sqlite3.connect(tmp_path / "updates.sqlite") as db:
        assert db.execute("SELECT count(*), max(length(reason)) FROM updates").fetchone() == (KEPT, 500)


def test_a_row_that_makes_no_sense_counts_as_damage(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.offer(ONE.desired(1))
    journal.close()
    with sqlite3.connect(tmp_path / "updates.sqlite") as db:
        db.execute("UPDATE updates SET state = 99")
    assert open_journal(tmp_path).newest() is None
    assert (tmp_path / "updates.sqlite.damaged").exists()


def test_a_full_disk_is_told_and_changes_nothing(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    update = journal.offer(ONE.desired(1))
    journal._db.execute("PRAGMA max_page_count = 1")  # pages in use stay: nothing can be added
    with pytest.raises(DiskFull):
        for generation in range(2, 100):
            journal.advance(update, S.FAILED, reason="y" * 500)
            update = journal.offer(ONE.desired(generation))
    assert journal.newest() is not None


def test_a_journal_that_cannot_be_opened_says_so_and_one_in_memory_starts_from_the_slots(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="cannot be opened"):
        Journal(tmp_path / "nowhere" / "updates.sqlite", Slots(tmp_path / "models"), ManualClock())
    slots = Slots(tmp_path / "models")
    slots.prepare(slots.slot("a"), SlotRecord(assignment=ONE.assignment, generation=5))
    for path in (slots.slot("a").manifest, slots.slot("a").model, slots.slot("a").golden):
        path.write_bytes(b"")
    slots.mark(slots.slot("a"), good=True)
    slots.activate(slots.slot("a"))
    journal = Journal(None, slots, ManualClock())
    newest = journal.newest()
    assert newest is not None and (journal.generation(), newest.state) == (5, S.COMMITTED)
