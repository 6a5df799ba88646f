"""Blobs over HTTP: the same promises as over gRPC, against servers that keep to the standard and servers that do not."""

import os
import resource
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from edge_agent.core.errors import AgentError, Corrupt, DiskFull, Endless, LinkDown, Refused, TooSlow
from edge_agent.sync.hub import GrpcHub
from edge_agent.sync.identity import Identity
from edge_agent.sync.pace import Pace
from protos.contract.ids import digest_of
from protos.contract.manifest import MIN_CHUNK_BYTES, Blob, Chunks
from tests.agent.sync.authority import Authority
from tests.agent.sync.broker import free_port
from tests.agent.sync.web import Web, head

CONTENT = os.urandom(500_000)
BLOB = Blob(digest=digest_of(CONTENT), size_bytes=len(CONTENT))
STEP = 64 << 10


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web(CONTENT)
    yield made
    made.stop()


@pytest.fixture
def identity(tmp_path: Path, authority: Authority) -> Identity:
    return authority.identity(tmp_path / "device", "cam-1", port=1)


PATIENT = Pace(silence_s=10)


def connect(identity: Identity, *, pace: Pace = PATIENT, total_timeout_s: float = 30, plain: bool = True) -> GrpcHub:
    return GrpcHub(identity, pace=pace, total_timeout_s=total_timeout_s, plain_http=plain)


@pytest.fixture
def hub(identity: Identity) -> Iterator[GrpcHub]:
    """No hub is there: everything comes from the web."""
    made = connect(identity)
    yield made
    made.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.bin"


def part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def test_a_blob_arrives_whole(hub: GrpcHub, web: Web, path: Path) -> None:
    hub.download(BLOB, path, url=web.start())
    assert path.read_bytes() == CONTENT
    assert not part(path).exists()
    assert web.headers[0]["Range"] == "bytes=0-" and web.headers[0]["Accept-Encoding"] == "identity"


def test_it_goes_on_where_it_broke(hub: GrpcHub, web: Web, path: Path) -> None:
    def cut(request: BaseHTTPRequestHandler, offset: int) -> None:
        head(request, offset, len(CONTENT) - 1, len(CONTENT))
        request.wfile.write(CONTENT[offset : offset + STEP])
        request.close_connection = True

    web.answer, url = cut, web.start()
    with pytest.raises(LinkDown, match=f"{STEP} of {len(CONTENT)}|{STEP} bytes are here"):
        hub.download(BLOB, path, url=url)
    assert part(path).read_bytes() == CONTENT[:STEP]
    web.answer = None
    hub.download(BLOB, path, url=f"{url}?signature=secret")
    assert web.requests == [("/blobs/one", 0), ("/blobs/one?signature=secret", STEP)]
    assert path.read_bytes() == CONTENT


def status(code: int) -> Callable[[BaseHTTPRequestHandler, int], None]:
    def answer(request: BaseHTTPRequestHandler, _: int) -> None:
        request.send_response(code)
        request.send_header("Location", "/blobs/one")
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def other_size(request: BaseHTTPRequestHandler, offset: int) -> None:
    head(request, offset, len(CONTENT), len(CONTENT) + 1)
    request.wfile.write(CONTENT + b"!")


def other_range(request: BaseHTTPRequestHandler, _: int) -> None:
    head(request, 5, len(CONTENT) - 1, len(CONTENT))
    request.wfile.write(CONTENT[5:])


def no_range(request: BaseHTTPRequestHandler, _: int) -> None:
    request.send_response(206)
    request.send_header("Content-Length", str(len(CONTENT)))
    request.end_headers()
    request.wfile.write(CONTENT)


def more_announced(request: BaseHTTPRequestHandler, offset: int) -> None:
    head(request, offset, len(CONTENT) - 1, len(CONTENT), length=1 << 40)
    request.wfile.write(CONTENT)


def packed(request: BaseHTTPRequestHandler, _: int) -> None:
    request.send_response(200)
    request.send_header("Content-Encoding", "gzip")
    request.send_header("Content-Length", str(len(CONTENT)))
    request.end_headers()
    request.wfile.write(CONTENT)


def other_bytes(request: BaseHTTPRequestHandler, _: int) -> None:
    head(request, 0, len(CONTENT) - 1, len(CONTENT))
    request.wfile.write(bytes(len(CONTENT)))


def endless(request: BaseHTTPRequestHandler, _: int) -> None:
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    for _ in range(len(CONTENT) // STEP + 2):
        request.wfile.write(b"%x\r\n%s\r\n" % (STEP, bytes(STEP)))


def no_http(request: BaseHTTPRequestHandler, _: int) -> None:
    request.wfile.write(b"\x16\x03\x01 what is this\r\n\r\n")
    request.close_connection = True


def many_headers(request: BaseHTTPRequestHandler, _: int) -> None:
    request.send_response(206)
    for number in range(2000):
        request.send_header(f"X-{number}", "x" * 100)
    request.end_headers()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (status(403), Refused),
        (status(404), Refused),
        (status(301), Refused),
        (status(307), Refused),
        (status(429), LinkDown),
        (status(500), LinkDown),
        (status(503), LinkDown),
        (other_size, Corrupt),
        (other_range, Corrupt),
        (no_range, Corrupt),
        (other_bytes, Corrupt),
        (more_announced, Endless),
        (endless, Endless),
        (packed, Refused),
        (no_http, LinkDown),
        (many_headers, LinkDown),
    ],
)
def test_a_server_that_answers_otherwise_is_told_by_a_typed_error_and_leaves_nothing(
    hub: GrpcHub, web: Web, path: Path, answer: Callable[[BaseHTTPRequestHandler, int], None], error: type[AgentError]
) -> None:
    web.answer = answer
    with pytest.raises(error):
        hub.download(BLOB, path, url=web.start())
    assert not path.exists() and not part(path).exists()
    assert len(web.requests) == 1  # no redirect was followed


def test_a_server_without_ranges_serves_from_the_start_alone(hub: GrpcHub, web: Web, path: Path) -> None:
    def whole(request: BaseHTTPRequestHandler, _: int) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(CONTENT)))
        request.end_headers()
        request.wfile.write(CONTENT)

    web.answer, url = whole, web.start()
    part(path).write_bytes(CONTENT[:1000])
    with pytest.raises(Refused, match="no ranges"):
        hub.download(BLOB, path, url=url)
    assert part(path).read_bytes() == CONTENT[:1000]
    part(path).unlink()
    hub.download(BLOB, path, url=url)
    assert path.read_bytes() == CONTENT


def test_a_bad_chunk_costs_that_chunk(hub: GrpcHub, web: Web, path: Path) -> None:
    def wrong(request: BaseHTTPRequestHandler, offset: int) -> None:
        head(request, offset, len(CONTENT) - 1, len(CONTENT))
        request.wfile.write(CONTENT[offset : 3 * STEP] + bytes([CONTENT[3 * STEP] ^ 1]) + CONTENT[3 * STEP + 1 :])

    chunks = Chunks.of(CONTENT, MIN_CHUNK_BYTES)
    web.answer, url = wrong, web.start()
    with pytest.raises(Corrupt):
        hub.download(BLOB, path, chunks=chunks, url=url)
    web.answer = None
    hub.download(BLOB, path, chunks=chunks, url=url)
    assert [offset for _, offset in web.requests] == [0, 2 * STEP]
    assert path.read_bytes() == CONTENT


def test_silence_ends_it_and_keeps_what_came(identity: Identity, web: Web, path: Path) -> None:
    def silent(request: BaseHTTPRequestHandler, offset: int) -> None:
        head(request, offset, len(CONTENT) - 1, len(CONTENT))
        request.wfile.write(CONTENT[:STEP])
        request.wfile.flush()
        web.released.wait(20)

    web.answer = silent
    hub = connect(identity, pace=Pace(silence_s=0.3))
    with pytest.raises(LinkDown):
        hub.download(BLOB, path, url=web.start())
    assert part(path).stat().st_size == STEP
    hub.close()


def test_a_trickle_is_too_slow_and_keeps_what_came(identity: Identity, web: Web, path: Path) -> None:
    def trickle(request: BaseHTTPRequestHandler, offset: int) -> None:
        head(request, offset, len(CONTENT) - 1, len(CONTENT))
        for byte in CONTENT:
            if web.released.wait(0.01):
                return
            request.wfile.write(bytes([byte]))
            request.wfile.flush()

    web.answer = trickle
    hub = connect(identity, pace=Pace(silence_s=10, min_bytes_per_s=1000, window_s=0.3))
    with pytest.raises(TooSlow, match="1000 B/s over 0.3 s"):
        hub.download(BLOB, path, url=web.start())
    assert 0 < part(path).stat().st_size < 1000
    hub.close()


def test_a_download_takes_no_longer_than_it_may(identity: Identity, web: Web, path: Path) -> None:
    def steady(request: BaseHTTPRequestHandler, offset: int) -> None:
        head(request, offset, len(CONTENT) - 1, len(CONTENT))
        for at in range(0, len(CONTENT), 5000):
            if web.released.wait(0.02):
                return
            request.wfile.write(CONTENT[at : at + 5000])
            request.wfile.flush()

    web.answer = steady
    hub = connect(identity, total_timeout_s=0.2)
    with pytest.raises(LinkDown, match="longer than 0 s"):
        hub.download(BLOB, path, url=web.start())
    hub.close()


def test_closing_the_hub_ends_it_at_once(hub: GrpcHub, web: Web, path: Path) -> None:
    begun = threading.Event()

    def hold(request: BaseHTTPRequestHandler, offset: int) -> None:
        head(request, offset, len(CONTENT) - 1, len(CONTENT))
        request.wfile.write(CONTENT[:STEP])
        request.wfile.flush()
        begun.set()
        web.released.wait(20)

    web.answer = hold
    closer = threading.Thread(target=lambda: (begun.wait(10), hub.close()))
    closer.start()
    with pytest.raises(LinkDown):
        hub.download(BLOB, path, url=web.start())
    closer.join(10)
    assert not web.released.is_set()
    with pytest.raises(LinkDown, match="called off"):
        hub.download(BLOB, path, url=f"http://localhost:{web._server.server_port}/again")


@pytest.mark.parametrize(
    "url",
    ["ftp://localhost/x", "file:///etc/passwd", "http:///x", "http://user@localhost/x", "http://localhost:0/x", "x", "",
     "http://localhost:99999/x", "http://localhost/a b", "http://localhost/a\r\nHost: b", "http://[::1/x"],
)  # fmt: skip
def test_a_url_of_another_kind_is_refused(hub: GrpcHub, path: Path, url: str) -> None:
    with pytest.raises(Refused if url else LinkDown):  # without a URL the hub is asked, and there is none
        hub.download(BLOB, path, url=url)


def test_plain_http_is_taken_only_where_the_device_allows_it(identity: Identity, web: Web, path: Path) -> None:
    hub = connect(identity, plain=False)
    with pytest.raises(Refused, match="plain_http"):
        hub.download(BLOB, path, url=web.start())
    assert web.requests == []
    hub.close()


def test_no_server_is_link_down(hub: GrpcHub, path: Path) -> None:
    with pytest.raises(LinkDown):
        hub.download(BLOB, path, url=f"http://127.0.0.1:{free_port()}/x")


def test_over_tls_the_hubs_authority_is_believed(
    identity: Identity, web: Web, path: Path, tmp_path: Path, authority: Authority
) -> None:
    hub = connect(identity, plain=False)
    hub.download(BLOB, path, url=web.start(authority=authority, folder=tmp_path))
    assert path.read_bytes() == CONTENT
    hub.close()


def test_over_tls_nobody_else_is_believed(identity: Identity, web: Web, path: Path, tmp_path: Path) -> None:
    hub = connect(identity, plain=False)
    with pytest.raises(LinkDown, match="(?i)certificate"):
        hub.download(BLOB, path, url=web.start(authority=Authority(), folder=tmp_path))
    assert web.requests == []
    hub.close()


def test_over_tls_the_name_must_be_the_servers(
    identity: Identity, web: Web, path: Path, tmp_path: Path, authority: Authority
) -> None:
    hub = connect(identity, plain=False)
    url = web.start(authority=authority, folder=tmp_path).replace("localhost", "127.0.0.2")
    with pytest.raises(LinkDown):
        hub.download(BLOB, path, url=url)
    assert web.requests == []
    hub.close()


def test_a_server_that_asks_is_shown_the_devices_certificate(
    identity: Identity, web: Web, path: Path, tmp_path: Path, authority: Authority
) -> None:
    hub = connect(identity, plain=False)
    hub.download(BLOB, path, url=web.start(authority=authority, folder=tmp_path, ask=authority.pem))
    assert path.read_bytes() == CONTENT
    hub.close()


def test_a_disk_that_fills_up_is_no_fault_of_the_connection(hub: GrpcHub, web: Web, path: Path) -> None:
    url, limits = web.start(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 2, limits[1]))
    try:
        with pytest.raises(DiskFull, match="no room"):
            hub.download(BLOB, path, url=url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not part(path).exists(), "what came would keep the disk full"
