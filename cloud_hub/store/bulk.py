"""Many rows in one statement, given to the driver as they are: binding value by value costs more than storing them.

PostgreSQL gets them as one array for each column. A statement per row would be sent as a pipeline; a process that is stopped in
the middle of one keeps its locks until it goes on, because to the server it is not idle. And it costs three times as much.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

from cloud_hub.store.database import Tx


def insert(tx: Tx, table: Table, columns: tuple[str, ...], rows: Sequence[Sequence[Any]], *, new_only: bool = False) -> None:
    """``rows`` in the order of ``columns``, as the driver takes them. ``new_only``: those whose key is there are left out."""
    if tx.dialect.name == "postgresql":
        values = f"SELECT * FROM unnest({_arrays(table, columns)})"
    else:
        values = f"VALUES ({', '.join('?' * len(columns))})"
    conflict = " ON CONFLICT DO NOTHING" if new_only else ""
    _run(tx, f"INSERT INTO {table.name} ({', '.join(columns)}) {values}{conflict}", rows)


def update(tx: Tx, table: Table, key: tuple[str, ...], columns: tuple[str, ...], rows: Sequence[Sequence[Any]]) -> None:
    """``rows`` hold the new values of ``columns`` and then the ``key``."""
    if tx.dialect.name == "postgresql":
        names = (*columns, *key)
        new = ", ".join(f"{name} = new.{name}" for name in columns)
        same = " AND ".join(f"old.{name} = new.{name}" for name in key)
        source = f"unnest({_arrays(table, names)}) AS new({', '.join(names)})"
        _run(tx, f"UPDATE {table.name} AS old SET {new} FROM {source} WHERE {same}", rows)
    else:
        new, same = ", ".join(f"{name} = ?" for name in columns), " AND ".join(f"{name} = ?" for name in key)
        _run(tx, f"UPDATE {table.name} SET {new} WHERE {same}", rows)


def _run(tx: Tx, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    if not rows:
        return
    if tx.dialect.name == "postgresql":
        tx.exec_driver_sql(statement, tuple(list(column) for column in zip(*rows, strict=True)))
    else:
        tx.exec_driver_sql(statement, [tuple(row) for row in rows])


@lru_cache
def _arrays(table: Table, columns: tuple[str, ...]) -> str:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return ", ".join(f"%b::{table.c[name].type.compile(dialect=dialect)}[]" for name in columns)
