"""What both databases promise: one suite over SQLite and PostgreSQL."""

import importlib
import multiprocessing
import pkgutil
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from cloud_hub import store
from cloud_hub.core.errors import Conflict, Exhausted, Invalid, NotReady, Unavailable
from cloud_hub.store import claim, database, registry
from cloud_hub.store.database import Database, Tx
from cloud_hub.store.registry import models
from cloud_hub.store.schema import metadata
from protos.contract.ids import ModelName
from tests.hub.databases import PostgresServer
from tests.hub.fleet_parts import START, TENANT
from tests.hub.mqtt_parts import wait_for


def put(tx: Tx, *names: str) -> None:
    rows = [{"tenant": TENANT, "name": name, "task": "", "reserved": 0, "created_at": START} for name in names]
    tx.execute(insert(models), rows)


def names(db: Database) -> list[str]:
    with db.read() as tx:
        return list(tx.execute(select(models.c.name).order_by(models.c.name)).scalars())


def _migrate(url: str) -> None:
    Database(url).migrate()


def test_the_migrations_build_exactly_the_tables_that_the_code_describes(db: Database) -> None:
    for module in pkgutil.iter_modules(store.__path__):
        importlib.import_module(f"cloud_hub.store.{module.name}")  # every noun describes its own tables
    with db.read() as tx:
        context = MigrationContext.configure(tx, opts={"compare_type": True, "render_as_batch": True})
        assert compare_metadata(context, metadata) == []


def test_processes_that_start_at_once_migrate_once(empty_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    starting = [spawn.Process(target=_migrate, args=(empty_url,)) for _ in range(3)]
    for process in starting:
        process.start()
    for process in starting:
        process.join(60)
    assert [process.exitcode for process in starting] == [0, 0, 0]
    db = Database(empty_url)
    with db.read() as tx:
        assert tx.execute(text("SELECT count(*) FROM alembic_version")).scalar() == 1
    db.close()


def test_a_migration_that_fails_leaves_the_schema_as_it_was(empty_url: str) -> None:
    db = Database(empty_url)
    with db.write() as tx:
        tx.execute(text("CREATE TABLE training_specs (mine INTEGER)"))  # in the way of one of the last tables
    with pytest.raises(DBAPIError, match="training_specs"):
        db.migrate()
    with db.write() as tx:
        tx.execute(text("DROP TABLE training_specs"))
    db.migrate()
    assert names(db) == []
    db.close()


def test_threads_that_write_at_once_lose_nothing(db: Database) -> None:
    def count() -> None:
        for _ in range(10):
            with db.write() as tx:
                value = registry.reserved(tx, TENANT, ModelName("counter"))
                tx.execute(update(models).values(reserved=value + 1))

    with db.write() as tx:
        put(tx, "counter")
    at_once(*[count] * 8)
    with db.read() as tx:
        assert registry.reserved(tx, TENANT, ModelName("counter")) == 80


def test_writers_that_know_nothing_of_each_other_come_one_at_a_time(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(3)]  # as blind as processes

    def count(db: Database) -> None:
        for _ in range(10):
            with db.write() as tx:
                registry.reserve(tx, TENANT, ModelName("counter"), START)  # reads, then inserts or updates

    at_once(*[lambda db=db: count(db) for db in databases])
    with databases[0].read() as tx:
        assert registry.reserved(tx, TENANT, ModelName("counter")) == 30
    for db in databases:
        db.close()


def test_an_error_leaves_nothing_written_and_the_next_writer_free(db: Database) -> None:
    with pytest.raises(KeyError), db.write() as tx:
        put(tx, "half")
        raise KeyError
    with db.write() as tx:
        put(tx, "whole")
    assert names(db) == ["whole"]


def test_a_reader_sees_one_moment_and_does_not_wait_for_the_writer(db: Database) -> None:
    query = select(models.c.name)
    with db.read() as reader:
        assert reader.execute(query).all() == []
        with db.write() as writer:
            put(writer, "new")
            assert reader.execute(query).all() == []
        assert reader.execute(query).all() == []
    assert names(db) == ["new"]


@pytest.mark.parametrize("mode", ["write", "append"])
def test_a_writer_sees_what_the_one_before_it_left(db: Database, mode: str) -> None:
    for number in range(3):
        with getattr(db, mode)() as tx:
            assert len(tx.execute(select(models.c.name)).all()) == number
            put(tx, f"m{number}")


def test_a_reader_cannot_write(db: Database) -> None:
    with pytest.raises(DBAPIError, match="read-?only"), db.read() as tx:
        put(tx, "written")
    with db.write() as tx:  # the same connection, from the pool
        put(tx, "written")
    assert names(db) == ["written"]


def test_a_savepoint_undoes_only_itself(db: Database) -> None:
    with db.write() as tx:
        put(tx, "kept")
        with pytest.raises(IntegrityError), tx.begin_nested():
            put(tx, "lost")
            put(tx, "kept")
    assert names(db) == ["kept"]


@pytest.mark.parametrize("other_process", [False, True])
def test_a_writer_that_waits_too_long_is_told_so(
    database_url: str, monkeypatch: pytest.MonkeyPatch, other_process: bool
) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    db = Database(database_url)
    other = Database(database_url) if other_process else db  # another Database is as blind as another process
    with db.write(), pytest.raises(Exhausted, match="busy"), other.write():
        pytest.fail("two writers at once")
    with other.write():
        pass
    other.close()
    db.close()


def test_references_are_checked(db: Database) -> None:
    row = {"tenant": TENANT, "name": "no-model", "alias": "champion", "version": 1}
    with pytest.raises(IntegrityError), db.write() as tx:
        tx.execute(insert(registry.model_aliases), [row])


def test_text_sorts_by_its_bytes(db: Database) -> None:
    mixed = ["a-b", "a1", "ab", "a-c", "aB", "z", "é", "Z"]
    with db.write() as tx:
        put(tx, *mixed)
    assert names(db) == sorted(mixed)
    with db.read() as tx:
        behind = tx.execute(select(models.c.name).where(models.c.name > "a-b").order_by(models.c.name)).scalars().all()
    assert behind == sorted(mixed)[sorted(mixed).index("a-b") + 1 :]


def test_a_migrated_database_is_left_alone(db: Database) -> None:
    with db.write() as tx:
        put(tx, "kept")
    db.migrate()
    assert names(db) == ["kept"]


# -- crashes ------------------------------------------------------------------------------------------------------------

_WRITER = """
import itertools, sys
from datetime import UTC, datetime
from cloud_hub.store import registry
from cloud_hub.store.database import Database
from tests.hub.store.test_database import put
db, run = Database(sys.argv[1]), sys.argv[2]
for number in itertools.count():
    with (db.append if number % 2 else db.write)() as tx:
        put(tx, f"{run}-{number}-a")
        put(tx, f"{run}-{number}-b")
    print(number, flush=True)
"""


def test_a_writer_that_is_killed_leaves_what_it_committed_and_nothing_half(database_url: str) -> None:
    rng = random.Random(3)
    db = Database(database_url)
    for run in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, database_url, str(run)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            told = [int(writer.stdout.readline()) for _ in range(rng.randrange(2, 40))]
            writer.send_signal(signal.SIGKILL)
            told += [int(line) for line in writer.stdout]
        with db.write():
            pass  # the writer's own turn has ended with it
        found = [name.split("-") for name in names(db) if name.startswith(f"{run}-")]
        first, second = ({int(number) for _, number, half in found if half == which} for which in "ab")
        assert first == second
        assert set(told) <= first
        assert len(first) <= len(told) + 1  # at most the one that it could not tell of
    db.close()


# -- one hub ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "TAKE_S", 0.2)
    monkeypatch.setattr(claim, "WATCH_S", 0.05)


@pytest.fixture
def hubs(database_url: str, quick_claims: None) -> Iterator[tuple[Database, Database]]:
    pair = Database(database_url), Database(database_url)
    yield pair
    for db in pair:
        db.close()


def test_a_database_has_one_hub_at_a_time(hubs: tuple[Database, Database]) -> None:
    one, other = hubs
    with one.claim(pytest.fail):
        with pytest.raises(Conflict, match="another hub runs on"), other.claim(pytest.fail):
            pytest.fail("two hubs")
        with other.write() as tx:  # whoever is not the hub may still write
            put(tx, "by-a-replica")
    with other.claim(pytest.fail), pytest.raises(Conflict), one.claim(pytest.fail):
        pytest.fail("two hubs")


def test_a_hub_that_is_killed_makes_room_for_the_next(database_url: str) -> None:
    code = "import sys, time\nfrom cloud_hub.store.database import Database\n"
    code += "with Database(sys.argv[1]).claim(print):\n    print('claimed', flush=True)\n    time.sleep(600)\n"
    with subprocess.Popen([sys.executable, "-c", code, database_url], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "claimed\n"
        first.kill()
    db = Database(database_url)
    with db.claim(pytest.fail):
        pass
    db.close()


# -- PostgreSQL alone ---------------------------------------------------------------------------------------------------

only_postgres = pytest.mark.parametrize("database_kind", ["postgres"], indirect=True)


@only_postgres
def test_telemetry_is_appended_beside_a_writer(db: Database) -> None:
    assert db.parallel
    with db.write() as tx:
        put(tx, "slow")
        with db.append() as one, db.append() as another:
            put(one, "one")
            put(another, "another")
        assert names(db) == ["another", "one"]
    assert names(db) == ["another", "one", "slow"]


@only_postgres
def test_a_row_that_stays_locked_is_busy(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    db = Database(database_url)
    with db.write() as tx:
        put(tx, "wanted")
    with db.append() as one:
        one.execute(select(models).with_for_update())
        with pytest.raises(Unavailable, match="busy"), db.append() as another:
            another.execute(select(models).with_for_update())
    db.close()


@only_postgres
def test_of_two_that_wait_for_each_other_one_is_told_to_try_again(db: Database) -> None:
    with db.write() as tx:
        put(tx, "a", "b")
    gate, told = threading.Barrier(2), []

    def lock(first: str, second: str) -> None:
        try:
            with db.append() as tx:
                tx.execute(select(models).where(models.c.name == first).with_for_update())
                gate.wait(10)
                tx.execute(select(models).where(models.c.name == second).with_for_update())
        except Unavailable as error:
            told.append(str(error))

    at_once(lambda: lock("a", "b"), lambda: lock("b", "a"))
    [message] = told
    assert "deadlock" in message
    with db.write() as tx:
        put(tx, "c")


@only_postgres
def test_a_lost_connection_fails_one_transaction_and_none_after_it(db: Database, postgres_server: PostgresServer) -> None:
    with pytest.raises(Unavailable, match="not available"), db.write() as tx:
        put(tx, "lost")
        pid = tx.execute(text("SELECT pg_backend_pid()")).scalar()
        postgres_server.execute(f"SELECT pg_terminate_backend({pid}, 5000)")
        put(tx, "lost-too")
    with db.read() as tx:
        pid = tx.execute(text("SELECT pg_backend_pid()")).scalar()
    postgres_server.execute(f"SELECT pg_terminate_backend({pid}, 5000)")  # while it waits in the pool
    assert names(db) == []


@only_postgres
def test_a_server_that_crashes_comes_back_with_all_that_was_committed(db: Database, postgres_server: PostgresServer) -> None:
    with db.write() as tx:
        put(tx, "committed")
    with pytest.raises(Unavailable), db.write() as tx:
        put(tx, "lost")
        postgres_server.crash(tx.execute(text("SELECT pg_backend_pid()")).scalar_one())
        put(tx, "lost-too")

    def writes() -> bool:
        try:
            with db.write() as tx:
                put(tx, "after")
        except Unavailable:
            return False
        return True

    wait_for(writes, "a write after the crash")
    assert names(db) == ["after", "committed"]


@only_postgres
def test_a_primary_that_became_a_standby_is_not_kept(db: Database) -> None:
    for _ in range(2):
        with pytest.raises(Unavailable, match="read-only transaction"), db.write() as tx:
            tx.exec_driver_sql("SET TRANSACTION READ ONLY")  # as it is on a standby
            first = tx.execute(text("SELECT pg_backend_pid()")).scalar()
            put(tx, "lost")
    with db.write() as tx:
        assert tx.execute(text("SELECT pg_backend_pid()")).scalar() != first
        put(tx, "kept")
    assert names(db) == ["kept"]


@only_postgres
def test_a_statement_prepared_before_a_migration_fails_once(empty_url: str) -> None:
    db = Database(empty_url)
    with db.write() as tx:
        tx.exec_driver_sql("CREATE TABLE things (name text)")

    def read() -> int:
        with db.read() as tx:
            return len(tx.exec_driver_sql("SELECT * FROM things").keys())

    assert [read() for _ in range(10)] == [1] * 10  # psycopg prepares what comes again
    other = Database(empty_url)
    with other.write() as tx:
        tx.exec_driver_sql("ALTER TABLE things ADD COLUMN colour text")
    other.close()
    with pytest.raises(Unavailable, match="cached plan"):
        read()
    assert read() == 2
    db.close()


@only_postgres
def test_a_text_with_a_nul_is_refused_as_a_value(db: Database) -> None:
    with pytest.raises(Invalid, match="NUL"), db.write() as tx:
        put(tx, "a\0b")
    with pytest.raises(Invalid, match="NUL"), db.read() as tx:
        registry.reserved(tx, TENANT, ModelName("a\0b"))


def test_a_database_of_another_encoding_is_refused(postgres_server: PostgresServer) -> None:
    db = Database(postgres_server.url(name := postgres_server.create("ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")))
    with pytest.raises(NotReady, match="LATIN1.*UTF8"):
        db.migrate()
    db.close()
    postgres_server.drop(name)


@only_postgres
def test_a_hub_whose_session_ends_takes_its_place_again(
    hubs: tuple[Database, Database], postgres_server: PostgresServer
) -> None:
    one, other = hubs
    with one.claim(pytest.fail):
        before = _claiming(other)
        postgres_server.execute(f"SELECT pg_terminate_backend({before[0]}, 5000)")
        wait_for(lambda: _claiming(other) not in ([], before), "a new session that holds the lock")
        with pytest.raises(Conflict), other.claim(pytest.fail):
            pytest.fail("two hubs")
    assert _claiming(other) == []


@only_postgres
def test_a_hub_learns_that_another_took_its_place(
    hubs: tuple[Database, Database], postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = hubs
    lost = threading.Event()
    monkeypatch.setattr(claim, "WATCH_S", 0.3)
    with one.claim(lost.set):
        monkeypatch.setattr(claim, "TAKE_S", 10.0)
        postgres_server.execute(f"SELECT pg_terminate_backend({_claiming(other)[0]}, 5000)")
        with other.claim(pytest.fail):
            assert lost.wait(20)


def _claiming(db: Database) -> list[int]:
    """The session that holds the hub's lock."""
    query = text("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = :key AND granted")
    with db.read() as tx:
        return list(tx.execute(query, {"key": claim._KEY}).scalars())


def at_once(*calls: Callable[[], None]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
