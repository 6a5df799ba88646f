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

from edge_agent.core.errors import Absent, AgentError, ConfigError, Corrupt, DiskFull, Endless, LinkDown, Refused, TooSlow
from edge_agent.core.model import Capture
from edge_agent.core.ports import Repository
from edge_agent.sync.hub import GrpcHub
from edge_agent.sync.identity import Identity
from edge_agent.sync.pace import Pace
from edge_agent.sync.part import Part
from protos.contract.ids import digest_of
from protos.contract.inputs import SampleKind
from protos.contract.manifest import Blob
from protos.v1 import artifacts_pb2, artifacts_pb2_grpc, datasets_pb2, datasets_pb2_grpc, trust_pb2, trust_pb2_grpc
from tests.agent.sync.authority import Authority
from tests.agent.sync.broker import free_port

CONTENT = os.urandom(300_000)
BLOB = Blob(digest=digest_of(CONTENT), size_bytes=len(CONTENT))
STEP = 64 * 1024

Chunks = Iterator[artifacts_pb2.Chunk]
Pieces = Iterator[trust_pb2.MetadataChunk]


@dataclass
class Servicer(artifacts_pb2_grpc.ArtifactsServicer, datasets_pb2_grpc.DatasetsServicer, trust_pb2_grpc.TrustServicer):
    """Honest unless ``serve``, ``tell``, ``direct`` or ``upload_status`` says otherwise."""

    serve: Callable[[artifacts_pb2.DownloadRequest, grpc.ServicerContext], Chunks] | None = None
    tell: Callable[[trust_pb2.GetMetadataRequest, grpc.ServicerContext], Pieces] | None = None
    direct: Callable[[bytes, grpc.ServicerContext], bytes] = lambda nonce, _: b"for " + nonce
    upload_status: grpc.StatusCode | None = None
    offsets: list[int] = field(default_factory=list)
    uploads: list[datasets_pb2.UploadSampleRequest] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def Download(self, request: artifacts_pb2.DownloadRequest, context: grpc.ServicerContext) -> Chunks:
        self.offsets.append(request.offset)
        yield from (self.serve or honest)(request, context)

    def GetMetadata(self, request: trust_pb2.GetMetadataRequest, context: grpc.ServicerContext) -> Pieces:
        if self.tell is not None:
            yield from self.tell(request, context)
            return
        for piece in (trust_pb2.Repository.Name(request.repository), " ", request.name):
            yield trust_pb2.MetadataChunk(data=piece.encode())

    def GetDirector(self, request: trust_pb2.GetDirectorRequest, context: grpc.ServicerContext) -> trust_pb2.GetDirectorReply:
        return trust_pb2.GetDirectorReply(metadata=self.direct(bytes(request.nonce), context))

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
    trust_pb2_grpc.add_TrustServicer_to_server(servicer, server)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield authority.identity(tmp_path / "device", "cam-1", port=port)
    servicer.released.set()
    server.stop(None).wait(10)


@pytest.fixture
def hub(identity: Identity) -> Iterator[GrpcHub]:
    made = GrpcHub(identity, pace=Pace(silence_s=10), total_timeout_s=30)
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


@pytest.mark.parametrize(("serve", "error"), [(wrong_bytes, Corrupt), (too_large_total, Corrupt), (endless, Endless)])
def test_wrong_data_is_refused_and_nothing_is_kept(
    hub: GrpcHub,
    servicer: Servicer,
    path: Path,
    serve: Callable[[artifacts_pb2.DownloadRequest, grpc.ServicerContext], Chunks],
    error: type[AgentError],
) -> None:
    servicer.serve = serve
    with pytest.raises(error):
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
    hub = GrpcHub(identity, pace=Pace(silence_s=0.3), total_timeout_s=30)
    with pytest.raises(LinkDown):
        hub.download(BLOB, path)
    assert part(path).stat().st_size == STEP
    hub.close()


BRISK = Pace(silence_s=10, min_bytes_per_s=1000, window_s=0.3)


def test_a_trickle_ends_a_download_and_keeps_what_came(identity: Identity, servicer: Servicer, path: Path) -> None:
    def trickle(_: artifacts_pb2.DownloadRequest, context: grpc.ServicerContext) -> Chunks:
        yield artifacts_pb2.Chunk(data=CONTENT[:STEP], total_bytes=len(CONTENT))
        for byte in CONTENT[STEP:]:
            if not context.is_active() or servicer.released.wait(0.01):
                return
            yield artifacts_pb2.Chunk(data=bytes([byte]), total_bytes=len(CONTENT))

    servicer.serve = trickle
    hub = GrpcHub(identity, pace=BRISK, total_timeout_s=30)
    with pytest.raises(TooSlow, match="1000 B/s over 0.3 s"):
        hub.download(BLOB, path)
    came = part(path).stat().st_size
    assert STEP < came < STEP + 1000
    servicer.serve = None
    hub.download(BLOB, path)
    assert servicer.offsets == [0, came]
    hub.close()


def test_a_slow_link_that_keeps_the_lowest_rate_is_left_alone(identity: Identity, servicer: Servicer, path: Path) -> None:
    def steady(request: artifacts_pb2.DownloadRequest, context: grpc.ServicerContext) -> Chunks:
        for at in range(0, len(CONTENT), 10_000):
            if servicer.released.wait(0.05):
                return
            yield artifacts_pb2.Chunk(data=CONTENT[at : at + 10_000], total_bytes=len(CONTENT))

    servicer.serve = steady  # 1.5 s, five windows
    hub = GrpcHub(identity, pace=BRISK, total_timeout_s=30)
    hub.download(BLOB, path)
    assert path.read_bytes() == CONTENT
    hub.close()


def test_a_full_disk_is_said_so_and_the_partial_file_makes_room(
    hub: GrpcHub, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(Part, "take", full)
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
        content=b"png",
        kind=SampleKind.IMAGE,
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
    assert request.kind == datasets_pb2.SAMPLE_KIND_IMAGE
    assert (request.digest, request.content, request.captured_at_ms) == (digest_of(b"png"), b"png", 1735689600000)
    assert (request.source, request.name, request.reason, request.predicted) == ("gate", "1.png", "uncertain", "cat")


@pytest.mark.parametrize("change", [{"name": "\udcff.png"}, {"content": b"x" * (9 << 20)}], ids=["name", "size"])
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


# -- metadata -------------------------------------------------------------------------------------------------------------


def test_metadata_comes_whole_by_repository_and_name(hub: GrpcHub) -> None:
    assert hub.metadata(Repository.IMAGE, "timestamp.json", 100) == b"REPOSITORY_IMAGE timestamp.json"
    assert hub.metadata(Repository.DIRECTOR, "2.root.json", 100) == b"REPOSITORY_DIRECTOR 2.root.json"


def test_exactly_as_much_as_allowed_is_taken_and_no_byte_more(hub: GrpcHub) -> None:
    length = len(b"REPOSITORY_IMAGE timestamp.json")
    assert len(hub.metadata(Repository.IMAGE, "timestamp.json", length)) == length
    with pytest.raises(Endless, match=f"more than {length - 1} bytes"):
        hub.metadata(Repository.IMAGE, "timestamp.json", length - 1)


def test_metadata_without_an_end_is_cut_off(hub: GrpcHub, servicer: Servicer) -> None:
    ended = threading.Event()

    def endless_metadata(_: trust_pb2.GetMetadataRequest, context: grpc.ServicerContext) -> Pieces:
        context.add_callback(ended.set)
        while context.is_active():
            yield trust_pb2.MetadataChunk(data=bytes(STEP))

    servicer.tell = endless_metadata
    with pytest.raises(Endless):
        hub.metadata(Repository.IMAGE, "timestamp.json", 16_384)
    assert ended.wait(10)


def test_metadata_in_one_message_larger_than_any_may_be_is_endless_too(hub: GrpcHub, servicer: Servicer) -> None:
    servicer.tell = lambda *_: iter([trust_pb2.MetadataChunk(data=bytes(3 << 20))])
    with pytest.raises(Endless):
        hub.metadata(Repository.IMAGE, "timestamp.json", 16_384)
    servicer.direct = lambda *_: bytes(3 << 20)
    with pytest.raises(Endless):
        hub.director(bytes(32))


def trickled(servicer: Servicer, piece: bytes) -> Callable[[trust_pb2.GetMetadataRequest, grpc.ServicerContext], Pieces]:
    def trickle(_: trust_pb2.GetMetadataRequest, context: grpc.ServicerContext) -> Pieces:
        while context.is_active() and not servicer.released.wait(0.01):
            yield trust_pb2.MetadataChunk(data=piece)

    return trickle


def test_metadata_that_trickles_is_too_slow(identity: Identity, servicer: Servicer) -> None:
    servicer.tell = trickled(servicer, b"{")
    hub = GrpcHub(identity, pace=BRISK)
    with pytest.raises(TooSlow, match="slower than 1000 B/s"):
        hub.metadata(Repository.IMAGE, "timestamp.json", 16_384)
    hub.close()


def test_metadata_that_is_not_whole_in_time_is_too_slow(identity: Identity, servicer: Servicer) -> None:
    servicer.tell = trickled(servicer, b"{" * 50)
    hub = GrpcHub(identity, metadata_timeout_s=0.5)
    with pytest.raises(TooSlow):
        hub.metadata(Repository.IMAGE, "timestamp.json", 1 << 20)
    hub.close()


def test_silence_instead_of_metadata_is_the_links_fault(identity: Identity, servicer: Servicer) -> None:
    servicer.tell = trickled(servicer, b"")
    hub = GrpcHub(identity, pace=Pace(silence_s=0.2))
    with pytest.raises(LinkDown):
        hub.metadata(Repository.IMAGE, "timestamp.json", 16_384)
    hub.close()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.NOT_FOUND, Absent),
        (grpc.StatusCode.PERMISSION_DENIED, Refused),
        (grpc.StatusCode.FAILED_PRECONDITION, LinkDown),
        (grpc.StatusCode.UNIMPLEMENTED, LinkDown),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, LinkDown),
        (grpc.StatusCode.UNAVAILABLE, LinkDown),
    ],
)
def test_a_status_in_place_of_metadata_says_what_to_do(
    hub: GrpcHub, servicer: Servicer, code: grpc.StatusCode, error: type[AgentError]
) -> None:
    def abort(_: object, context: grpc.ServicerContext) -> Any:
        context.abort(code, "as told")

    servicer.tell = servicer.direct = abort
    with pytest.raises(error):
        hub.metadata(Repository.IMAGE, "7.snapshot.json", 100)
    with pytest.raises(error):
        hub.director(bytes(16))


def test_the_directors_answer_comes_with_the_nonce_and_is_bounded(hub: GrpcHub, servicer: Servicer) -> None:
    assert hub.director(b"0123456789abcdef") == b"for 0123456789abcdef"
    servicer.direct = lambda *_: bytes(100_000)
    with pytest.raises(Endless):
        hub.director(bytes(32))


def test_metadata_of_a_closed_connection_is_link_down(hub: GrpcHub) -> None:
    hub.close()
    with pytest.raises(LinkDown, match="closed"):
        hub.metadata(Repository.IMAGE, "timestamp.json", 100)
    with pytest.raises(LinkDown, match="closed"):
        hub.director(bytes(32))


def test_whoever_calls_hears_that_the_hub_does_not_take_the_certificate(
    identity: Identity, servicer: Servicer, path: Path
) -> None:
    def abort(_: object, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "who is this")

    servicer.serve, servicer.tell, servicer.direct = status(grpc.StatusCode.UNAUTHENTICATED), abort, abort
    servicer.upload_status = grpc.StatusCode.UNAUTHENTICATED
    heard: list[str] = []
    hub = GrpcHub(identity, unwelcome=heard.append)
    calls: list[Callable[[], object]] = [
        lambda: hub.download(BLOB, path),
        lambda: hub.metadata(Repository.IMAGE, "timestamp.json", 100),
        lambda: hub.director(bytes(32)),
        lambda: hub.upload(capture()),
    ]
    for call in calls:
        with pytest.raises(LinkDown):
            call()
    assert heard == ["as told", "who is this", "who is this", "as told"]
    hub.close()
