"""Telemetry: what devices said."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime

from cloud_hub.core.model import DeviceEvent, DeviceStats, Quarantined, StoredReading
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.requests import device_from_pb, rows_from_pb
from cloud_hub.rpc.threads import Threads
from cloud_hub.rpc.times import opt_to_ms
from cloud_hub.services import aggregates, readings
from cloud_hub.services.aggregates import Aggregate, FieldSummary, Grouping
from cloud_hub.services.readings import ReadingFilter, ReadingsService
from cloud_hub.services.tails import Tail
from cloud_hub.services.telemetry import Replayed, TelemetryService
from edge_agent.core.clock import Clock
from protos.contract.telemetry import from_ms, to_ms
from protos.v1 import telemetry_service_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Telemetry"]


class TelemetryServicer:
    def __init__(self, telemetry: TelemetryService, stored: ReadingsService, clock: Clock, threads: Threads) -> None:
        self._telemetry = telemetry
        self._readings = stored
        self._clock = clock
        self._threads = threads

    def QueryReadings(self, request: pb.QueryReadingsRequest, call: Call) -> AsyncGenerator[pb.Readings, None]:
        wanted = ReadingFilter(
            since=from_ms(request.since_ms),
            until=self._until(request.until_ms),
            device=device_from_pb(request.device_id),
            selector=dict(request.selector),
            model=request.model,
            uncertain=request.uncertain if request.HasField("uncertain") else None,
            captured=request.captured if request.HasField("captured") else None,
        )
        limit = min(request.limit or readings.DEFAULT_ROWS, readings.MAX_ROWS)
        return self._threads.each_as(readings_to_pb, lambda: self._readings.query(call.who, wanted, limit))

    async def TailReadings(self, request: pb.TailReadingsRequest, call: Call) -> AsyncGenerator[pb.Readings, None]:
        loop, more = asyncio.get_running_loop(), asyncio.Event()
        args = (device_from_pb(request.device_id), dict(request.selector), request.last)
        opening = asyncio.ensure_future(self._threads.call(self._readings.tail, call.who, lambda: _wake(loop, more), *args))
        try:
            tail = await asyncio.shield(opening)
            yield pb.Readings()  # says that the tail has begun
            while True:
                more.clear()
                while page := await self._threads.call(_next_page, tail):
                    yield page
                await more.wait()
        finally:
            opening.add_done_callback(_close)  # the caller may leave before it is open

    def Aggregate(self, request: pb.AggregateRequest, call: Call) -> AsyncGenerator[pb.Aggregates, None]:
        wanted = ReadingFilter(
            since=from_ms(request.since_ms),
            until=self._until(request.until_ms),
            device=device_from_pb(request.device_id),
            selector=dict(request.selector),
            model=request.model,
        )
        fields = tuple(dict.fromkeys(request.fields)) or aggregates.FIELDS
        grouping = Grouping(window_ms=request.window_ms, fields=fields, by=tuple(dict.fromkeys(request.by)))
        limit = min(request.limit or aggregates.DEFAULT_ROWS, aggregates.MAX_ROWS)
        return self._threads.each_as(aggregates_to_pb, lambda: self._readings.aggregate(call.who, wanted, grouping, limit))

    async def GetStats(self, request: pb.GetStatsRequest, call: Call) -> pb.TelemetryStats:
        stats = await self._threads.call(self._telemetry.stats, call.who, device_from_pb(request.device_id))
        return pb.TelemetryStats(devices=map(stats_to_pb, stats.devices), quarantined=stats.quarantined)

    async def ListQuarantine(self, request: pb.ListQuarantineRequest, call: Call) -> pb.ListQuarantineReply:
        messages = await self._threads.call(self._telemetry.quarantined, call.who, rows_from_pb(request.limit))
        return pb.ListQuarantineReply(messages=map(quarantined_to_pb, messages))

    async def GetQuarantined(self, request: pb.GetQuarantinedRequest, call: Call) -> pb.QuarantinedMessage:
        return quarantined_to_pb(await self._threads.call(self._telemetry.quarantined_message, call.who, request.id))

    async def ReplayQuarantined(self, request: pb.ReplayQuarantinedRequest, call: Call) -> pb.ReplayQuarantinedReply:
        return replayed_to_pb(await self._threads.call(self._telemetry.replay, call.who, list(request.ids)))

    async def ListEvents(self, request: pb.ListEventsRequest, call: Call) -> pb.ListEventsReply:
        args = (device_from_pb(request.device_id), rows_from_pb(request.limit))
        return pb.ListEventsReply(events=map(event_to_pb, await self._threads.call(self._telemetry.events, call.who, *args)))

    def _until(self, ms: int) -> datetime:
        return from_ms(ms) if ms else self._clock.now()


def readings_to_pb(found: list[StoredReading]) -> pb.Readings:
    return pb.Readings(readings=map(reading_to_pb, found))


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
        value=reading.value,
    )


def aggregates_to_pb(rows: list[Aggregate]) -> pb.Aggregates:
    return pb.Aggregates(rows=map(aggregate_to_pb, rows))


def aggregate_to_pb(row: Aggregate) -> pb.Aggregates.Aggregate:
    return pb.Aggregates.Aggregate(
        start_ms=to_ms(row.start),
        end_ms=to_ms(row.end),
        device_id=row.device,
        model=row.model,
        label=row.label,
        readings=row.readings,
        uncertain=row.uncertain,
        captured=row.captured,
        fields=map(field_to_pb, row.fields),
    )


def field_to_pb(field: FieldSummary) -> pb.Aggregates.Field:
    return pb.Aggregates.Field(
        name=field.name,
        mean=field.mean,
        min=field.min,
        max=field.max,
        p50=field.p50,
        p95=field.p95,
        approximate=field.approximate,
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


def replayed_to_pb(replayed: Replayed) -> pb.ReplayQuarantinedReply:
    refused = [pb.ReplayQuarantinedReply.Refused(id=id, reason=reason) for id, reason in replayed.refused]
    return pb.ReplayQuarantinedReply(replayed=replayed.replayed, refused=refused)


def event_to_pb(event: DeviceEvent) -> pb.DeviceEvent:
    return pb.DeviceEvent(device_id=event.device, at_ms=to_ms(event.at), kind=event.kind, detail=event.detail)


def _next_page(tail: Tail) -> pb.Readings | None:
    page = tail.take()
    return readings_to_pb(page) if page else None


def _close(opened: asyncio.Future[Tail]) -> None:
    if not opened.cancelled() and opened.exception() is None:
        opened.result().close()


def _wake(loop: asyncio.AbstractEventLoop, more: asyncio.Event) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(more.set)
