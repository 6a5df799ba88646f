"""Use cases about telemetry: landing batches exactly once, quarantine, and reading it back."""

import heapq
import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.exc import DataError, IntegrityError

from cloud_hub.core.errors import Exhausted, Invalid
from cloud_hub.core.model import DEFAULT_TENANT, DeviceEvent, DeviceStats, Principal, Quarantined, StoredReading
from cloud_hub.core.seldom import Seldom
from cloud_hub.services.versions import Versions
from cloud_hub.store import events as event_store
from cloud_hub.store import landing
from cloud_hub.store import streams as stream_store
from cloud_hub.store import telemetry as store
from cloud_hub.store.database import Database, Tx
from cloud_hub.store.landing import Landing
from cloud_hub.store.streams import StreamKey
from edge_agent.core.clock import Clock
from protos.contract import codec, ids
from protos.contract.errors import ContractError
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import Batch, BatchHead, Event, Inference, Mark, to_ms

log = logging.getLogger(__name__)

DEFAULT_ROWS = 100_000
MAX_ROWS = 1_000_000  # readings in one query
PAGE_BATCHES = 16  # decoded at once: about 1,600 readings, and never more than MAX_BATCH_BYTES each
PAGE_READINGS = 4000  # of 100 to 200 bytes each on the wire
MAX_WAITING = 500_000  # readings held to be put in order; honest batches of a device hardly overlap
QUARANTINE_REPLY_BYTES = 4 << 20  # payloads in one listing
LOG_EVERY_S = 1.0  # of messages that go to quarantine: a broken device sends thousands a second
DEADLINE_S = 60.0  # of a query, its reader's time included

# What one message can do to a statement; anything else (a full disk, a lost database) is not the message's fault.
_POISON = (DataError, IntegrityError, UnicodeError, OverflowError, ContractError)


class Incoming(NamedTuple):
    """One telemetry message: its head, decoded, and its bytes as they came."""

    tenant: TenantId
    device: DeviceId
    batch: BatchHead
    payload: bytes
    received_at: datetime


class Landed(NamedTuple):
    """What became of one message."""

    new: bool = False  # False without ``refused``: it was there already
    refused: str = ""  # why it must go to quarantine


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryStats:
    devices: list[DeviceStats]
    quarantined: int  # messages


class TelemetryService:
    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._versions = Versions()
        self._quarantines = Seldom(LOG_EVERY_S, clock)

    def land_many(self, tx: Tx, messages: Sequence[Incoming]) -> list[Landed]:
        """Store a group; the answer is in its order. Acknowledge after the commit, then send ``marks``.

        Tried as a whole first; where that fails, each message under a savepoint of its own, so that one poison message does
        not take the others with it. A message is refused when the store cannot hold it, and when its sequences are taken by
        other bytes: then two devices use one identity, which is also recorded as a ``telemetry.cloned`` event.
        Errors that are no message's fault are raised, and nothing of the group counts.
        """
        try:
            with tx.begin_nested():
                return self._land(tx, messages)
        except _POISON:
            log.warning("group refused, trying one by one", extra={"messages": len(messages)})
        return [self._land_alone(tx, message) for message in messages]

    def land(self, tx: Tx, tenant: TenantId, device: DeviceId, batch: Batch, payload: bytes, received_at: datetime) -> Landed:
        """``land_many`` for one message."""
        message = Incoming(tenant=tenant, device=device, batch=batch.head, payload=payload, received_at=received_at)
        return self.land_many(tx, [message])[0]

    def marks(self, tx: Tx, device: DeviceId) -> tuple[Mark, ...]:
        """How far each of the device's streams is whole: its licence to forget. Only of use once ``tx`` is committed."""
        return stream_store.marks(tx, device)

    def reached(self, tx: Tx, streams: Sequence[StreamKey]) -> list[tuple[DeviceId, Mark]]:
        """``marks``, of these streams only: for a group, those that it touched."""
        return stream_store.reached(tx, streams)

    def quarantine(self, tx: Tx, topic: str, payload: bytes, reason: str) -> None:
        """Keep a message that cannot be used; the same bytes on the same topic are counted, not kept twice."""
        topic, reason = topic.encode(errors="backslashreplace").decode()[:1024], reason.encode(errors="replace").decode()[:2048]
        store.add_quarantined(tx, _tenant_of(topic), topic, payload, reason, to_ms(self._clock.now()))
        if (before := self._quarantines.turn()) is not None:
            fields = {"topic": topic, "reason": reason, "bytes": len(payload), "not_logged": before}
            log.warning("message quarantined", extra=fields)

    def query(
        self, who: Principal, device: DeviceId | None, since: datetime, until: datetime, limit: int = DEFAULT_ROWS
    ) -> Iterator[list[StoredReading]]:
        """Readings captured from ``since`` to before ``until``, by device and event time, at most ``limit``, in pages.

        No transaction is held between pages: what lands meanwhile may be in or not.

        Raises:
            Invalid: a limit outside 1..MAX_ROWS.
            Exhausted: it took longer than DEADLINE_S, or batches overlap so much that they cannot be put in order.
        """
        if not 1 <= limit <= MAX_ROWS:
            raise Invalid(f"limit must be in 1..{MAX_ROWS}, got {limit}")
        return self._query(who.tenant, device, to_ms(since), to_ms(until), limit)

    def stats(self, who: Principal, device: DeviceId | None = None) -> TelemetryStats:
        with self._db.read() as tx:
            return TelemetryStats(
                devices=store.stats(tx, who.tenant, device), quarantined=store.quarantined_messages(tx, who.tenant)
            )

    def quarantined(self, who: Principal, limit: int = 100) -> list[Quarantined]:
        """Newest first; once they make QUARANTINE_REPLY_BYTES the payloads of the others are left out."""
        with self._db.read() as tx:
            found = store.quarantined(tx, who.tenant, limit)
        sizes = itertools.accumulate(len(message.payload) for message in found)
        return [
            message if size <= QUARANTINE_REPLY_BYTES else replace(message, payload=b"")
            for message, size in zip(found, sizes, strict=True)
        ]

    def events(self, who: Principal, device: DeviceId | None = None, limit: int = 100) -> list[DeviceEvent]:
        """Newest first."""
        with self._db.read() as tx:
            return event_store.newest(tx, who.tenant, device, limit)

    def _land(self, tx: Tx, messages: Sequence[Incoming]) -> list[Landed]:
        landings = landing.land_many(tx, [_row(message) for message in messages])
        return [self._told(tx, message, one) for message, one in zip(messages, landings, strict=True)]

    def _land_alone(self, tx: Tx, message: Incoming) -> Landed:
        try:
            with tx.begin_nested():
                return self._land(tx, [message])[0]
        except _POISON as error:
            return Landed(refused=f"batch cannot be stored: {type(error).__name__}: {error}"[:1000])

    def _told(self, tx: Tx, message: Incoming, one: Landing) -> Landed:
        if one is not Landing.CONFLICT:
            return Landed(new=one is Landing.NEW)
        batch = message.batch
        span = f"{batch.first_sequence}..{batch.last_sequence} of epoch {batch.epoch}, lane {batch.lane.name.lower()}"
        event = Event(
            sequence=batch.first_sequence,
            at=message.received_at,
            kind="telemetry.cloned",
            detail=f"different records came for {span}: two devices use one identity",
        )
        event_store.add_once(tx, message.tenant, message.device, event)
        log.error("cloned device", extra={"device": message.device, "epoch": batch.epoch, "sequence": batch.first_sequence})
        return Landed(refused=event.detail)

    def _query(
        self, tenant: TenantId, device: DeviceId | None, since_ms: int, until_ms: int, limit: int
    ) -> Iterator[list[StoredReading]]:
        deadline = time.monotonic() + DEADLINE_S
        for one in [device] if device is not None else self._devices(tenant):
            for page in self._device_pages(tenant, one, since_ms, until_ms, deadline):
                yield page[:limit]
                limit -= len(page)
                if limit <= 0:
                    return

    def _devices(self, tenant: TenantId) -> list[DeviceId]:
        with self._db.read() as tx:
            return store.devices(tx, tenant)

    def _device_pages(
        self, tenant: TenantId, device: DeviceId, since_ms: int, until_ms: int, deadline: float
    ) -> Iterator[list[StoredReading]]:
        """Batches come by their first reading and may overlap, so a reading waits until no later batch can be before it."""
        waiting: list[tuple[int, int, str, int, StoredReading]] = []
        position = store.Position()
        page: list[StoredReading] = []
        more = True
        while more:
            if time.monotonic() > deadline:
                raise Exhausted(f"the query took longer than {DEADLINE_S:.0f} s: ask for one device or a shorter time")
            with self._db.read() as tx:
                stored = store.scan(tx, tenant, device, since_ms, until_ms, position, PAGE_BATCHES)
                for batch in stored:
                    for reading in self._readings(tx, tenant, device, batch.payload, since_ms, until_ms):
                        ms = to_ms(reading.captured_at)
                        heapq.heappush(waiting, (ms, batch.position.id, reading.lane, reading.sequence, reading))
            if len(waiting) > MAX_WAITING:
                raise Exhausted(f"more than {MAX_WAITING} readings of {device} are from one time: ask for a shorter one")
            more = len(stored) == PAGE_BATCHES
            if more:
                position = stored[-1].position
            while waiting and (not more or waiting[0][0] < position.first_captured_ms):
                page.append(heapq.heappop(waiting)[-1])
                if len(page) == PAGE_READINGS:
                    yield page
                    page = []
        if page:
            yield page

    def _readings(
        self, tx: Tx, tenant: TenantId, device: DeviceId, payload: bytes, since_ms: int, until_ms: int
    ) -> Iterator[StoredReading]:
        batch = codec.decode_batch(payload)  # it was decoded once before it landed
        table = batch.inferences
        labels = {digest: self._versions.labels(tx, tenant, digest) for digest in table.models}
        wanted = (table.captured_at_ms >= since_ms) & (table.captured_at_ms < until_ms)
        for row, inside in zip(table.rows(), wanted.tolist(), strict=True):
            if inside:
                yield _stored(device, batch, row, labels[row.model])


def _row(message: Incoming) -> landing.Batch:
    head = message.batch
    return landing.Batch(
        tenant=message.tenant,
        device=message.device,
        epoch=head.epoch,
        lane=head.lane,
        first_sequence=head.first_sequence,
        last_sequence=head.last_sequence,
        digest=ids.digest_of(message.payload),
        records=head.records,
        dropped=head.dropped,
        first_captured_ms=head.first_captured_ms,
        last_captured_ms=head.last_captured_ms,
        received_ms=to_ms(message.received_at),
        payload=message.payload,
        events=head.events,
    )


def _stored(device: DeviceId, batch: Batch, row: Inference, labels: tuple[str, ...]) -> StoredReading:
    return StoredReading(
        device=device,
        epoch=batch.epoch,
        lane=batch.lane.name.lower(),
        sequence=row.sequence,
        captured_at=row.captured_at,
        model=row.model,
        label=row.label,
        label_name=labels[row.label] if row.label < len(labels) else "",
        confidence=row.confidence,
        latency_ms=row.latency_ms,
        captured=row.captured,
        uncertain=row.uncertain,
        frame_key=row.frame_key,
    )


def _tenant_of(topic: str) -> TenantId:
    """The tenant whose admins see a quarantined message; a topic outside the tree is shown to the default one's."""
    parts = topic.split("/")
    try:
        return ids.tenant_id(parts[2]) if len(parts) > 2 else DEFAULT_TENANT
    except ContractError:
        return DEFAULT_TENANT
