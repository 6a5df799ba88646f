"""The audit log of each tenant: rows are added at its end and never touched again, which triggers in the database see to
(migration 0008)."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, Row, Table, Text, func, insert, select

from cloud_hub.core.audit import NOTHING, Anchor, AuditFilter, Entry
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import TenantId

audit = Table(
    "audit",
    schema.metadata,
    Column("tenant", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("role", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("result", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("previous", Text, nullable=False),
    Column("hash", Text, nullable=False),
)
_TEXTS = ("role", "who", "source", "action", "subject", "result", "detail", "previous", "hash")


def add(tx: Tx, entries: Sequence[Entry]) -> None:
    """In order; the database refuses those that do not follow its newest one."""
    tx.execute(insert(audit), [{column.name: getattr(entry, column.name) for column in audit.columns} for entry in entries])


def head(tx: Tx, tenant: TenantId) -> Anchor:
    """Of the newest entry; number 0: there is none."""
    a = audit.c
    row = tx.execute(select(a.number, a.hash).where(a.tenant == tenant).order_by(a.number.desc()).limit(1)).first()
    return NOTHING if row is None else Anchor(number=_number(row.number), hash=str(row.hash))


def after(tx: Tx, tenant: TenantId, number: int, limit: int) -> list[Entry]:
    """Those above ``number`` in order."""
    a = audit.c
    query = select(audit).where(a.tenant == tenant, a.number > number).order_by(a.number).limit(limit)
    return [_made(row) for row in tx.execute(query)]


def before(tx: Tx, tenant: TenantId, wanted: AuditFilter, number: int | None, limit: int) -> list[Entry]:
    """Those below ``number`` (None: all), newest first."""
    a = audit.c
    query = select(audit).where(a.tenant == tenant, a.at_ms >= wanted.since_ms)
    if number is not None:
        query = query.where(a.number < number)
    if wanted.until_ms:
        query = query.where(a.at_ms < wanted.until_ms)
    if wanted.who:
        query = query.where(a.who == wanted.who)
    if wanted.result:
        query = query.where(a.result == wanted.result)
    if wanted.action:  # lower: only one of the databases cares for case
        query = query.where(func.lower(a.action).contains(wanted.action.lower(), autoescape=True))
    return [_made(row) for row in tx.execute(query.order_by(a.number.desc()).limit(limit))]


def tenants(tx: Tx) -> list[TenantId]:
    """Those that have entries: a look into the key for each, where DISTINCT would read all of it."""
    found: list[TenantId] = []
    while True:
        following = select(func.min(audit.c.tenant))
        if found:
            following = following.where(audit.c.tenant > found[-1])
        tenant = tx.execute(following).scalar()
        if tenant is None:
            return found
        found.append(TenantId(tenant))


def _made(row: Row[Any]) -> Entry:
    """Of whatever stands there: what somebody else wrote must not stop whoever looks for it."""
    texts = {name: str(getattr(row, name)) for name in _TEXTS}
    return Entry(number=_number(row.number), at_ms=_number(row.at_ms), tenant=TenantId(str(row.tenant)), **texts)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
