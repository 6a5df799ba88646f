"""Artifacts: where blobs are to be had, and their bytes, resumable."""

import time
from collections.abc import AsyncGenerator, Callable, Iterator

from cloud_hub.core.model import Principal
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.threads import Threads
from cloud_hub.services.sources import SourceService
from protos.contract import ids
from protos.contract.sources import MAX_BASES, BlobSource
from protos.v1 import artifacts_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Artifacts"]
MIN_CHUNK_BYTES = 64 << 10  # a device gives up after half a minute without one: that must be enough for 2 kB/s
MAX_CHUNK_BYTES = 1 << 20  # what a device takes
_CHUNK_S = 0.25  # of the link that one chunk may take, for it to be the larger


class ArtifactsServicer:
    def __init__(self, sources: SourceService, threads: Threads) -> None:
        self._sources = sources
        self._threads = threads

    async def Locate(self, request: pb.LocateRequest, call: Call) -> pb.LocateReply:
        have = [ids.digest(digest) for digest in request.have[:MAX_BASES]]
        digest = ids.digest(request.digest)
        found = await self._threads.call(self._sources.locate, call.who, digest, have, request.max_decode_bytes)
        return pb.LocateReply(sources=[_to_pb(source) for source in found])

    def Download(self, request: pb.DownloadRequest, call: Call) -> AsyncGenerator[pb.Chunk, None]:
        return self._threads.each(lambda: self._chunks(call.who, request))

    def _chunks(self, who: Principal, request: pb.DownloadRequest) -> Iterator[pb.Chunk]:
        gauge = Gauge()
        total, chunks = self._sources.read(who, ids.digest(request.digest), request.offset, gauge.size)
        for data in chunks:
            yield pb.Chunk(data=data, total_bytes=total)
            gauge.taken(len(data))


class Gauge:
    """How large the next chunk of one stream may be: as much as its link takes in a quarter of a second.

    A chunk is asked for when the one before has gone out, so a link that is slow, or a device that reads slowly, is seen by the
    time in between. A chunk at most doubles, so what buffers swallow at first misleads for a few chunks only.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._size = MIN_CHUNK_BYTES
        self._since = clock()

    def size(self) -> int:
        self._since = self._clock()
        return self._size

    def taken(self, count: int) -> None:
        """The last chunk, of ``count`` bytes, has gone out."""
        rate = count / max(self._clock() - self._since, 1e-6)  # bytes/s
        fits = int(rate * _CHUNK_S) & -MIN_CHUNK_BYTES
        self._size = max(MIN_CHUNK_BYTES, min(fits, 2 * self._size, MAX_CHUNK_BYTES))


def _to_pb(source: BlobSource) -> pb.Source:
    return pb.Source(
        encoding=int(source.encoding),  # type: ignore[arg-type]  # an enum
        digest=source.blob.digest,
        size_bytes=source.blob.size_bytes,
        base_digest=source.base or "",
        decode_bytes=source.decode_bytes,
        url=source.url,
    )
