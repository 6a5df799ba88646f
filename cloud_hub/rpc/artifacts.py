"""Artifacts: blobs, resumable."""

from collections.abc import AsyncGenerator, Iterator

from cloud_hub.core.errors import NotFound
from cloud_hub.core.model import Principal
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.threads import Threads
from cloud_hub.services.registry import RegistryService
from cloud_hub.store.artifacts import ArtifactStore
from protos.contract import ids
from protos.v1 import artifacts_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Artifacts"]
CHUNK_BYTES = 64 << 10  # a device gives up after half a minute without one: that must be enough for 2 kB/s


class ArtifactsServicer:
    def __init__(self, registry: RegistryService, artifacts: ArtifactStore, threads: Threads) -> None:
        self._registry = registry
        self._artifacts = artifacts
        self._threads = threads

    def Download(self, request: pb.DownloadRequest, call: Call) -> AsyncGenerator[pb.Chunk, None]:
        return self._threads.each(lambda: self._chunks(call.who, request))

    def _chunks(self, who: Principal, request: pb.DownloadRequest) -> Iterator[pb.Chunk]:
        digest = ids.digest(request.digest)
        if not self._registry.readable_by(who, digest):
            raise NotFound(f"no artifact {digest} that {who.name} may read")  # the same for both, so that nothing can be probed
        total = self._artifacts.size(digest)
        for data in self._artifacts.chunks(digest, request.offset, CHUNK_BYTES):
            yield pb.Chunk(data=data, total_bytes=total)
