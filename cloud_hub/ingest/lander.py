"""One transaction for a group of messages: what is good takes effect, what is not goes to quarantine with its reason."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from sqlalchemy.exc import DataError, IntegrityError

from cloud_hub.core.errors import Conflict, Invalid, NotFound, NotReady
from cloud_hub.ingest.link import Incoming
from cloud_hub.services.fleet import FleetService
from cloud_hub.services.rollouts import RolloutService
from cloud_hub.services.telemetry import Incoming as Telemetry
from cloud_hub.services.telemetry import TelemetryService
from cloud_hub.store.database import Database, Tx
from cloud_hub.store.streams import StreamKey
from edge_agent.core.clock import Clock
from protos.contract import codec, topics
from protos.contract.errors import ContractError, InvalidMessage, InvalidTopic
from protos.contract.ids import TenantId
from protos.contract.telemetry import BatchHead
from protos.contract.topics import UpTopic
from protos.contract.twin import ReportedTwin, Status

log = logging.getLogger(__name__)

# What is the fault of one twin; the last four are what a value can do to a statement.
_REFUSALS = (NotFound, Conflict, Invalid, NotReady, ContractError, DataError, IntegrityError, UnicodeError, OverflowError)


@dataclass(slots=True, kw_only=True)
class Landed:
    """What one transaction did, or several."""

    batches: int = 0  # new ones
    records: int = 0  # in them
    duplicates: int = 0
    quarantined: int = 0
    twins: int = 0  # status and reported
    streams: dict[StreamKey, TenantId] = field(default_factory=dict)  # whose marks their devices wait for

    def add(self, other: "Landed") -> None:
        self.batches += other.batches
        self.records += other.records
        self.duplicates += other.duplicates
        self.quarantined += other.quarantined
        self.twins += other.twins
        self.streams |= other.streams


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sorted:
    """A group of messages, decoded."""

    telemetry: list[tuple[Incoming, UpTopic, BatchHead]]
    twins: list[tuple[Incoming, UpTopic, Status | ReportedTwin]]
    refused: list[tuple[Incoming, str]]


class Lander:
    def __init__(
        self, db: Database, *, fleet: FleetService, rollouts: RolloutService, telemetry: TelemetryService, clock: Clock
    ) -> None:
        self._db = db
        self._fleet = fleet
        self._rollouts = rollouts
        self._telemetry = telemetry
        self._clock = clock

    def land(self, group: Sequence[Incoming]) -> Landed:
        """On return every message of ``group`` is stored, has had its effect or is in quarantine, durably.

        Raises what the database raises for reasons that are no message's fault (busy, disk full): then nothing of the group
        counts, and it can be landed again.
        """
        work = _sort(group)
        landed = Landed()
        with self._db.write() as tx:
            self._land_telemetry(tx, work, landed)
            for message, topic, twin in work.twins:
                self._land_twin(tx, message, topic, twin, work, landed)
            for message, reason in work.refused:
                self._telemetry.quarantine(tx, message.topic, message.payload, reason)
        landed.quarantined = len(work.refused)
        return landed

    def refuse(self, message: Incoming, reason: str) -> None:
        """Put it in quarantine, durably."""
        with self._db.write() as tx:
            self._telemetry.quarantine(tx, message.topic, message.payload, reason)

    def _land_telemetry(self, tx: Tx, work: _Sorted, landed: Landed) -> None:
        owners = self._fleet.tenants(tx, list({topic.device for _, topic, _ in work.telemetry}))
        known, batches = [], []
        received_at = self._clock.now()
        for message, topic, head in work.telemetry:
            if owners.get(topic.device) != topic.tenant:
                work.refused.append((message, f"no device {topic.device} in tenant {topic.tenant}"))
                continue
            known.append((message, topic, head))
            batches.append(Telemetry(topic.tenant, topic.device, head, message.payload, received_at))
        for (message, topic, head), outcome in zip(known, self._telemetry.land_many(tx, batches), strict=True):
            if outcome.refused:
                work.refused.append((message, outcome.refused))
                continue
            landed.streams[StreamKey(topic.device, head.epoch, head.lane)] = topic.tenant
            if outcome.new:
                landed.batches += 1
                landed.records += head.records
            else:
                landed.duplicates += 1

    def _land_twin(
        self, tx: Tx, message: Incoming, topic: UpTopic, twin: Status | ReportedTwin, work: _Sorted, landed: Landed
    ) -> None:
        try:
            with tx.begin_nested():
                if isinstance(twin, Status):
                    self._fleet.on_status(tx, topic.tenant, topic.device, twin)
                else:
                    self._fleet.on_reported(tx, topic.tenant, topic.device, twin)
                    self._rollouts.on_reported(tx, topic.device, twin)
        except _REFUSALS as error:
            work.refused.append((message, str(error)[:1000]))
        else:
            landed.twins += 1


def _sort(group: Sequence[Incoming]) -> _Sorted:
    work = _Sorted(telemetry=[], twins=[], refused=[])
    batches: list[tuple[Incoming, UpTopic]] = []
    for message in group:
        try:
            topic = _parsed(message.topic)
            if not message.payload:
                raise InvalidMessage("empty message")  # protobuf would take it for one of defaults
            decode = _DECODERS.get(topic.kind)
            if decode is None:
                batches.append((message, topic))
            else:
                work.twins.append((message, topic, decode(message.payload)))
        except (InvalidTopic, InvalidMessage) as error:
            work.refused.append((message, str(error)))
    heads = codec.decode_heads([message.payload for message, _ in batches])
    for (message, topic), head in zip(batches, heads, strict=True):
        if isinstance(head, InvalidMessage):
            work.refused.append((message, str(head)))
        elif head.lane is not topic.lane:
            work.refused.append((message, f"a batch of lane {head.lane.name.lower()} on topic {message.topic}"))
        else:
            work.telemetry.append((message, topic, head))
    return work


_DECODERS: dict[str, Callable[[bytes], Status | ReportedTwin]] = {
    topics.STATUS: codec.decode_status,
    topics.REPORTED: codec.decode_reported,
}


@lru_cache(maxsize=65536)
def _parsed(topic: str) -> UpTopic:
    return topics.parse_up(topic)
