"""Telemetry: what devices said."""

from collections.abc import AsyncGenerator
from datetime import datetime

from cloud_hub.core.model import DeviceEvent, DeviceStats, Quarantined, StoredReading
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.requests import device_from_pb, rows_from_pb
from cloud_hub.rpc.threads import Threads
from cloud_hub.rpc.times import opt_to_ms
from cloud_hub.services.telemetry import DEFAULT_ROWS as DEFAULT_READINGS
from cloud_hub.services.telemetry import MAX_ROWS as MAX_READINGS
from cloud_hub.services.telemetry import TelemetryService
from edge_agent.core.clock import Clock
from protos.contract.telemetry import from_ms, to_ms
from protos.v1 import telemetry_service_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Telemetry"]


class TelemetryServicer:
    def __init__(self, telemetry: TelemetryService, clock: Clock, threads: Threads) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self._threads = threads

    def QueryReadings(self, request: pb.QueryReadingsRequest, call: Call) -> AsyncGenerator[pb.Readings, None]:
        device, since, until = device_from_pb(request.device_id), from_ms(request.since_ms), self._until(request.until_ms)
        limit = min(request.limit or DEFAULT_READINGS, MAX_READINGS)
        return self._threads.each(lambda: map(readings_to_pb, self._telemetry.query(call.who, device, since, until, limit)))

    async def GetStats(self, request: pb.GetStatsRequest, call: Call) -> pb.TelemetryStats:
        stats = await self._threads.call(self._telemetry.stats, call.who, device_from_pb(request.device_id))
        return pb.TelemetryStats(devices=map(stats_to_pb, stats.devices), quarantined=stats.quarantined)

    async def ListQuarantine(self, request: pb.ListQuarantineRequest, call: Call) -> pb.ListQuarantineReply:
        messages = await self._threads.call(self._telemetry.quarantined, call.who, rows_from_pb(request.limit))
        return pb.ListQuarantineReply(messages=map(quarantined_to_pb, messages))

    async def ListEvents(self, request: pb.ListEventsRequest, call: Call) -> pb.ListEventsReply:
        args = (device_from_pb(request.device_id), rows_from_pb(request.limit))
        return pb.ListEventsReply(events=map(event_to_pb, await self._threads.call(self._telemetry.events, call.who, *args)))

    def _until(self, ms: int) -> datetime:
        return from_ms(ms) if ms else self._clock.now()


def readings_to_pb(readings: list[StoredReading]) -> pb.Readings:
    return pb.Readings(readings=map(reading_to_pb, readings))


def reading_to_pb(reading: StoredReading) -> pb.Reading:
    return pb.Reading(
        device_id=reading.device,
        captured_at_ms=to_ms(reading.captured_at),
        lane=reading.lane,
        epoch=reading.epoch,
        sequence=reading.sequence,
        label=reading.label,
        label_name=reading.label_name,
        confidence=reading.confidence,
        latency_ms=reading.latency_ms,
        captured=reading.captured,
        uncertain=reading.uncertain,
        frame_key=reading.frame_key,
        model_manifest=reading.model,
    )


def stats_to_pb(stats: DeviceStats) -> pb.TelemetryStats.DeviceStats:
    return pb.TelemetryStats.DeviceStats(
        device_id=stats.device,
        batches=stats.batches,
        records=stats.records,
        duplicate_batches=stats.duplicate_batches,
        gap_records=stats.gap_records,
        payload_bytes=stats.payload_bytes,
        last_captured_at_ms=opt_to_ms(stats.last_captured_at),
    )


def quarantined_to_pb(message: Quarantined) -> pb.QuarantinedMessage:
    return pb.QuarantinedMessage(
        id=message.id,
        topic=message.topic,
        reason=message.reason,
        payload=message.payload,
        count=message.count,
        first_at_ms=to_ms(message.first_at),
        last_at_ms=to_ms(message.last_at),
    )


def event_to_pb(event: DeviceEvent) -> pb.DeviceEvent:
    return pb.DeviceEvent(device_id=event.device, at_ms=to_ms(event.at), kind=event.kind, detail=event.detail)
