"""Blobs: where they are to be had, resumable, and only for those who need them."""

import grpc
import pytest

from cloud_hub.rpc.artifacts import MAX_CHUNK_BYTES, MIN_CHUNK_BYTES, Gauge
from protos.contract import ids
from protos.v1 import artifacts_pb2 as pb
from protos.v1 import artifacts_pb2_grpc
from tests.hub.rpc.running import RunningHub

BLOB = bytes(range(256)) * 10_000  # 2.5 MiB: three chunks


def download(channel: grpc.Channel, digest: str, offset: int = 0) -> list[pb.Chunk]:
    return list(artifacts_pb2_grpc.ArtifactsStub(channel).Download(pb.DownloadRequest(digest=digest, offset=offset)))


def test_a_download_goes_on_from_where_it_broke(hub: RunningHub) -> None:
    digest = hub.publish("large", artifact=BLOB).variants[0].artifact_digest
    with hub.channel(hub.user) as channel:
        whole, rest = download(channel, digest), download(channel, digest, offset=1_500_000)
        nothing_left = download(channel, digest, offset=len(BLOB))
    assert b"".join(chunk.data for chunk in whole) == BLOB
    assert b"".join(chunk.data for chunk in rest) == BLOB[1_500_000:]
    assert {chunk.total_bytes for chunk in (*whole, *rest)} == {len(BLOB)}
    assert len(whole[0].data) == 64 << 10
    assert max(len(chunk.data) for chunk in whole) <= 1 << 20
    assert nothing_left == []


def test_an_offset_beyond_the_end_is_told_so(hub: RunningHub) -> None:
    digest = hub.publish("small", artifact=b"short").variants[0].artifact_digest
    with hub.channel(hub.user) as channel, pytest.raises(grpc.RpcError) as refused:
        download(channel, digest, offset=6)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "0..5" in refused.value.details()


def test_a_device_reads_what_its_twin_names_and_nothing_else(hub: RunningHub) -> None:
    identity = hub.device("cam-reader")
    mine, other = hub.publish("mine", artifact=b"mine"), hub.publish("other", artifact=b"other")
    with hub.channel(identity) as channel:
        with pytest.raises(grpc.RpcError) as early:
            download(channel, mine.variants[0].manifest_digest)
        hub.assign("cam-reader", mine)
        for digest in (mine.variants[0].manifest_digest, mine.variants[0].artifact_digest, mine.variants[0].golden_digest):
            assert ids.digest_of(b"".join(chunk.data for chunk in download(channel, digest))) == digest
        with pytest.raises(grpc.RpcError) as foreign:
            download(channel, other.variants[0].artifact_digest)
        with pytest.raises(grpc.RpcError) as missing:
            download(channel, "sha256:" + "0" * 64)
    assert early.value.code() is foreign.value.code() is missing.value.code() is grpc.StatusCode.NOT_FOUND
    digest, nothing = other.variants[0].artifact_digest, "sha256:" + "0" * 64
    assert foreign.value.details().replace(digest, nothing) == missing.value.details()  # it cannot even learn what exists


def locate(channel: grpc.Channel, digest: str, *have: str, memory: int = 64 << 20) -> list[pb.Source]:
    request = pb.LocateRequest(digest=digest, have=have, max_decode_bytes=memory)
    return list(artifacts_pb2_grpc.ArtifactsStub(channel).Locate(request).sources)


def test_a_delta_is_told_and_downloaded_once_it_is_made(hub: RunningHub) -> None:
    before, after = BLOB[:100_000] + b"old" + BLOB[100_000:], BLOB[:100_000] + b"new" + BLOB[100_000:]
    base = hub.publish("grown", artifact=before).variants[0].artifact_digest
    with hub.channel(hub.user) as channel:
        target = hub.publish("grown", artifact=after).variants[0].artifact_digest
        assert locate(channel, target, base) == []
        for _ in range(3):
            hub.services.deltas.tick(hub.clock.now())
        (source,) = locate(channel, target, base)
        data = b"".join(chunk.data for chunk in download(channel, source.digest))
        assert (source.base_digest, source.size_bytes, source.url) == (base, len(data), "")
        assert len(data) < len(after) / 100 and ids.digest_of(data) == source.digest
        assert locate(channel, target, base, memory=source.decode_bytes - 1) == []
        assert locate(channel, target) == []


def test_a_device_can_locate_nothing_that_it_may_not_download(hub: RunningHub) -> None:
    identity, other = hub.device("cam-seeker"), hub.publish("hidden", artifact=b"hidden")
    with hub.channel(identity) as channel:
        for digest in (other.variants[0].artifact_digest, "sha256:" + "0" * 64):
            with pytest.raises(grpc.RpcError) as refused:
                locate(channel, digest)
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        for digest, have in (("nonsense", ()), (other.variants[0].artifact_digest, ("../../etc",))):
            with pytest.raises(grpc.RpcError) as refused:
                locate(channel, digest, *have)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


class Link:
    """A clock that a stream moves on as its link would."""

    def __init__(self, bytes_per_s: float) -> None:
        self.now, self._rate = 0.0, bytes_per_s
        self.gauge = Gauge(lambda: self.now)

    def send(self, count: int) -> list[int]:
        """The sizes of so many chunks."""
        sizes = []
        for _ in range(count):
            sizes.append(self.gauge.size())
            self.now += sizes[-1] / self._rate
            self.gauge.taken(sizes[-1])
        return sizes


def test_a_slow_link_gets_small_chunks_and_a_fast_one_large_ones() -> None:
    assert set(Link(2_000).send(20)) == {MIN_CHUNK_BYTES}
    assert set(Link(250_000).send(20)) == {MIN_CHUNK_BYTES}
    assert Link(1e9).send(6) == [64 << 10, 128 << 10, 256 << 10, 512 << 10, MAX_CHUNK_BYTES, MAX_CHUNK_BYTES]
    assert Link(1.2e6).send(6)[-1] == 256 << 10


def test_a_link_that_grows_slow_gets_small_chunks_again() -> None:
    link = Link(1e9)
    link.send(10)
    link._rate = 10_000
    assert link.send(3)[1:] == [MIN_CHUNK_BYTES] * 2
