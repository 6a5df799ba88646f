"""Terms of leadership: whoever leads has the highest epoch, and what an older one writes is refused."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, Column, Connection, Table, Text, select

from cloud_hub.store import schema

Tx = Connection  # as ``store.database`` has it, which imports this module

HUB = "hub"  # whose lease it is; there is one so far

leases = Table(
    "leases",
    schema.metadata,
    Column("name", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("holder", Text, nullable=False),
    Column("authority", Text, nullable=False),
    schema.time("taken_at"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The newest term."""

    epoch: int  # 1, 2, ...: one more with every term
    holder: str  # for people
    authority: str  # digest of the root certificate by which this hub's devices know it
    taken_at: datetime


def newest(tx: Tx, name: str = HUB) -> Lease | None:
    """None: nobody has led yet."""
    row = tx.execute(select(leases).where(leases.c.name == name)).first()
    if row is None:
        return None
    return Lease(epoch=row.epoch, holder=row.holder, authority=row.authority, taken_at=row.taken_at)


def epoch(tx: Tx, name: str = HUB) -> int:
    """Of the newest term; 0: nobody has led yet."""
    return tx.execute(select(leases.c.epoch).where(leases.c.name == name)).scalar() or 0


def begin(tx: Tx, *, holder: str, authority: str, at: datetime, name: str = HUB) -> Lease:
    """A term after every other. No other writer may be under way: see ``Database.lead``."""
    lease = Lease(epoch=epoch(tx, name) + 1, holder=holder, authority=authority, taken_at=at)
    row = {"name": name, "epoch": lease.epoch, "holder": holder, "authority": authority, "taken_at": at}
    tx.execute(schema.upsert(leases, ("name",)), row)
    return lease
