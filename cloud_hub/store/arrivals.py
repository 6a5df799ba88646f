"""Which batches have come since, each told once, even where rows are not numbered in the order of their commits.

PostgreSQL numbers a row when it is inserted and shows it when its transaction commits, minutes later where a process was
stopped in between. So numbers are done with only once every transaction that could have taken one of them has ended; until
then those seen are remembered. SQLite's writers come one at a time, and its rows in the order of their numbers.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import func, select, text

from cloud_hub.core.errors import Exhausted
from cloud_hub.store.database import Tx
from cloud_hub.store.landing import landing
from edge_agent.core.clock import Clock
from protos.contract.ids import DeviceId, TenantId

MAX_REMEMBERED = 1_000_000
LOOK_BACK = 100_000  # rows before the beginning: a transaction that stands open then may have taken one of them
_SETTLED_S = 5.0  # a transaction gets its own number well within this of its first row's, and from then on a snapshot knows it
_SCANNED = 20_000  # rows looked at for the newest ones of a device


class Arrival(NamedTuple):
    id: int
    tenant: TenantId
    device: DeviceId


class _Mark(NamedTuple):
    row: int
    transaction: int  # the next one, when ``row`` was the newest
    at_s: float


class Arrivals:
    """Batches with readings that are committed from ``begin`` on. Not thread-safe."""

    def __init__(self, clock: Clock, *, parallel: bool) -> None:
        """``parallel``: of the database."""
        self._clock = clock
        self._parallel = parallel
        self._done = 0  # every row up to here has been told, or was there at the beginning
        self._seen: set[int] = set()  # of those above
        self._mark: _Mark | None = None

    def begin(self, tx: Tx) -> None:
        c = landing.c
        newest = tx.execute(select(func.coalesce(func.max(c.id), 0))).scalar_one()
        self._done, self._seen, self._mark = newest, set(), None
        if self._parallel:
            self._done = max(0, newest - LOOK_BACK)
            self._seen = set(tx.execute(select(c.id).where(c.id > self._done)).scalars())

    def poll(self, tx: Tx) -> list[Arrival]:
        """What ``tx`` sees and no poll before it saw.

        Raises:
            Exhausted: a transaction has stood open for so long that what came meanwhile cannot be remembered.
        """
        c = landing.c
        query = select(c.id, c.tenant, c.device, c.first_captured_ms).where(c.id > self._done).order_by(c.id)
        fresh = [row for row in tx.execute(query) if row.id not in self._seen]
        if self._parallel:
            self._settle(tx)  # first: where it fails nothing of this poll may count as told
            self._seen.update(row.id for row in fresh)
        elif fresh:
            self._done = fresh[-1].id
        return [
            Arrival(row.id, TenantId(row.tenant), DeviceId(row.device)) for row in fresh if row.first_captured_ms is not None
        ]

    def _settle(self, tx: Tx) -> None:
        """Forget rows below which nothing can come any more."""
        if len(self._seen) > MAX_REMEMBERED:
            raise Exhausted("a transaction stands open in the database for too long: end it, and tail again")
        snapshot = "SELECT pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text FROM pg_current_snapshot() AS s"
        oldest, following = map(int, tx.execute(text(snapshot)).one())
        now_s = self._clock.monotonic()
        if self._mark and oldest >= self._mark.transaction and now_s - self._mark.at_s >= _SETTLED_S:
            self._done = max(self._done, self._mark.row)
            self._seen = {id for id in self._seen if id > self._done}
            self._mark = None
        if self._mark is None and self._seen:
            self._mark = _Mark(max(self._seen), following, now_s)


def payloads(tx: Tx, rows: Sequence[int]) -> dict[int, tuple[DeviceId, bytes]]:
    """Of those that are still in ``landing``."""
    c = landing.c
    found = tx.execute(select(c.id, c.device, c.payload).where(c.id.in_(rows)))
    return {id: (DeviceId(device), payload) for id, device, payload in found}


def newest(tx: Tx, tenant: TenantId, device: DeviceId | None) -> Iterator[tuple[int, DeviceId, int]]:
    """(row, device, records) of batches with readings, newest first, as far as it is worth looking."""
    c = landing.c
    query = select(c.id, c.device, c.records).where((c.tenant == tenant) & c.first_captured_ms.is_not(None))
    if device is not None:
        query = query.where(c.device == device)
    for id, sender, records in tx.execute(query.order_by(c.id.desc()).limit(_SCANNED)):
        yield id, DeviceId(sender), records
