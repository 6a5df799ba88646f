"""Column types and statements that both databases share."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, insert, select

from cloud_hub.store import schema
from cloud_hub.store.database import Database
from tests.hub.fleet_parts import START

notes = Table(
    "notes",
    MetaData(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("text", schema.Prose),
    Column("value", schema.Json),
    schema.time("at", nullable=True),
)


@pytest.fixture
def made(empty_url: str) -> Iterator[Database]:
    db = Database(empty_url)
    with db.write() as tx:
        notes.create(tx)
    yield db
    db.close()


@pytest.mark.parametrize(("given", "kept"), [("a\0b", "a?b"), ("\udcff.png", "?.png"), ("é", "é"), ("", ""), (None, None)])
def test_prose_is_kept_whatever_it_quotes(made: Database, given: str | None, kept: str | None) -> None:
    with made.write() as tx:
        tx.execute(insert(notes).values(number=1, text=given))
        assert tx.execute(select(notes.c.text)).scalar_one() == kept


@pytest.mark.parametrize("value", [{"b": ["\0", "é", 1.5], "a": None}, [], 0, "x"])
def test_json_comes_back_as_it_was(made: Database, value: object) -> None:
    with made.write() as tx:
        tx.execute(insert(notes).values(number=1, value=value))
        assert tx.execute(select(notes.c.value)).scalar_one() == value


def test_times_come_back_aware_and_compare(made: Database) -> None:
    later = START + timedelta(milliseconds=1)
    with made.write() as tx:
        tx.execute(insert(notes), [{"number": 1, "at": START}, {"number": 2, "at": later}])
        assert tx.execute(select(notes.c.at).where(notes.c.at > START)).scalars().all() == [later]


def test_an_upsert_replaces_what_it_names_and_nothing_else(made: Database) -> None:
    with made.write() as tx:
        tx.execute(schema.upsert(notes, ("number",)), [{"number": 1, "text": "old", "value": 1, "at": START}])
        tx.execute(schema.upsert(notes, ("number",)), [{"number": 1, "text": "new", "value": 2, "at": None}])
        assert tx.execute(select(notes)).one() == (1, "new", 2, None)
        only_text = schema.upsert(notes, ("number",), {"text": "newest"})
        tx.execute(only_text.values(number=1, text="ignored", value=3, at=START))
        assert tx.execute(select(notes)).one() == (1, "newest", 2, None)


def test_a_row_that_is_there_is_left_alone(made: Database) -> None:
    with made.write() as tx:
        for text in ("first", "second"):
            tx.execute(schema.insert_new(notes).values(number=1, text=text))
        assert tx.execute(select(notes.c.text)).scalars().all() == ["first"]
