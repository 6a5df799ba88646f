import importlib
import multiprocessing
import pkgutil
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError

from cloud_hub import store
from cloud_hub.core.errors import Exhausted, Invalid
from cloud_hub.store import database
from cloud_hub.store.database import Database
from cloud_hub.store.schema import metadata


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'hub.db'}"


def _migrate(url: str) -> None:
    Database(url).migrate()


def test_the_migrations_build_exactly_the_tables_that_the_code_describes(url: str) -> None:
    for module in pkgutil.iter_modules(store.__path__):
        importlib.import_module(f"cloud_hub.store.{module.name}")  # every noun describes its own tables
    db = Database(url)
    db.migrate()
    with db.read() as tx:
        context = MigrationContext.configure(tx, opts={"compare_type": True, "render_as_batch": True})
        assert compare_metadata(context, metadata) == []
    db.close()


def test_processes_that_start_at_once_migrate_once(url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    starting = [spawn.Process(target=_migrate, args=(url,)) for _ in range(3)]
    for process in starting:
        process.start()
    for process in starting:
        process.join(60)
    assert [process.exitcode for process in starting] == [0, 0, 0]
    db = Database(url)
    with db.read() as tx:
        assert tx.execute(text("SELECT count(*) FROM alembic_version")).scalar() == 1
    db.close()


def test_threads_that_write_at_once_lose_nothing(url: str) -> None:
    db = Database(url)
    with db.write() as tx:
        tx.execute(text("CREATE TABLE counter (value INTEGER)"))
        tx.execute(text("INSERT INTO counter VALUES (0)"))

    def count() -> None:
        for _ in range(20):
            with db.write() as tx:
                value = tx.execute(text("SELECT value FROM counter")).scalar_one()
                tx.execute(text("UPDATE counter SET value = :value"), {"value": value + 1})

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with db.read() as tx:
        assert tx.execute(text("SELECT value FROM counter")).scalar() == 160
    db.close()


def test_an_error_leaves_nothing_written_and_the_next_writer_free(url: str) -> None:
    db = Database(url)
    with db.write() as tx:
        tx.execute(text("CREATE TABLE things (name TEXT)"))
    with pytest.raises(KeyError), db.write() as tx:
        tx.execute(text("INSERT INTO things VALUES ('half')"))
        raise KeyError
    with db.write() as tx:
        assert tx.execute(text("SELECT count(*) FROM things")).scalar() == 0
    db.close()


def test_a_reader_sees_one_moment_and_does_not_wait_for_the_writer(url: str) -> None:
    db = Database(url)
    with db.write() as tx:
        tx.execute(text("CREATE TABLE things (name TEXT)"))
    count = text("SELECT count(*) FROM things")
    with db.read() as reader:
        assert reader.execute(count).scalar() == 0
        with db.write() as writer:
            writer.execute(text("INSERT INTO things VALUES ('new')"))
        assert reader.execute(count).scalar() == 0
    with db.read() as reader:
        assert reader.execute(count).scalar() == 1
    db.close()


def test_a_reader_cannot_write(url: str) -> None:
    db = Database(url)
    with pytest.raises(OperationalError, match="readonly"), db.read() as tx:
        tx.execute(text("CREATE TABLE things (name TEXT)"))
    with db.write() as tx:  # the same connection, from the pool
        tx.execute(text("CREATE TABLE things (name TEXT)"))
    db.close()


def test_a_savepoint_undoes_only_itself(url: str) -> None:
    db = Database(url)
    with db.write() as tx:
        tx.execute(text("CREATE TABLE things (name TEXT UNIQUE)"))
        tx.execute(text("INSERT INTO things VALUES ('kept')"))
        with pytest.raises(IntegrityError), tx.begin_nested():
            tx.execute(text("INSERT INTO things VALUES ('lost')"))
            tx.execute(text("INSERT INTO things VALUES ('kept')"))
    with db.read() as tx:
        assert tx.execute(text("SELECT name FROM things")).scalars().all() == ["kept"]
    db.close()


@pytest.mark.parametrize("other_process", [False, True])
def test_a_writer_that_waits_too_long_is_told_so(url: str, monkeypatch: pytest.MonkeyPatch, other_process: bool) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    db = Database(url)
    other = Database(url) if other_process else db  # another Database is as blind as another process
    with db.write(), pytest.raises(Exhausted, match="busy"), other.write():
        pytest.fail("two writers at once")
    with other.write():
        pass
    other.close()
    db.close()


def test_what_is_committed_is_on_disk_and_references_are_checked(url: str) -> None:
    db = Database(url)
    with db.read() as tx:
        assert tx.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert tx.execute(text("PRAGMA synchronous")).scalar() == 2  # FULL
        assert tx.execute(text("PRAGMA foreign_keys")).scalar() == 1
    db.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "postgresql+psycopg://hub@db/hub", "hub.db"])
def test_what_is_not_a_sqlite_file_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(Invalid, match="database_url"):
        Database(url)
