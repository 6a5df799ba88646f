"""The hub over gRPC, as an agent needs it. Imported late: grpc is the heaviest thing the agent loads."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc

from edge_agent.core.errors import Absent, AgentError, Corrupt, Endless, LinkDown, Refused, TooSlow
from edge_agent.core.model import Capture
from edge_agent.core.ports import Repository
from edge_agent.sync.blobs_http import HttpBlobs
from edge_agent.sync.identity import Identity
from edge_agent.sync.pace import Pace, paced
from edge_agent.sync.part import Part, receiving
from protos.contract import ids
from protos.contract.codec.message import enum
from protos.contract.ids import Digest
from protos.contract.manifest import Blob, Chunks
from protos.contract.sources import MAX_BASES, MAX_SOURCES, BlobSource, Encoding
from protos.contract.telemetry import to_ms
from protos.v1 import artifacts_pb2, artifacts_pb2_grpc, datasets_pb2, datasets_pb2_grpc, trust_pb2, trust_pb2_grpc

log = logging.getLogger(__name__)

MAX_CHUNK_BYTES = 1 << 20
MAX_MESSAGE_BYTES = 8 << 20  # up
MAX_DIRECTOR_BYTES = 64 << 10
_OPTIONS = (
    ("grpc.max_receive_message_length", 2 * MAX_CHUNK_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 60_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.enable_http_proxy", 0),  # the identity names the hub; an environment variable must not redirect it
)
_GONE = {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED}
_FORBIDDEN = {grpc.StatusCode.PERMISSION_DENIED}
_DAMAGED = {grpc.StatusCode.DATA_LOSS, grpc.StatusCode.OUT_OF_RANGE}


class GrpcHub:
    """See ``edge_agent.core.ports.Hub``. Thread-safe."""

    def __init__(
        self,
        identity: Identity,
        *,
        pace: Pace = Pace(),  # noqa: B008  # frozen
        total_timeout_s: float = 3600.0,
        call_timeout_s: float = 60.0,
        metadata_timeout_s: float = 300.0,
        plain_http: bool = False,
        unwelcome: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``unwelcome``: called with the hub's words, on the calling thread, when it does not take our certificate.

        ``total_timeout_s``: of one download. ``plain_http``: blobs may come over HTTP without TLS, too.
        Raises ConfigError for keys that cannot be read.
        """
        self._address, self._pace, self._unwelcome = identity.hub_address, pace, unwelcome
        self._total_timeout_s, self._call_timeout_s = total_timeout_s, call_timeout_s
        self._metadata_timeout_s = metadata_timeout_s
        held = identity.credential()
        credentials = grpc.ssl_channel_credentials(held.ca_pem, held.key_pem, held.certificate_pem)
        self._web = HttpBlobs(identity.tls, pace=pace, total_timeout_s=total_timeout_s, plain=plain_http)
        # No interceptors: with them grpc crashes the process where a call meets a channel that was closed.
        self._channel = grpc.secure_channel(self._address, credentials, options=_OPTIONS)
        self._artifacts = artifacts_pb2_grpc.ArtifactsStub(self._channel)  # type: ignore[no-untyped-call]  # generated
        self._datasets = datasets_pb2_grpc.DatasetsStub(self._channel)  # type: ignore[no-untyped-call]  # generated
        self._trust = trust_pb2_grpc.TrustStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    def locate(self, digest: Digest, have: Sequence[Digest], max_decode_bytes: int) -> Sequence[BlobSource]:
        request = artifacts_pb2.LocateRequest(digest=digest, have=have[:MAX_BASES], max_decode_bytes=max_decode_bytes)
        what = f"sources of {digest} from {self._address}"
        try:
            reply = self._call(lambda: self._artifacts.Locate(request, timeout=self._call_timeout_s))
        except grpc.RpcError as error:
            raise self._translated(error, what, refusing=_GONE | _FORBIDDEN) from error
        return [found for source in reply.sources[:MAX_SOURCES] if (found := _source(source)) is not None]

    def download(self, blob: Blob, path: Path, *, chunks: Chunks | None = None, url: str = "") -> None:
        with receiving(blob, path, chunks) as part:
            if part.missing and url:
                self._web.fetch(url, part)
            elif part.missing:
                self._fetch(part)

    def upload(self, capture: Capture) -> None:
        request = _upload_request(capture)
        try:
            self._call(lambda: self._datasets.UploadSample(request, timeout=self._call_timeout_s))
        except grpc.RpcError as error:
            raise self._translated(error, f"upload of {capture.digest} to {self._address}", refusing=_GONE) from error

    def metadata(self, repository: Repository, name: str, max_bytes: int) -> bytes:
        what = f"{repository.name.lower()} metadata {name} from {self._address}"
        request = trust_pb2.GetMetadataRequest(repository=int(repository), name=name)  # type: ignore[arg-type]  # an enum
        data = bytearray()
        call = self._call(lambda: self._trust.GetMetadata(request, timeout=self._metadata_timeout_s))
        with paced(call, self._pace) as pace:
            try:
                for chunk in call:
                    data += chunk.data
                    if len(data) > max_bytes:
                        raise Endless(f"{what} has more than {max_bytes} bytes")
                    pace.heard(len(chunk.data))
            except grpc.RpcError as error:
                if pace.too_slow or (data and _code(error) is grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise TooSlow(f"{what}: {len(data)} bytes came, slower than {self._pace.rate}") from error
                raise self._asked(error, what) from error
            finally:
                call.cancel()
        return bytes(data)

    def director(self, nonce: bytes) -> bytes:
        what = f"director metadata from {self._address}"
        request = trust_pb2.GetDirectorRequest(nonce=nonce)
        try:
            reply = self._call(lambda: self._trust.GetDirector(request, timeout=self._call_timeout_s))
        except grpc.RpcError as error:
            raise self._asked(error, what) from error
        if len(reply.metadata) > MAX_DIRECTOR_BYTES:
            raise Endless(f"{what} has {len(reply.metadata)} bytes, more than {MAX_DIRECTOR_BYTES}")
        return bytes(reply.metadata)

    def close(self) -> None:
        self._web.close()
        self._channel.close()

    def _fetch(self, part: Part) -> None:
        """Bring the rest; what came is in the part even if this raises LinkDown."""
        blob = part.blob
        what = f"download of {blob.digest} from {self._address}"
        request = artifacts_pb2.DownloadRequest(digest=blob.digest, offset=part.offset)
        call = self._call(lambda: self._artifacts.Download(request, timeout=self._total_timeout_s))
        with paced(call, self._pace) as pace:
            try:
                for chunk in call:
                    part.expect(chunk.total_bytes)
                    part.take(chunk.data)
                    pace.heard(len(chunk.data))
            except grpc.RpcError as error:
                if pace.too_slow:
                    raise TooSlow(f"{what} is slower than {self._pace.rate}; {part.offset} bytes are here") from error
                raise self._translated(error, what, refusing=_GONE | _FORBIDDEN) from error
            finally:
                call.cancel()
        if part.missing:
            raise LinkDown(f"{what} ended after {part.offset} of {blob.size_bytes} bytes")

    def _call(self, invoke: Callable[[], Any]) -> Any:
        """Raises LinkDown where the channel was closed, from whatever thread."""
        try:
            return invoke()
        except ValueError as error:
            raise LinkDown(f"the connection to {self._address} is closed: {error}") from error

    def _asked(self, error: grpc.RpcError, what: str) -> AgentError:
        """As ``_translated``, for metadata: absence is an answer, and no room in a message is too much."""
        code = _code(error)
        if code is grpc.StatusCode.NOT_FOUND:
            return Absent(f"{what}: the hub has none")
        details = (error.details() if isinstance(error, grpc.Call) else "") or ""
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
            return Endless(f"{what}: {details}")
        return self._translated(error, what, refusing=_FORBIDDEN)

    def _translated(self, error: grpc.RpcError, what: str, *, refusing: set[grpc.StatusCode]) -> AgentError:
        """What the caller should do about a status; everything that may pass by itself is LinkDown."""
        code = _code(error)
        details = (error.details() if isinstance(error, grpc.Call) else str(error)) or "no details"
        if code is grpc.StatusCode.UNAUTHENTICATED:
            self._unwelcome((error.details() if isinstance(error, grpc.Call) else "") or "it does not know the certificate")
        message = f"{what}: {details} ({code.name})"
        if code in refusing:
            return Refused(message)
        if code in _DAMAGED:
            return Corrupt(message)
        return LinkDown(message)


def _upload_request(capture: Capture) -> datasets_pb2.UploadSampleRequest:
    """Raises Refused for what the wire does not carry: a try later would find the same."""
    try:
        request = datasets_pb2.UploadSampleRequest(
            digest=capture.digest,
            content=capture.content,
            kind=enum(capture.kind),
            captured_at_ms=to_ms(capture.captured_at),
            source=capture.source,
            name=capture.name,
            reason=capture.reason,
            model_manifest=capture.model,
            predicted=capture.predicted,
            confidence=capture.confidence,
        )
    except ValueError as error:
        raise Refused(f"{capture.digest} cannot be sent: {error}") from error
    if request.ByteSize() > MAX_MESSAGE_BYTES:
        raise Refused(f"{capture.digest} has {request.ByteSize()} bytes, more than {MAX_MESSAGE_BYTES}")
    return request


def _source(source: artifacts_pb2.Source) -> BlobSource | None:
    """None for what this agent does not know: a newer hub may offer more."""
    try:
        return BlobSource(
            encoding=Encoding(source.encoding),
            blob=Blob(digest=ids.digest(source.digest), size_bytes=source.size_bytes),
            base=ids.digest(source.base_digest) if source.base_digest else None,
            decode_bytes=source.decode_bytes,
            url=source.url,
        )
    except ValueError:  # ContractError is one
        return None


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    return error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
