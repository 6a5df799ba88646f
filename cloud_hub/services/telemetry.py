"""Use cases about telemetry: landing batches exactly once, what is lost, and quarantine."""

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.exc import DataError, IntegrityError

from cloud_hub.core.errors import Invalid, NotFound
from cloud_hub.core.model import DEFAULT_TENANT, DeviceEvent, DeviceStats, Principal, Quarantined
from cloud_hub.store import events as event_store
from cloud_hub.store import fleet as fleet_store
from cloud_hub.store import landing
from cloud_hub.store import quarantine as quarantine_store
from cloud_hub.store import streams as stream_store
from cloud_hub.store import telemetry as store
from cloud_hub.store.database import Database, Tx
from cloud_hub.store.landing import Landing
from cloud_hub.store.streams import StreamKey
from edge_agent.core.clock import Clock
from edge_agent.core.seldom import Seldom
from protos.contract import codec, ids, topics
from protos.contract.errors import ContractError, InvalidMessage, InvalidTopic
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import Batch, BatchHead, Event, Mark, to_ms
from protos.contract.topics import UpTopic
from protos.contract.twin import Held

log = logging.getLogger(__name__)

QUARANTINE_REPLY_BYTES = 4 << 20  # payloads in one listing
LOG_EVERY_S = 1.0  # of messages that go to quarantine: a broken device sends thousands a second
TRIM_EVERY_S = 1.0  # quarantine may pass its bounds by what comes in this time
REPLAY_PAGE = 50  # messages in one transaction, of MAX_QUARANTINED_BYTES each at most
MAX_REPLAY = 10_000  # messages in one call

# What one message can do to a statement; anything else (a full disk, a lost database) is not the message's fault.
_POISON = (DataError, IntegrityError, UnicodeError, OverflowError, ContractError)


class Incoming(NamedTuple):
    """One telemetry message: its head, decoded, and its bytes as they came."""

    tenant: TenantId
    device: DeviceId
    batch: BatchHead
    payload: bytes
    received_at: datetime

    @property
    def stream(self) -> StreamKey:
        return StreamKey(self.device, self.batch.epoch, int(self.batch.lane))


class Landed(NamedTuple):
    """What became of one message."""

    new: bool = False  # False without one of the others: it was there already
    refused: str = ""  # why it must go to quarantine
    deferred: bool = False  # not stored now; the device sends it again


class Replayed(NamedTuple):
    """What became of quarantined messages."""

    replayed: int  # taken in, and gone from quarantine
    refused: tuple[tuple[int, str], ...]  # id and reason of those that stay


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryStats:
    devices: list[DeviceStats]
    quarantined: int  # messages


class TelemetryService:
    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._quarantines = Seldom(LOG_EVERY_S, clock)
        self._trims = Seldom(TRIM_EVERY_S, clock)
        self._grown: set[TenantId] = set()

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
        landed: dict[int, Landed] = {}
        for at in sorted(range(len(messages)), key=lambda at: messages[at].stream):  # in the order in which others lock streams
            landed[at] = self._land_alone(tx, messages[at])
        return [landed[at] for at in range(len(messages))]

    def land(self, tx: Tx, tenant: TenantId, device: DeviceId, batch: Batch, payload: bytes, received_at: datetime) -> Landed:
        """``land_many`` for one message."""
        message = Incoming(tenant=tenant, device=device, batch=batch.head, payload=payload, received_at=received_at)
        return self.land_many(tx, [message])[0]

    def on_held(self, tx: Tx, tenant: TenantId, device: DeviceId, held: Sequence[Held]) -> None:
        """The device says what it still holds: what is before that, and not here, is lost.

        It forgets only what a mark covered. So a mark was given that this database does not know of: it was restored from a
        backup, or is a new one.
        """
        oldest = {StreamKey(device, one.epoch, int(one.lane)): one.oldest for one in held}
        landing.device_holds(tx, tenant, oldest, to_ms(self._clock.now()))

    def on_throttled(self, tx: Tx, tenant: TenantId, device: DeviceId, bytes_per_s: int) -> None:
        """The device sends more than its quota; once per episode."""
        event = Event(
            sequence=0,
            at=self._clock.now(),
            kind="telemetry.throttled",
            detail=f"more than {bytes_per_s} bytes/s: what is above is not stored now, and the device sends it again",
        )
        event_store.add(tx, [(tenant, device, event, to_ms(event.at))])

    def marks(self, tx: Tx, device: DeviceId) -> tuple[Mark, ...]:
        """How far each of the device's streams is whole: its licence to forget. Only of use once ``tx`` is committed."""
        return stream_store.marks(tx, device)

    def reached(self, tx: Tx, streams: Sequence[StreamKey]) -> list[tuple[DeviceId, Mark]]:
        """``marks``, of these streams only: for a group, those that it touched."""
        return stream_store.reached(tx, streams)

    def quarantine(self, tx: Tx, topic: str, payload: bytes, reason: str) -> None:
        """Keep a message that cannot be used; the same bytes on the same topic are counted, not kept twice."""
        topic, reason = topic.encode(errors="backslashreplace").decode()[:1024], reason.encode(errors="replace").decode()[:2048]
        tenant = _tenant_of(topic)
        quarantine_store.add(tx, tenant, topic, payload, reason, to_ms(self._clock.now()))
        self._grown.add(tenant)
        if self._trims.turn() is not None:
            for one in self._grown:
                quarantine_store.trim(tx, one)
            self._grown.clear()
        if (before := self._quarantines.turn()) is not None:
            fields = {"topic": topic, "reason": reason, "bytes": len(payload), "not_logged": before}
            log.warning("message quarantined", extra=fields)

    def stats(self, who: Principal, device: DeviceId | None = None) -> TelemetryStats:
        with self._db.read() as tx:
            return TelemetryStats(
                devices=store.stats(tx, who.tenant, device), quarantined=quarantine_store.messages(tx, who.tenant)
            )

    def quarantined(self, who: Principal, limit: int = 100) -> list[Quarantined]:
        """Newest first; once they make QUARANTINE_REPLY_BYTES the payloads of the others are left out."""
        with self._db.read() as tx:
            found = quarantine_store.newest(tx, who.tenant, limit)
        sizes = itertools.accumulate(len(message.payload) for message in found)
        return [
            message if size <= QUARANTINE_REPLY_BYTES else replace(message, payload=b"")
            for message, size in zip(found, sizes, strict=True)
        ]

    def quarantined_message(self, who: Principal, id: int) -> Quarantined:
        """With its payload. Raises NotFound."""
        with self._db.read() as tx:
            found = quarantine_store.find(tx, who.tenant, id)
        if found is None:
            raise NotFound(f"no message {id} in quarantine")
        return found

    def replay(self, who: Principal, ids: Sequence[int] = ()) -> Replayed:
        """Take quarantined telemetry in as if it had just come; no ids: all of it. What still cannot be used stays.

        Raises:
            Invalid: more ids than MAX_REPLAY.
            NotFound: none of the tenant's messages has one of the ids; nothing was replayed.
        """
        if len(ids) > MAX_REPLAY:
            raise Invalid(f"at most {MAX_REPLAY} messages can be replayed at once, got {len(ids)}")
        with self._db.read() as tx:
            there = quarantine_store.all_ids(tx, who.tenant)
        if missing := set(ids) - set(there):
            raise NotFound(f"no message {min(missing)} in quarantine")
        wanted = list(dict.fromkeys(ids)) or there
        refused: list[tuple[int, str]] = []
        for start in range(0, len(wanted), REPLAY_PAGE):
            with self._db.write() as tx:
                page = [quarantine_store.find(tx, who.tenant, id) for id in wanted[start : start + REPLAY_PAGE]]
                reasons = [(one.id, self._take_in(tx, one)) for one in page if one is not None]
                quarantine_store.remove(tx, [id for id, reason in reasons if not reason])
                refused += [(id, reason) for id, reason in reasons if reason]
        log.info("quarantine replayed", extra={"messages": len(wanted), "refused": len(refused), "by": who.name})
        return Replayed(replayed=len(wanted) - len(refused), refused=tuple(refused))

    def forget_quarantined(self, before: datetime) -> int:
        """Those that came last before ``before`` go, of all tenants; how many."""
        with self._db.write() as tx:
            return quarantine_store.forget(tx, to_ms(before))

    def events(self, who: Principal, device: DeviceId | None = None, limit: int = 100) -> list[DeviceEvent]:
        """Newest first."""
        with self._db.read() as tx:
            return event_store.newest(tx, who.tenant, device, limit)

    def _take_in(self, tx: Tx, message: Quarantined) -> str:
        """Why not; empty: it is stored."""
        if message.cut:
            return f"only its first {len(message.payload)} bytes were kept"
        try:
            topic = topics.parse_up(message.topic)
        except InvalidTopic as error:
            return str(error)
        if topic.kind != topics.TELEMETRY:
            return "a twin is not replayed: the device has told a newer one, or will"
        [head] = heads([(topic, message.payload)])
        if isinstance(head, str):
            return head
        if fleet_store.tenants(tx, [topic.device]).get(topic.device) != topic.tenant:
            return f"no device {topic.device} in tenant {topic.tenant}"
        [landed] = self.land_many(tx, [Incoming(topic.tenant, topic.device, head, message.payload, self._clock.now())])
        return "too many holes are before it in its stream" if landed.deferred else landed.refused

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
            return Landed(new=one is Landing.NEW, deferred=one is Landing.DEFERRED)
        batch = message.batch
        span = f"{batch.first_sequence}..{batch.last_sequence} of epoch {batch.epoch}, lane {batch.lane.name.lower()}"
        event = Event(
            sequence=batch.first_sequence,
            at=message.received_at,
            kind="telemetry.cloned",
            detail=f"different records came for {span}: two devices use one identity",
        )
        event_store.add_once(tx, message.tenant, message.device, event, message.received_at)
        log.error("cloned device", extra={"device": message.device, "epoch": batch.epoch, "sequence": batch.first_sequence})
        return Landed(refused=event.detail)


def heads(messages: Sequence[tuple[UpTopic, bytes]]) -> list[BatchHead | str]:
    """Of telemetry messages, or why they cannot be used, in order."""
    found: list[BatchHead | str] = []
    for (topic, _), head in zip(messages, codec.decode_heads([payload for _, payload in messages]), strict=True):
        if isinstance(head, InvalidMessage):
            found.append(str(head))
        elif head.lane is not topic.lane:
            found.append(
                f"a batch of lane {head.lane.name.lower()} on the topic of lane {topic.lane and topic.lane.name.lower()}"
            )
        else:
            found.append(head)
    return found


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


def _tenant_of(topic: str) -> TenantId:
    """The tenant whose admins see a quarantined message; a topic outside the tree is shown to the default one's."""
    parts = topic.split("/")
    try:
        return ids.tenant_id(parts[2]) if len(parts) > 2 else DEFAULT_TENANT
    except ContractError:
        return DEFAULT_TENANT
