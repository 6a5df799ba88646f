"""What a job's search for settings has tried: a journal in the order in which it was written."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ForeignKey, Integer, Table, Text, delete, func, insert, select

from cloud_hub.store import schema
from cloud_hub.store.database import Tx

training_trials = Table(
    "training_trials",
    schema.metadata,
    Column("job_id", Text, ForeignKey("training_jobs.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("entry", schema.Json, nullable=False),
)


def append(tx: Tx, job_id: str, entries: Sequence[dict[str, Any]]) -> None:
    t = training_trials.c
    first = tx.execute(select(func.coalesce(func.max(t.number) + 1, 0)).where(t.job_id == job_id)).scalar_one()
    rows = [{"job_id": job_id, "number": first + i, "entry": entry} for i, entry in enumerate(entries)]
    if rows:
        tx.execute(insert(training_trials), rows)


def read(tx: Tx, job_id: str, start: int) -> list[dict[str, Any]]:
    """Those numbered from ``start`` on; the first one is 0."""
    t = training_trials.c
    query = select(t.entry).where((t.job_id == job_id) & (t.number >= start)).order_by(t.number)
    return [dict(row.entry) for row in tx.execute(query)]


def forget(tx: Tx, job_id: str) -> None:
    tx.execute(delete(training_trials).where(training_trials.c.job_id == job_id))
