"""Telemetry over the wire."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from protos.contract import codec
from protos.contract.ids import DeviceId
from protos.contract.telemetry import Batch, Event, Inference, InferenceTable, Lane, to_ms
from protos.v1 import telemetry_service_pb2 as pb
from protos.v1 import telemetry_service_pb2_grpc
from tests.hub.rpc.running import ADMIN, RunningHub

START = datetime(2026, 1, 1, tzinfo=UTC)


def land(hub: RunningHub, device: str, count: int) -> None:
    """One reading a second from START, and one event behind them."""
    version = hub.publish(f"model-{device}")
    readings = [
        Inference(
            sequence=number,
            captured_at=START + timedelta(seconds=number),
            model=version.variants[0].manifest_digest,
            label=number % 2,
            confidence=0.5,
            latency_ms=1.5,
        )
        for number in range(count)
    ]
    batch = Batch(
        epoch=device.replace("-", ""),
        lane=Lane.NORMAL,
        first_sequence=0,
        last_sequence=count,
        inferences=InferenceTable.of(readings),
        events=(Event(sequence=count, at=START, kind="agent.started", detail="hello"),),
    )
    with hub.db.write() as tx:
        payload = codec.encode_batch(batch)
        hub.services.telemetry.land(tx, ADMIN.tenant, DeviceId(device), batch, payload, datetime.now(UTC))


@pytest.fixture
def stub(hub: RunningHub) -> Iterator[telemetry_service_pb2_grpc.TelemetryStub]:
    with hub.channel(hub.user) as channel:
        yield telemetry_service_pb2_grpc.TelemetryStub(channel)


def test_readings_come_in_the_order_of_their_time_within_the_asked_range(
    hub: RunningHub, stub: telemetry_service_pb2_grpc.TelemetryStub
) -> None:
    hub.device("cam-told")
    land(hub, "cam-told", 50)
    since, until = START + timedelta(seconds=10), START + timedelta(seconds=20)
    request = pb.QueryReadingsRequest(device_id="cam-told", since_ms=to_ms(since), until_ms=to_ms(until))
    readings = [reading for page in stub.QueryReadings(request) for reading in page.readings]
    assert [reading.sequence for reading in readings] == list(range(10, 20))
    assert {reading.label_name for reading in readings} == {"cat", "dog"}
    limited = stub.QueryReadings(pb.QueryReadingsRequest(device_id="cam-told", limit=3))
    assert sum(len(page.readings) for page in limited) == 3


def test_stats_and_events_are_told(hub: RunningHub, stub: telemetry_service_pb2_grpc.TelemetryStub) -> None:
    hub.device("cam-stats")
    land(hub, "cam-stats", 5)
    (stats,) = stub.GetStats(pb.GetStatsRequest(device_id="cam-stats")).devices
    assert (stats.batches, stats.records) == (1, 6)
    (event,) = stub.ListEvents(pb.ListEventsRequest(device_id="cam-stats")).events
    assert (event.kind, event.detail) == ("agent.started", "hello")


def test_quarantine_is_told(hub: RunningHub, stub: telemetry_service_pb2_grpc.TelemetryStub) -> None:
    with hub.db.write() as tx:
        hub.services.telemetry.quarantine(tx, "tl/v1/default/cam/up/status", b"\xff", "not a status")
    (message,) = stub.ListQuarantine(pb.ListQuarantineRequest()).messages
    assert (message.reason, message.payload, message.count) == ("not a status", b"\xff", 1)


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (pb.QueryReadingsRequest(device_id="NO"), "device id must be"),
        (pb.QueryReadingsRequest(since_ms=-1), "time must be within 1970..9999"),
    ],
)
def test_a_query_that_cannot_be_meant_is_an_invalid_argument(
    stub: telemetry_service_pb2_grpc.TelemetryStub, request_: pb.QueryReadingsRequest, told: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        list(stub.QueryReadings(request_))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert told in refused.value.details()
