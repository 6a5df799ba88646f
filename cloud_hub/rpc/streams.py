"""Streams: specifications, and windows as they close."""

from asyncio import sleep
from collections.abc import AsyncGenerator

from cloud_hub.core.model import StreamWindow, WindowFilter
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.requests import device_from_pb, page_from_pb
from cloud_hub.rpc.threads import Threads
from cloud_hub.rpc.times import opt_from_ms
from cloud_hub.services.streams import Stream, StreamService
from protos.contract.telemetry import to_ms
from protos.v1 import streams_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Streams"]
_POLL_S = 0.3


class StreamsServicer:
    def __init__(self, streams: StreamService, threads: Threads) -> None:
        self._streams = streams
        self._threads = threads

    async def PutStreams(self, request: pb.PutStreamsRequest, call: Call) -> pb.PutStreamsReply:
        streams = await self._threads.call(self._streams.put, call.who, request.yaml)
        return pb.PutStreamsReply(streams=map(stream_to_pb, streams))

    async def ListStreams(self, request: pb.ListStreamsRequest, call: Call) -> pb.ListStreamsReply:
        return pb.ListStreamsReply(streams=map(stream_to_pb, await self._threads.call(self._streams.list, call.who)))

    async def GetStream(self, request: pb.GetStreamRequest, call: Call) -> pb.Stream:
        return stream_to_pb(await self._threads.call(self._streams.get, call.who, request.name))

    async def DeleteStream(self, request: pb.GetStreamRequest, call: Call) -> pb.Stream:
        return stream_to_pb(await self._threads.call(self._streams.delete, call.who, request.name))

    async def ListWindows(self, request: pb.ListStreamWindowsRequest, call: Call) -> pb.ListStreamWindowsReply:
        wanted = WindowFilter(
            stream=request.stream,
            device=device_from_pb(request.device_id),
            since=opt_from_ms(request.since_ms),
            until=opt_from_ms(request.until_ms),
        )
        page = page_from_pb(request.page_size, request.page_token)
        windows, following = await self._threads.call(self._streams.windows, call.who, wanted, page)
        return pb.ListStreamWindowsReply(windows=[window_to_pb(*one) for one in windows], next_page_token=following)

    async def WatchWindows(
        self, request: pb.WatchStreamWindowsRequest, call: Call
    ) -> AsyncGenerator[pb.WatchStreamWindowsReply, None]:
        wanted = WindowFilter(stream=request.stream, device=device_from_pb(request.device_id))
        number = request.after_number or await self._threads.call(self._streams.last_number)
        yield pb.WatchStreamWindowsReply(number=number)
        while True:
            windows = await self._threads.call(self._streams.closed_after, call.who, wanted, number)
            if not windows:
                await sleep(_POLL_S)
                continue
            number = windows[-1][0]
            yield pb.WatchStreamWindowsReply(windows=[window_to_pb(*one) for one in windows], number=number)


def stream_to_pb(stream: Stream) -> pb.Stream:
    return pb.Stream(
        name=stream.name, yaml=stream.yaml, updated_at_ms=to_ms(stream.updated_at), across_fleet=stream.across_fleet
    )


def window_to_pb(number: int, window: StreamWindow) -> pb.StreamWindow:
    return pb.StreamWindow(
        number=number,
        stream=window.stream,
        device_id=window.device or "",
        origin=window.origin,
        key=window.key,
        start_ms=to_ms(window.start),
        end_ms=to_ms(window.end),
        readings=window.readings,
        values=window.values,
        histograms=[pb.WindowHistogram(name=name, counts=counts) for name, counts in sorted(window.counts.items())],
        condition=_CONDITIONS[window.holds],
        complete=window.complete,
    )


_CONDITIONS = {
    None: pb.WINDOW_CONDITION_UNSPECIFIED,
    True: pb.WINDOW_CONDITION_HOLDS,
    False: pb.WINDOW_CONDITION_FAILS,
}
