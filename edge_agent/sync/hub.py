"""The hub over gRPC, as an agent needs it. Imported late: grpc is the heaviest thing the agent loads."""

import contextlib
import errno
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import grpc

from edge_agent.core.errors import AgentError, ConfigError, Corrupt, DiskFull, LinkDown, Refused
from edge_agent.core.files import sync_folder
from edge_agent.core.model import Capture
from edge_agent.sync.identity import Identity
from protos.contract.manifest import Blob
from protos.contract.telemetry import to_ms
from protos.v1 import artifacts_pb2, artifacts_pb2_grpc, datasets_pb2, datasets_pb2_grpc

log = logging.getLogger(__name__)

MAX_CHUNK_BYTES = 1 << 20
MAX_MESSAGE_BYTES = 8 << 20  # up
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
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class GrpcHub:
    """See ``edge_agent.core.ports.Hub``. Thread-safe."""

    def __init__(
        self,
        identity: Identity,
        *,
        chunk_timeout_s: float = 30.0,
        total_timeout_s: float = 3600.0,
        call_timeout_s: float = 60.0,
    ) -> None:
        """``chunk_timeout_s``: longest silence within a download. Raises ConfigError for keys that cannot be read."""
        self._address = identity.hub_address
        self._chunk_timeout_s, self._total_timeout_s, self._call_timeout_s = chunk_timeout_s, total_timeout_s, call_timeout_s
        try:
            credentials = grpc.ssl_channel_credentials(
                identity.ca_path.read_bytes(), identity.key_path.read_bytes(), identity.cert_path.read_bytes()
            )
        except OSError as error:
            raise ConfigError(f"cannot read the identity in {identity.folder}: {error.strerror}; enrol again") from error
        self._channel = grpc.secure_channel(self._address, credentials, options=_OPTIONS)
        self._artifacts = artifacts_pb2_grpc.ArtifactsStub(self._channel)  # type: ignore[no-untyped-call]  # generated
        self._datasets = datasets_pb2_grpc.DatasetsStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    def download(self, blob: Blob, path: Path) -> None:
        part = path.with_name(path.name + ".part")
        try:
            offset = _resume_at(part, blob)
            if offset < blob.size_bytes:
                self._fetch(blob, part, offset)
            _keep(blob, part, path)
        except Corrupt:
            part.unlink(missing_ok=True)
            raise
        except OSError as error:
            if error.errno in _NO_ROOM:
                part.unlink(missing_ok=True)  # what is left of the disk serves others better
                raise DiskFull(f"no room for {blob.size_bytes} bytes at {path}") from error
            raise DiskFull(f"cannot write {path}: {error}") from error

    def upload(self, capture: Capture) -> None:
        request = _upload_request(capture)
        try:
            self._datasets.UploadSample(request, timeout=self._call_timeout_s)
        except ValueError as error:
            raise LinkDown(f"the connection to {self._address} is closed: {error}") from error
        except grpc.RpcError as error:
            raise _translated(error, f"upload of {capture.digest} to {self._address}", refusing=_GONE) from error

    def close(self) -> None:
        self._channel.close()

    def _fetch(self, blob: Blob, part: Path, offset: int) -> None:
        """Append the rest to ``part``; what came is on the disk even if this raises LinkDown."""
        what = f"download of {blob.digest} from {self._address}"
        request = artifacts_pb2.DownloadRequest(digest=blob.digest, offset=offset)
        try:
            call = self._artifacts.Download(request, timeout=self._total_timeout_s)
        except ValueError as error:
            raise LinkDown(f"the connection to {self._address} is closed: {error}") from error
        with part.open("ab") as file, _cancelled_on_silence(call, self._chunk_timeout_s) as heard:
            try:
                for chunk in call:
                    offset += _take(chunk, file, blob, offset)
                    if chunk.data:
                        heard()
            except grpc.RpcError as error:
                raise _translated(error, what, refusing=_GONE | _FORBIDDEN) from error
            finally:
                call.cancel()
                file.flush()
                os.fsync(file.fileno())
        if offset < blob.size_bytes:
            raise LinkDown(f"{what} ended after {offset} of {blob.size_bytes} bytes")


def _upload_request(capture: Capture) -> datasets_pb2.UploadSampleRequest:
    """Raises Refused for what the wire does not carry: a try later would find the same."""
    try:
        request = datasets_pb2.UploadSampleRequest(
            digest=capture.digest,
            image=capture.png,
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


def _resume_at(part: Path, blob: Blob) -> int:
    """Bytes that are here already; a longer file is of another blob."""
    size = part.stat().st_size if part.exists() else 0
    if size > blob.size_bytes:
        part.unlink()
        return 0
    return size


def _take(chunk: artifacts_pb2.Chunk, file: BinaryIO, blob: Blob, offset: int) -> int:
    """Write one chunk; its length. Raises Corrupt before anything beyond the blob's size is written."""
    if chunk.total_bytes != blob.size_bytes:
        raise Corrupt(f"{blob.digest} has {chunk.total_bytes} bytes on the hub, the manifest says {blob.size_bytes}")
    if offset + len(chunk.data) > blob.size_bytes:
        raise Corrupt(f"{blob.digest} goes on beyond its {blob.size_bytes} bytes")
    return file.write(chunk.data)


def _keep(blob: Blob, part: Path, path: Path) -> None:
    """Verify the whole file, also what an earlier try left, then let it appear at ``path``."""
    with part.open("rb") as file:
        digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        if digest != blob.digest:
            raise Corrupt(f"downloaded bytes are {digest}, not {blob.digest}")
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)


@contextlib.contextmanager
def _cancelled_on_silence(call: grpc.RpcContext, timeout_s: float) -> Iterator[Callable[[], None]]:
    """Cancel ``call`` once the yielded function has not been called for ``timeout_s``."""
    heard, done = threading.Event(), threading.Event()

    def watch() -> None:
        while heard.wait(timeout_s):
            heard.clear()
            if done.is_set():
                return
        call.cancel()  # type: ignore[no-untyped-call]  # grpc-stubs leave it bare

    watcher = threading.Thread(target=watch, name="download-watch", daemon=True)
    watcher.start()
    try:
        yield heard.set
    finally:
        done.set()
        heard.set()
        watcher.join()


def _translated(error: grpc.RpcError, what: str, *, refusing: set[grpc.StatusCode]) -> AgentError:
    """What the caller should do about a status; everything that may pass by itself is LinkDown."""
    code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
    details = (error.details() if isinstance(error, grpc.Call) else str(error)) or "no details"
    message = f"{what}: {details} ({code.name})"
    if code in refusing:
        return Refused(message)
    if code in _DAMAGED:
        return Corrupt(message)
    return LinkDown(message)
