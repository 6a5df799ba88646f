"""Blobs: resumable, and only for those who need them."""

import grpc
import pytest

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
    assert max(len(chunk.data) for chunk in whole) == 64 << 10
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
