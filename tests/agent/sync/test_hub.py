"""The gRPC client against a server that misbehaves on demand."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from edge_agent.core.errors import AgentError, ConfigError, Corrupt, DiskFull, LinkDown, Refused
from edge_agent.core.model import Capture
from edge_agent.sync import hub as hub_module
from edge_agent.sync.hub import GrpcHub
from edge_agent.sync.identity import Identity
from protos.contract.ids import digest_of
from protos.contract.manifest import Blob
from protos.v1 import artifacts_pb2, artifacts_pb2_grpc, datasets_pb2, datasets_pb2_grpc
from tests.agent.sync.authority import Authority
from tests.agent.sync.broker import free_port

CONTENT = os.urandom(300_000)
BLOB = Blob(digest=digest_of(CONTENT), size_bytes=len(CONTENT))
STEP = 64 * 1024

Chunks = Iterator[artifacts_pb2.Chunk]


@dataclass
class Servicer(artifacts_pb2_grpc.ArtifactsServicer, datasets_pb2_grpc.DatasetsServicer):
    """Honest unless ``serve`` or ``upload_status`` says otherwise."""

    serve: Callable[[artifacts_pb2.DownloadRequest, grpc.ServicerContext], Chunks] | None = None
    upload_status: grpc.StatusCode | None = None
    offsets: list[int] = field(default_factory=list)
    uploads: list[datasets_pb2.UploadSampleRequest] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def Download(self, request: artifacts_pb2.DownloadRequest, context: grpc.ServicerContext) -> Chunks:
        self.offsets.append(request.offset)
        yield from (self.serve or honest)(request, context)

    def UploadSample(
        self, request: datasets_pb2.UploadSampleRequest, context: grpc.ServicerContext
    ) -> datasets_pb2.UploadSampleReply:
        if self.upload_status is not None:
            context.abort(self.upload_status, "as told")
        self.uploads.append(request)
        return datasets_pb2.UploadSampleReply(sample_id="s-1")


def honest(request: artifacts_pb2.DownloadRequest, _: grpc.ServicerContext) -> Chunks:
    for at in range(request.offset, len(CONTENT), STEP):
        yield artifacts_pb2.Chunk(data=CONTENT[at : at + STEP], total_bytes=len(CONTENT))


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
def identity(tmp_path: Path, authority: Authority, servicer: Servicer) -> Iterator[Identity]:
    key, certificate = authority.issue("localhost")
    credentials = grpc.ssl_server_credentials([(key, certificate)], authority.pem, require_client_auth=True)
    server = grpc.server(futures.ThreadPoolExecutor(4))
    artifacts_pb2_grpc.add_ArtifactsServicer_to_server(servicer, server)
    datasets_pb2_grpc.add_DatasetsServicer_to_server(servicer, server)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield authority.identity(tmp_path / "device", "cam-1", port=port)
    servicer.released.set()
    server.stop(None).wait(10)


@pytest.fixture
def hub(identity: Identity) -> Iterator[GrpcHub]:
    made = GrpcHub(identity, chunk_timeout_s=10, total_timeout_s=30)
    yield made
    made.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def test_a_blob_arrives_whole_and_leaves_no_partial_file(hub: GrpcHub, path: Path) -> None:
    hub.download(BLOB, path)
    assert path.read_bytes() == CONTENT
    assert not part(path).exists()


def test_a_broken_download_resumes_where_it_stopped(hub: GrpcHub, servicer: Servicer, path: Path) -> None:
    def cut(request: artifacts_pb2.DownloadRequest, context: grpc.ServicerContext) -> Chunks:
        yield artifacts_pb2.Chunk(data=CONTENT[:STEP], total_bytes=len(CONTENT))
        context.abort(grpc.StatusCode.UNAVAILABLE, "cut")

    servicer.serve = cut
    with pytest.raises(LinkDown, match="cut"):
        hub.download(BLOB, path)
    assert not path.exists()
    servicer.serve = None
    hub.download(BLOB, path)
    assert servicer.offsets == [0, STEP]
    assert path.read_bytes() == CONTENT


def test_a_stream_that_ends_early_is_the_links_fault(hub: GrpcHub, servicer: Servicer, path: Path) -> None:
    servicer.serve = lambda *_: iter([artifacts_pb2.Chunk(data=CONTENT[:10], total_bytes=len(CONTENT))])
    with pytest.raises(LinkDown, match="ended after 10"):
        hub.download(BLOB, path)
    assert part(path).read_bytes() == CONTENT[:10]


def test_a_complete_partial_file_needs_no_hub(hub: GrpcHub, servicer: Servicer, path: Path) -> None:
    part(path).write_bytes(CONTENT)
    hub.download(BLOB, path)
    assert path.read_bytes() == CONTENT
    assert servicer.offsets == []


def test_a_partial_file_of_another_blob_is_found_out_and_dropped(hub: GrpcHub, path: Path) -> None:
    part(path).write_bytes(b"x" * 1000)
    with pytest.raises(Corrupt):
        hub.download(BLOB, path)
    assert not part(path).exists()
    part(path).write_bytes(b"x" * (len(CONTENT) + 1))
    hub.download(BLOB, path)
    assert path.read_bytes() == CONTENT


def wrong_bytes(request: artifacts_pb2.DownloadRequest, _: grpc.ServicerContext) -> Chunks:
    yield artifacts_pb2.Chunk(data=b"\0" * len(CONTENT), total_bytes=len(CONTENT))


def too_large_total(request: artifacts_pb2.DownloadRequest, _: grpc.ServicerContext) -> Chunks:
    yield artifacts_pb2.Chunk(data=CONTENT[:STEP], total_bytes=len(CONTENT) + 1)


def endless(request: artifacts_pb2.DownloadRequest, context: grpc.ServicerContext) -> Chunks:
    while context.is_active():
        yield artifacts_pb2.Chunk(data=bytes(STEP), total_bytes=len(CONTENT))


@pytest.mark.parametrize("serve", [wrong_bytes, too_large_total, endless])
def test_wrong_data_is_refused_and_nothing_is_kept(
    hub: GrpcHub, servicer: Servicer, path: Path, serve: Callable[[artifacts_pb2.DownloadRequest, grpc.ServicerContext], Chunks]
) -> None:
    servicer.serve = serve
    with pytest.raises(Corrupt):
        hub.download(BLOB, path)
    assert not path.exists() and not part(path).exists()


def status(code: grpc.StatusCode) -> Callable[[artifacts_pb2.DownloadRequest, grpc.ServicerContext], Chunks]:
    def abort(_: artifacts_pb2.DownloadRequest, context: grpc.ServicerContext) -> Chunks:
        context.abort(code, "as told")
        yield artifacts_pb2.Chunk()

    return abort


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.NOT_FOUND, Refused),
        (grpc.StatusCode.PERMISSION_DENIED, Refused),
        (grpc.StatusCode.UNIMPLEMENTED, Refused),
        (grpc.StatusCode.DATA_LOSS, Corrupt),
        (grpc.StatusCode.OUT_OF_RANGE, Corrupt),
        (grpc.StatusCode.UNAVAILABLE, LinkDown),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, LinkDown),
        (grpc.StatusCode.INTERNAL, LinkDown),
        (grpc.StatusCode.UNAUTHENTICATED, LinkDown),
    ],
)
def test_a_status_says_what_to_do(
    hub: GrpcHub, servicer: Servicer, path: Path, code: grpc.StatusCode, error: type[AgentError]
) -> None:
    servicer.serve = status(code)
    with pytest.raises(error, match="as told"):
        hub.download(BLOB, path)
    assert not path.exists()


@pytest.mark.parametrize("dripping", [False, True], ids=["silent", "empty chunks"])
def test_silence_ends_a_download_and_keeps_what_came(
    identity: Identity, servicer: Servicer, path: Path, dripping: bool
) -> None:
    def silent(_: artifacts_pb2.DownloadRequest, context: grpc.ServicerContext) -> Chunks:
        yield artifacts_pb2.Chunk(data=CONTENT[:STEP], total_bytes=len(CONTENT))
        while context.is_active() and not servicer.released.wait(0.05):
            if dripping:
                yield artifacts_pb2.Chunk(total_bytes=len(CONTENT))

    servicer.serve = silent
    hub = GrpcHub(identity, chunk_timeout_s=0.3, total_timeout_s=30)
    with pytest.raises(LinkDown):
        hub.download(BLOB, path)
    assert part(path).stat().st_size == STEP
    hub.close()


def test_a_full_disk_is_said_so_and_the_partial_file_makes_room(
    hub: GrpcHub, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(hub_module, "_take", full)
    with pytest.raises(DiskFull):
        hub.download(BLOB, path)
    assert not part(path).exists()


def test_no_hub_is_link_down(tmp_path: Path, authority: Authority, path: Path) -> None:
    hub = GrpcHub(authority.identity(tmp_path / "d", "cam-1", port=free_port()), total_timeout_s=5, call_timeout_s=5)
    with pytest.raises(LinkDown):
        hub.download(BLOB, path)
    with pytest.raises(LinkDown):
        hub.upload(capture())
    hub.close()
    with pytest.raises(LinkDown, match="closed"):
        hub.upload(capture())


def test_a_hub_of_another_authority_gets_nothing(tmp_path: Path, identity: Identity, servicer: Servicer, path: Path) -> None:
    port = int(identity.hub_address.rpartition(":")[2])
    hub = GrpcHub(Authority().identity(tmp_path / "stranger", "cam-1", port=port), total_timeout_s=5)
    with pytest.raises(LinkDown):
        hub.download(BLOB, path)
    assert servicer.offsets == []
    hub.close()


def test_an_identity_without_its_key_is_named(tmp_path: Path, authority: Authority) -> None:
    identity = authority.identity(tmp_path, "cam-1", port=1)
    identity.key_path.unlink()
    with pytest.raises(ConfigError, match="enrol again"):
        GrpcHub(identity)


def capture() -> Capture:
    return Capture(
        digest=digest_of(b"png"),
        png=b"png",
        captured_at=datetime(2025, 1, 1, tzinfo=UTC),
        source="gate",
        name="1.png",
        reason="uncertain",
        model=digest_of(b"manifest"),
        predicted="cat",
        confidence=0.5,
    )


def test_a_capture_is_handed_over_with_its_story(hub: GrpcHub, servicer: Servicer) -> None:
    hub.upload(capture())
    (request,) = servicer.uploads
    assert (request.digest, request.image, request.captured_at_ms) == (digest_of(b"png"), b"png", 1735689600000)
    assert (request.source, request.name, request.reason, request.predicted) == ("gate", "1.png", "uncertain", "cat")


@pytest.mark.parametrize("change", [{"name": "\udcff.png"}, {"png": b"x" * (9 << 20)}], ids=["name", "size"])
def test_what_the_wire_cannot_carry_is_refused_at_once_and_blocks_nothing_behind_it(
    hub: GrpcHub, servicer: Servicer, change: dict[str, Any]
) -> None:
    with pytest.raises(Refused):
        hub.upload(replace(capture(), **change))
    assert servicer.uploads == []


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, Refused),
        (grpc.StatusCode.NOT_FOUND, Refused),
        (grpc.StatusCode.FAILED_PRECONDITION, LinkDown),
        (grpc.StatusCode.PERMISSION_DENIED, LinkDown),
        (grpc.StatusCode.UNAVAILABLE, LinkDown),
    ],
)
def test_only_a_verdict_on_the_capture_itself_is_final(
    hub: GrpcHub, servicer: Servicer, code: grpc.StatusCode, error: type[AgentError]
) -> None:
    servicer.upload_status = code
    with pytest.raises(error, match="as told"):
        hub.upload(capture())
