"""Open windows: what the engine has of each stream and source of time, and whose turn it is to fold.

Whoever folds has the states of the last page in memory. ``turn`` is the fence that tells whether they still hold: it moves
with every transaction that writes a state, so one that finds it where it left it is the only one that has folded since.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, ColumnElement, Index, Integer, Row, Table, Text, delete, exists, func, select, update

from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from cloud_hub.store.landing import landing
from cloud_hub.store.streams import streams
from protos.contract.ids import DeviceId, TenantId

FLEET = DeviceId("")  # stands for all devices of a tenant together
DRIFT = "_drift"  # the built-in stream; users' names begin with a letter or a digit
_KEYS_PER_QUERY = 500  # a statement takes only so many parameters
_KEY = ("tenant", "stream", "device")

fold_turn = Table(
    "fold_turn",
    schema.metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("turn", BigInteger, nullable=False),
)

stream_states = Table(
    "stream_states",
    schema.metadata,
    Column("tenant", Text, primary_key=True),
    Column("stream", Text, primary_key=True),
    Column("device", Text, primary_key=True),  # empty: the tenant's whole fleet
    Column("fingerprint", Text, nullable=False),  # of the spec that the state was made under
    Column("state", Text, nullable=False),  # JSON, as the engine gives it
    Column("event_ms", BigInteger, nullable=False),  # time of the newest reading
    Column("received_ms", BigInteger, nullable=False),  # when the last batch came
    Column(
        "complete_from_ms", BigInteger, nullable=False
    ),  # windows that start earlier lack what was folded before the spec came
    Column("close_at_ms", BigInteger),  # when its windows are over by the wall clock alone; null: none is open
    Index(None, "device"),
    Index(None, "close_at_ms"),
)

_PUT = schema.upsert(stream_states, _KEY)
_PUT_TURN = schema.upsert(fold_turn, ("id",))


@dataclass(slots=True, kw_only=True)
class StreamState:
    """A row of ``stream_states``."""

    tenant: TenantId
    stream: str
    device: DeviceId
    fingerprint: str
    state: str
    event_ms: int
    received_ms: int
    complete_from_ms: int
    close_at_ms: int | None


def turn(tx: Tx) -> int:
    """0 before the first."""
    return tx.execute(select(fold_turn.c.turn)).scalar() or 0


def take_turn(tx: Tx, after: int) -> bool:
    """Move the fence on from ``after``; False, and nothing is changed, where somebody else has."""
    if turn(tx) != after:
        return False
    tx.execute(_PUT_TURN, {"id": 1, "turn": after + 1})
    return True


def of_devices(tx: Tx, devices: Collection[DeviceId]) -> list[StreamState]:
    """Every state of these devices, of whichever tenant."""
    wanted = sorted(devices)
    rows: list[Row[Any]] = []
    for start in range(0, len(wanted), _KEYS_PER_QUERY):
        part = wanted[start : start + _KEYS_PER_QUERY]
        rows += tx.execute(select(stream_states).where(stream_states.c.device.in_(part))).all()
    return [StreamState(**row._mapping) for row in rows]


def of_fleets(tx: Tx) -> list[StreamState]:
    return of_devices(tx, [FLEET])


def put(tx: Tx, states: Iterable[StreamState]) -> None:
    rows = [{name: getattr(state, name) for name in StreamState.__slots__} for state in states]
    if rows:
        tx.execute(_PUT, rows)


def remove(tx: Tx, keys: Sequence[tuple[TenantId, str, DeviceId]]) -> None:
    s = stream_states.c
    for tenant, stream, device in keys:
        tx.execute(delete(stream_states).where((s.tenant == tenant) & (s.stream == stream) & (s.device == device)))


def remove_stream(tx: Tx, tenant: TenantId, stream: str) -> int:
    """With every open window of it; how many states there were. The fence moves: nobody's memory of them holds."""
    s = stream_states.c
    removed = tx.execute(delete(stream_states).where((s.tenant == tenant) & (s.stream == stream))).rowcount
    tx.execute(update(fold_turn).values(turn=fold_turn.c.turn + 1))
    return removed


def due(tx: Tx, now_ms: int, waits_from_ms: int, limit: int) -> list[StreamState]:
    """States whose windows are over by the wall clock, while nothing of their device waits to be folded.

    A batch behind a hole waits too, unless its stream has not moved since ``waits_from_ms``.
    """
    s, one = stream_states.c, streams.c
    behind = (one.committed_through > one.folded_through) | ((one.early != []) & (one.updated_ms >= waits_from_ms))
    waiting = exists().where((one.device == s.device) & behind)
    query = select(stream_states).where((s.close_at_ms <= now_ms) & (s.device != FLEET) & ~waiting)
    return [StreamState(**row._mapping) for row in tx.execute(query.order_by(s.close_at_ms).limit(limit))]


def fleet_time(tx: Tx, tenant: TenantId, stream: str, heard_from_ms: int) -> int | None:
    """The time that every device has passed which was heard of since then or has batches to be folded; None: there is none."""
    s = stream_states.c
    own = (s.tenant == tenant) & (s.stream == stream) & (s.device != FLEET)
    counts = (s.received_ms >= heard_from_ms) | _waits(s.device)
    return tx.execute(select(func.min(s.event_ms)).where(own & counts)).scalar()


def unheard(tx: Tx, tenant: TenantId, stream: str) -> list[DeviceId]:
    """Devices with batches to be folded of which the stream has seen none yet."""
    one, s = streams.c, stream_states.c
    known = exists().where((s.tenant == tenant) & (s.stream == stream) & (s.device == one.device))
    query = select(one.device).where((one.tenant == tenant) & (one.committed_through > one.folded_through) & ~known)
    return [DeviceId(device) for device in tx.execute(query.distinct()).scalars()]


def lag(tx: Tx) -> tuple[int, int | None]:
    """Records that can be folded and are not, and when the oldest of their batches came; None: there are none.

    Of each stream only its first such batch is looked at, over the index.
    """
    one, c = streams.c, landing.c
    own = (c.device == one.device) & (c.epoch == one.epoch) & (c.lane == one.lane) & (c.first_sequence > one.folded_through)
    first_ms = select(c.received_ms).where(own).order_by(c.first_sequence).limit(1).scalar_subquery()
    behind = select((one.committed_through - one.folded_through).label("records"), first_ms.label("since_ms"))
    each = behind.where(one.committed_through > one.folded_through).subquery()
    records, since_ms = tx.execute(select(func.coalesce(func.sum(each.c.records), 0), func.min(each.c.since_ms))).one()
    return int(records), since_ms


def _waits(device: Column[str] | ColumnElement[str]) -> ColumnElement[bool]:
    return exists().where((streams.c.device == device) & (streams.c.committed_through > streams.c.folded_through))
