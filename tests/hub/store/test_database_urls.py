"""What is said of a database that cannot be used: clearly, and never with its password."""

import logging
import socket
import sys
import traceback
from pathlib import Path

import pytest
from sqlalchemy import text

from cloud_hub.app import setup
from cloud_hub.core.config import HubConfig
from cloud_hub.core.errors import HubError, Invalid, NotReady, Unavailable
from cloud_hub.store.database import Database
from tests.hub.databases import PostgresServer


def refusal(url: str) -> HubError:
    """Of ``cloud-hub init``."""
    with pytest.raises(HubError) as caught:
        Database(url).migrate()
    return caught.value


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://hub@db/hub", "postgresql://hub@db", "hub.db", "x://"]
)
def test_what_is_neither_a_sqlite_file_nor_a_postgresql_database_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(Invalid, match="database_url"):
        Database(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://hub:5ecr@t@db/hub",
        "postgresql://hub:5ecr@t/er@db/hub",
        "postgresql://hub:5ecr@db:t/hub",
        "postgresql:/5ecr@t",
    ],
)
def test_a_password_that_is_not_encoded_is_not_shown(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(Invalid, match="%") as caught:
        Database(url)
    assert "5ecr" not in str(caught.value) + caplog.text


def test_a_missing_driver_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(NotReady, match=r"pip install 'tideline\[postgres\]'"):
        Database("postgresql://hub@db/hub")


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = refusal(f"postgresql://hub:secret@127.0.0.1:{port}/hub")
    assert isinstance(error, Unavailable)
    assert f"port {port} failed: Connection refused" in str(error)
    assert "secret" not in "".join(traceback.format_exception(error))


def test_a_wrong_password_is_told_and_not_shown(postgres_server: PostgresServer) -> None:
    error = refusal(postgres_server.url("postgres", postgres_server.password_user, "wrong-horse"))
    assert f'password authentication failed for user "{postgres_server.password_user}"' in str(error)
    assert "wrong-horse" not in "".join(traceback.format_exception(error))


def test_the_right_password_lets_in_and_is_in_no_repr(postgres_server: PostgresServer) -> None:
    db = Database(postgres_server.url("postgres", postgres_server.password_user, postgres_server.password))
    with db.read() as tx:
        assert tx.execute(text("SELECT current_user")).scalar() == postgres_server.password_user
        assert postgres_server.password not in repr(tx.engine)
    assert postgres_server.password not in repr(HubConfig(database_url=postgres_server.url("x", "y", postgres_server.password)))
    db.close()


def test_a_database_that_does_not_exist_is_named(postgres_server: PostgresServer) -> None:
    assert 'database "nowhere" does not exist' in str(refusal(postgres_server.url("nowhere")))


def test_a_user_who_may_not_make_tables_is_told(postgres_server: PostgresServer, tmp_path: Path) -> None:
    url = postgres_server.url("postgres", postgres_server.password_user, postgres_server.password)
    with pytest.raises(NotReady, match="permission denied for schema public"):
        setup.initialise(HubConfig(data_dir=tmp_path, database_url=url))


def test_what_the_url_says_of_the_connection_goes_before_our_defaults(postgres_server: PostgresServer) -> None:
    options = "application_name=mine&connect_timeout=7&options=-c%20lock_timeout%3D1234ms"
    db = Database(f"{postgres_server.url('postgres')}&{options}")
    with db.read() as tx:
        shown = [
            tx.execute(text(f"SHOW {name}")).scalar() for name in ("application_name", "lock_timeout", "synchronous_commit")
        ]
    assert shown == ["mine", "1234ms", "on"]
    db.close()


def test_an_option_that_libpq_does_not_know_is_named(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="sslmood"):
        setup.initialise(HubConfig(data_dir=tmp_path, database_url=f"{postgres_server.url('postgres')}&sslmood=on"))


def test_sqlite_keeps_what_is_committed_through_a_power_cut(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'hub.db'}")
    with db.read() as tx:
        assert tx.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert tx.execute(text("PRAGMA synchronous")).scalar() == 2  # FULL
    db.close()


def test_a_sqlite_file_on_a_full_disk_is_not_available(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'hub.db'}")
    db.migrate()
    with db.write() as tx:
        pages = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
    with pytest.raises(Unavailable, match="disk is full"), db.write() as tx:
        tx.exec_driver_sql(f"PRAGMA max_page_count={pages}").close()
        tx.execute(text("CREATE TABLE filler AS SELECT zeroblob(10000000) AS zeros"))
    db.close()
