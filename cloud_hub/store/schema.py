"""One MetaData for every noun's tables, and the column types they share."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Dialect, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.types import TypeDecorator

from protos.contract.telemetry import from_ms, to_ms

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

RowId = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only in an INTEGER primary key


class Time(TypeDecorator[datetime]):
    """Aware UTC datetime as milliseconds since 1970 in a BigInteger; compares and sorts as it should."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else to_ms(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else from_ms(value)


class Json(TypeDecorator[Any]):
    """Plain values as JSON in a Text column, keys sorted."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


class Prose(TypeDecorator[str]):
    """Free text that is only shown, such as a reason, from whoever it comes: what no database keeps as text is replaced."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or (value.isascii() and "\0" not in value):
            return value
        return value.encode("utf-8", "replace").decode().replace("\0", "?")


def upsert(table: Table, key: tuple[str, ...], set_: Mapping[str, Any] | None = None) -> Insert:
    """An INSERT that updates the row of the same ``key`` instead: every other column, or those of ``set_``.

    PostgreSQL's construct serves both databases: SQLite took the clause over from it.
    """
    statement = insert(table)
    if set_ is None:
        set_ = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in key}
    return statement.on_conflict_do_update(index_elements=key, set_=set_)


def insert_new(table: Table) -> Insert:
    """An INSERT that leaves a row alone that has the same key."""
    return insert(table).on_conflict_do_nothing()


def tenant() -> Column[str]:
    """Whose row it is: on every table that a tenant's user can read."""
    return Column("tenant", Text, nullable=False)


def time(name: str, *, nullable: bool = False) -> Column[datetime]:
    return Column(name, Time, nullable=nullable)


def row_id(name: str = "id") -> Column[int]:
    """A primary key the database numbers, growing."""
    return Column(name, RowId, primary_key=True, autoincrement=True)
