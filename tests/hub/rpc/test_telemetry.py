"""Telemetry over the wire."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from cloud_hub.core.model import StoredReading
from cloud_hub.rpc import telemetry
from cloud_hub.services import snapshots
from protos.contract import codec, topics
from protos.contract.ids import DeviceId, Digest, ModelName
from protos.contract.telemetry import Batch, Event, Inference, InferenceTable, Lane, to_ms
from protos.v1 import telemetry_service_pb2 as pb
from protos.v1 import telemetry_service_pb2_grpc
from tests.hub.mqtt_parts import wait_for
from tests.hub.rpc.running import ADMIN, RunningHub

START = datetime(2026, 1, 1, tzinfo=UTC)


def made(device: str, first: int, count: int, model: Digest) -> Batch:
    """One reading a second from START, and one event behind them."""
    readings = [
        Inference(
            sequence=number,
            captured_at=START + timedelta(seconds=number),
            model=model,
            label=number % 2,
            confidence=0.5,
            latency_ms=1.5,
        )
        for number in range(first, first + count)
    ]
    return Batch(
        epoch=device.replace("-", ""),
        lane=Lane.NORMAL,
        first_sequence=first,
        last_sequence=first + count,
        inferences=InferenceTable.of(readings),
        events=(Event(sequence=first + count, at=START, kind="agent.started", detail="hello"),),
    )


def land(hub: RunningHub, device: str, count: int, first: int = 0) -> None:
    name = f"model-{device}"
    published = {model.name for model in hub.services.registry.models(ADMIN)}
    version = hub.services.registry.get(ADMIN, ModelName(name), 1) if name in published else hub.publish(name)
    batch = made(device, first, count, version.variants[0].manifest_digest)
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


def test_filters_and_sums_travel(hub: RunningHub, stub: telemetry_service_pb2_grpc.TelemetryStub) -> None:
    hub.device("cam-sums")
    land(hub, "cam-sums", 7200)
    wanted = {"device_id": "cam-sums", "selector": {"id": "cam-sums"}, "model": "model-cam-sums:1"}
    pages = stub.QueryReadings(pb.QueryReadingsRequest(**wanted, uncertain=False))
    assert sum(len(page.readings) for page in pages) == 7200
    assert not list(stub.QueryReadings(pb.QueryReadingsRequest(**wanted, uncertain=True)))
    request = pb.AggregateRequest(**wanted, window_ms=3_600_000, by=["label", "device"], fields=["confidence"])
    rows = [row for page in stub.Aggregate(request) for row in page.rows]
    assert [(row.label, row.device_id, row.readings, row.model) for row in rows] == [
        (label, "cam-sums", 1800, "") for label in ("cat", "dog")
    ] * 2
    assert [row.end_ms - row.start_ms for row in rows] == [3_600_000] * 4
    [field] = rows[0].fields
    assert (field.name, field.mean, field.p95, field.approximate) == ("confidence", 0.5, 0.5, False)


def test_a_tail_tells_what_is_stored_from_its_first_reply_on(
    hub: RunningHub, stub: telemetry_service_pb2_grpc.TelemetryStub
) -> None:
    hub.device("cam-tail")
    land(hub, "cam-tail", 3)
    pages = stub.TailReadings(pb.TailReadingsRequest(device_id="cam-tail", last=2), timeout=30)
    assert not next(pages).readings
    assert [reading.sequence for reading in next(pages).readings] == [1, 2]
    hub.device("cam-other")
    land(hub, "cam-other", 3)
    land(hub, "cam-tail", 3, first=4)
    assert [(reading.device_id, reading.sequence) for reading in next(pages).readings] == [
        ("cam-tail", sequence) for sequence in (4, 5, 6)
    ]
    pages.cancel()
    wait_for(lambda: all(tail.closed for tail in hub.services.readings._tails._tails), "the end of the tail")


def test_tails_that_hear_nothing_hold_no_thread(hub: RunningHub, stub: telemetry_service_pb2_grpc.TelemetryStub) -> None:
    tails = [stub.TailReadings(pb.TailReadingsRequest(device_id="cam-none")) for _ in range(hub.config.grpc.threads + 4)]
    for tail in tails:
        next(tail)
    assert stub.GetStats(pb.GetStatsRequest(device_id="cam-none"), timeout=10) is not None
    for tail in tails:
        tail.cancel()


def test_a_cancelled_query_makes_place_for_the_next_one(
    hub: RunningHub, stub: telemetry_service_pb2_grpc.TelemetryStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.device("cam-many")
    land(hub, "cam-many", 10)
    request = pb.QueryReadingsRequest(device_id="cam-many")
    places = hub.config.telemetry.query_concurrent
    running = threading.Semaphore(0)
    landed = snapshots.store.landed

    def endless(*args: object) -> Iterator[object]:
        [one] = list(landed(*args))  # type: ignore[arg-type]
        running.release()
        while True:
            yield one

    monkeypatch.setattr(snapshots.store, "landed", endless)
    calls = [stub.QueryReadings(request) for _ in range(places)]
    for _ in calls:
        assert running.acquire(timeout=20)
    with pytest.raises(grpc.RpcError) as refused:
        list(stub.QueryReadings(request))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "try again" in refused.value.details()
    for call in calls:
        call.cancel()
    monkeypatch.undo()

    def served() -> bool:
        try:
            return sum(len(page.readings) for page in stub.QueryReadings(request)) == 10
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            return False

    wait_for(served, "a place")


def test_a_reader_that_does_not_read_is_waited_for_and_its_hub_makes_no_more(
    hub: RunningHub, stub: telemetry_service_pb2_grpc.TelemetryStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.device("cam-slow")
    for part in range(20):
        land(hub, "cam-slow", 9_999, first=part * 10_000)
    made: list[int] = []
    convert = telemetry.readings_to_pb

    def counted(found: list[StoredReading]) -> pb.Readings:
        made.append(len(found))
        return convert(found)

    monkeypatch.setattr(telemetry, "readings_to_pb", counted)
    pages = stub.QueryReadings(pb.QueryReadingsRequest(device_id="cam-slow", limit=200_000))
    first = len(next(pages).readings)
    before = -1
    while before != len(made):  # until the hub stops for want of a reader
        before = len(made)
        threading.Event().wait(0.3)
    assert sum(made) < 100_000
    assert first + sum(len(page.readings) for page in pages) == 20 * 9_999


def test_a_quarantined_message_is_shown_and_replayed(hub: RunningHub, stub: telemetry_service_pb2_grpc.TelemetryStub) -> None:
    hub.device("cam-back")
    batch = made("cam-back", 0, 3, hub.publish("model-back").variants[0].manifest_digest)
    with hub.db.write() as tx:
        topic = topics.telemetry(ADMIN.tenant, DeviceId("cam-back"), Lane.NORMAL)
        hub.services.telemetry.quarantine(tx, topic, codec.encode_batch(batch), "a bug, since mended")
        hub.services.telemetry.quarantine(tx, topic, b"nonsense", "bad")
    good, bad = sorted(
        (one for one in stub.ListQuarantine(pb.ListQuarantineRequest()).messages if one.topic == topic),
        key=lambda one: one.reason,
    )
    assert stub.GetQuarantined(pb.GetQuarantinedRequest(id=good.id)).payload == codec.encode_batch(batch)
    reply = stub.ReplayQuarantined(pb.ReplayQuarantinedRequest(ids=[good.id, bad.id]))
    assert reply.replayed == 1 and [one.id for one in reply.refused] == [bad.id]
    assert sum(len(page.readings) for page in stub.QueryReadings(pb.QueryReadingsRequest(device_id="cam-back"))) == 3
    with pytest.raises(grpc.RpcError) as gone:
        stub.GetQuarantined(pb.GetQuarantinedRequest(id=good.id))
    assert gone.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (pb.QueryReadingsRequest(device_id="NO"), "device id must be"),
        (pb.QueryReadingsRequest(since_ms=-1), "time must be within 1970..9999"),
        (pb.QueryReadingsRequest(selector={"A": "b"}), "label key must be"),
        (pb.QueryReadingsRequest(model="No Such"), "model name must be"),
    ],
)
def test_a_query_that_cannot_be_meant_is_an_invalid_argument(
    stub: telemetry_service_pb2_grpc.TelemetryStub, request_: pb.QueryReadingsRequest, told: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        list(stub.QueryReadings(request_))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert told in refused.value.details()
