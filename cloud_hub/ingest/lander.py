"""One transaction for the telemetry of a group of messages: what is good takes effect, what is not goes to quarantine."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from sqlalchemy.exc import DataError, IntegrityError

from cloud_hub.core.errors import Conflict, Invalid, NotFound, NotReady
from cloud_hub.ingest.link import Incoming
from cloud_hub.services import telemetry as telemetry_service
from cloud_hub.services.fleet import FleetService
from cloud_hub.services.rollouts import RolloutService
from cloud_hub.services.telemetry import Incoming as Telemetry
from cloud_hub.services.telemetry import TelemetryService
from cloud_hub.store.database import Database, Tx
from cloud_hub.store.streams import StreamKey
from edge_agent.core.clock import Clock
from protos.contract import codec, topics
from protos.contract.errors import ContractError, InvalidMessage, InvalidTopic
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import BatchHead
from protos.contract.topics import UpTopic
from protos.contract.twin import ReportedTwin, Status

log = logging.getLogger(__name__)

# What is the fault of one twin; the last four are what a value can do to a statement.
_REFUSALS = (NotFound, Conflict, Invalid, NotReady, ContractError, DataError, IntegrityError, UnicodeError, OverflowError)


@dataclass(slots=True, kw_only=True)
class Landed:
    """What was done, durably."""

    batches: int = 0  # new ones
    records: int = 0  # in them
    duplicates: int = 0
    deferred: int = 0
    quarantined: int = 0
    twins: int = 0  # status and reported
    streams: dict[StreamKey, TenantId] = field(default_factory=dict)  # whose marks their devices wait for

    def add(self, other: "Landed") -> None:
        self.batches += other.batches
        self.records += other.records
        self.duplicates += other.duplicates
        self.deferred += other.deferred
        self.quarantined += other.quarantined
        self.twins += other.twins
        self.streams |= other.streams


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A group of messages, as far as one can get without the database."""

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

    def land(self, work: Decoded) -> Landed:
        """On return every message of ``work`` has had its effect or is in quarantine, durably, or waits at its device.

        Telemetry lands beside other processes that do the same; the rest is rare, and has the database for itself.
        Raises what the database raises for reasons that are no message's fault (busy, disk full): then ``work`` can be landed
        again, whatever of it is there already.
        """
        landed, refused = Landed(), list(work.refused)
        if work.telemetry:
            with self._db.append() as tx:
                self._land_telemetry(tx, work, landed, refused)
        if work.twins or refused:
            with self._db.write() as tx:
                for message, topic, twin in work.twins:
                    self._land_twin(tx, message, topic, twin, landed, refused)
                for message, reason in refused:
                    self._telemetry.quarantine(tx, message.topic, message.payload, reason)
        landed.quarantined = len(refused)
        return landed

    def refuse(self, message: Incoming, reason: str) -> None:
        """Put it in quarantine, durably."""
        with self._db.write() as tx:
            self._telemetry.quarantine(tx, message.topic, message.payload, reason)

    def throttled(self, devices: Iterable[DeviceId], bytes_per_s: int) -> None:
        """Record that these began to send more than that."""
        with self._db.write() as tx:
            for device, tenant in self._fleet.tenants(tx, list(devices)).items():
                self._telemetry.on_throttled(tx, tenant, device, bytes_per_s)

    def _land_telemetry(self, tx: Tx, work: Decoded, landed: Landed, refused: list[tuple[Incoming, str]]) -> None:
        owners = self._fleet.tenants(tx, list({topic.device for _, topic, _ in work.telemetry}))
        known, batches = [], []
        received_at = self._clock.now()
        for message, topic, head in work.telemetry:
            if owners.get(topic.device) != topic.tenant:
                refused.append((message, f"no device {topic.device} in tenant {topic.tenant}"))
                continue
            known.append((message, topic, head))
            batches.append(Telemetry(topic.tenant, topic.device, head, message.payload, received_at))
        for (message, topic, head), outcome in zip(known, self._telemetry.land_many(tx, batches), strict=True):
            # whatever became of it: a device that repeats what is stored, or is no longer alone, must hear how far that is
            landed.streams[StreamKey(topic.device, head.epoch, head.lane)] = topic.tenant
            if outcome.refused:
                refused.append((message, outcome.refused))
            elif outcome.deferred:
                landed.deferred += 1
            elif outcome.new:
                landed.batches += 1
                landed.records += head.records
            else:
                landed.duplicates += 1

    def _land_twin(
        self,
        tx: Tx,
        message: Incoming,
        topic: UpTopic,
        twin: Status | ReportedTwin,
        landed: Landed,
        refused: list[tuple[Incoming, str]],
    ) -> None:
        try:
            with tx.begin_nested():
                if isinstance(twin, Status):
                    self._fleet.on_status(tx, topic.tenant, topic.device, twin)
                else:
                    self._fleet.on_reported(tx, topic.tenant, topic.device, twin)
                    self._rollouts.on_reported(tx, topic.device, twin)
                    self._telemetry.on_held(tx, topic.tenant, topic.device, twin.held)
                    landed.streams |= {StreamKey(topic.device, one.epoch, one.lane): topic.tenant for one in twin.held}
        except _REFUSALS as error:
            refused.append((message, str(error)[:1000]))
        else:
            landed.twins += 1


def decode(group: Sequence[Incoming]) -> Decoded:
    work = Decoded(telemetry=[], twins=[], refused=[])
    batches: list[tuple[Incoming, UpTopic]] = []
    for message in group:
        try:
            topic = parsed(message.topic)
            if not message.payload:
                raise InvalidMessage("empty message")  # protobuf would take it for one of defaults
            decode = _DECODERS.get(topic.kind)
            if decode is None:
                batches.append((message, topic))
            else:
                work.twins.append((message, topic, decode(message.payload)))
        except (InvalidTopic, InvalidMessage) as error:
            work.refused.append((message, str(error)))
    heads = telemetry_service.heads([(topic, message.payload) for message, topic in batches])
    for (message, topic), head in zip(batches, heads, strict=True):
        if isinstance(head, str):
            work.refused.append((message, head))
        else:
            work.telemetry.append((message, topic, head))
    return work


_DECODERS: dict[str, Callable[[bytes], Status | ReportedTwin]] = {
    topics.STATUS: codec.decode_status,
    topics.REPORTED: codec.decode_reported,
}


@lru_cache(maxsize=65536)
def parsed(topic: str) -> UpTopic:
    """Raises InvalidTopic."""
    return topics.parse_up(topic)
