"""Streams over the wire."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from cloud_hub.core.config import DriftConfig
from cloud_hub.core.model import StreamWindow
from cloud_hub.services.folding import Fold
from cloud_hub.store import stream_windows
from edge_agent.core.clock import SystemClock
from protos.contract.ids import DeviceId
from protos.contract.telemetry import to_ms
from protos.v1 import streams_pb2 as pb
from protos.v1 import streams_pb2_grpc
from tests.hub.rpc.running import ADMIN, RunningHub
from tests.hub.rpc.test_telemetry import land

START = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = """
streams:
  {name}:
    window: {{kind: tumbling, size_s: 10}}
    aggregates: {{mean: mean(confidence), bins: "histogram(confidence, 0, 1, 2)"}}
    condition: mean < 0.6
"""


def close(hub: RunningHub, stream: str, number: int, device: str = "cam-1") -> None:
    """As the fold does."""
    start = START + timedelta(seconds=10 * number)
    window = StreamWindow(
        stream=stream,
        device=DeviceId(device),
        origin="hub",
        key="label=1",
        start=start,
        end=start + timedelta(seconds=10),
        readings=number,
        values={"mean": 0.5},
        counts={"bins": (0, number)},
        holds=True,
    )
    with hub.db.write() as tx:
        stream_windows.add(tx, [(ADMIN.tenant, window)], to_ms(window.end))


@pytest.fixture
def stub(hub: RunningHub) -> Iterator[streams_pb2_grpc.StreamsStub]:
    with hub.channel(hub.user) as channel:
        yield streams_pb2_grpc.StreamsStub(channel)


def test_a_stream_is_put_listed_fetched_and_deleted(stub: streams_pb2_grpc.StreamsStub) -> None:
    [put] = stub.PutStreams(pb.PutStreamsRequest(yaml=SPEC.format(name="kept"))).streams
    assert (put.name, put.across_fleet) == ("kept", False)
    assert put in stub.ListStreams(pb.ListStreamsRequest()).streams
    assert stub.GetStream(pb.GetStreamRequest(name="kept")) == put
    assert stub.PutStreams(pb.PutStreamsRequest(yaml=put.yaml)).streams[0].yaml == put.yaml
    assert stub.DeleteStream(pb.GetStreamRequest(name="kept")).name == "kept"
    with pytest.raises(grpc.RpcError) as refused:
        stub.GetStream(pb.GetStreamRequest(name="kept"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_spec_with_a_mistake_is_an_invalid_argument_that_names_it(stub: streams_pb2_grpc.StreamsStub) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        stub.PutStreams(pb.PutStreamsRequest(yaml=SPEC.format(name="bad").replace("tumbling", "tumbeling")))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "stream 'bad'" in refused.value.details() and "did you mean 'tumbling'" in refused.value.details()


def test_readings_become_windows(hub: RunningHub, stub: streams_pb2_grpc.StreamsStub) -> None:
    stub.PutStreams(pb.PutStreamsRequest(yaml=SPEC.format(name="tens")))
    land(hub, "cam-tens", 50)
    Fold(hub.db, DriftConfig(), SystemClock()).tick()
    windows = stub.ListWindows(pb.ListStreamWindowsRequest(stream="tens", device_id="cam-tens")).windows
    assert [window.start_ms for window in reversed(windows)] == [to_ms(START) + 10_000 * number for number in range(4)]
    oldest = windows[-1]
    assert (oldest.readings, oldest.origin, oldest.complete) == (10, "hub", True)
    assert dict(oldest.values) == {"mean": 0.5}
    assert [(one.name, list(one.counts)) for one in oldest.histograms] == [("bins", [0, 10])]
    assert oldest.condition == pb.WINDOW_CONDITION_HOLDS


def test_windows_come_in_pages_newest_first_within_the_asked_range(hub: RunningHub, stub: streams_pb2_grpc.StreamsStub) -> None:
    for number in range(6):
        close(hub, "paged", number)
    request = pb.ListStreamWindowsRequest(stream="paged", page_size=4)
    reply = stub.ListWindows(request)
    assert [window.readings for window in reply.windows] == [5, 4, 3, 2]
    request.page_token = reply.next_page_token
    assert [window.readings for window in stub.ListWindows(request).windows] == [1, 0]
    since, until = START + timedelta(seconds=20), START + timedelta(seconds=40)
    ranged = pb.ListStreamWindowsRequest(stream="paged", since_ms=to_ms(since), until_ms=to_ms(until))
    assert [window.readings for window in stub.ListWindows(ranged).windows] == [3, 2]


def test_who_watches_gets_what_closes_from_then_on_and_goes_on_where_it_stopped(
    hub: RunningHub, stub: streams_pb2_grpc.StreamsStub
) -> None:
    close(hub, "watched", 0)
    replies = stub.WatchWindows(pb.WatchStreamWindowsRequest(stream="watched"))
    begun = next(replies)
    assert list(begun.windows) == []
    threading.Thread(target=lambda: [close(hub, name, 1) for name in ("other", "watched")]).start()
    told = next(replies)
    assert [(window.stream, window.readings) for window in told.windows] == [("watched", 1)]
    replies.cancel()
    close(hub, "watched", 2)
    again = stub.WatchWindows(pb.WatchStreamWindowsRequest(stream="watched", after_number=told.number))
    assert next(again).number == told.number
    assert [window.readings for window in next(again).windows] == [2]
    again.cancel()


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (pb.ListStreamWindowsRequest(device_id="NO"), "device id must be"),
        (pb.ListStreamWindowsRequest(since_ms=-1), "time must be within 1970..9999"),
        (pb.ListStreamWindowsRequest(page_token="x"), "page token"),
    ],
)
def test_a_query_that_cannot_be_meant_is_an_invalid_argument(
    stub: streams_pb2_grpc.StreamsStub, request_: pb.ListStreamWindowsRequest, told: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        stub.ListWindows(request_)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert told in refused.value.details()
