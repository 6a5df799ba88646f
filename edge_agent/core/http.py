"""Pages for probes and scrapers over HTTP: a few fixed paths, nothing that comes from a disk, nothing that is kept waiting.

The standard library's server sets a limit to each read and none to a whole request, so a client that sends a byte now and then
holds a thread for hours.
"""

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 8  # at once; one more is told to come again
MAX_HEAD_BYTES = 8 << 10  # request line and headers
REQUEST_S = 5.0  # from the first byte to the last of a request, and again for the answer
_PAUSE_S = 0.2  # after an accept that failed: out of file descriptors, say


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    status: HTTPStatus = HTTPStatus.OK
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


Page = Callable[[Mapping[str, str]], Reply]  # takes the headers, by name in lower case


def verdict(problems: Mapping[str, str]) -> Reply:
    """What a probe is told: 200, or 503 with what is wrong by the name of the part."""
    body = json.dumps({"status": "failing" if problems else "ok", "problems": dict(problems)}).encode() + b"\n"
    status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
    return Reply(status=status, body=body, content_type="application/json")


def document(value: object) -> Reply:
    """As JSON."""
    return Reply(body=json.dumps(value).encode() + b"\n", content_type="application/json")


class HttpServer:
    """Serves ``pages`` by their exact path, a thread for each of a few connections, one request each."""

    def __init__(self, host: str, port: int, pages: Mapping[str, Page]) -> None:
        """Listens from now on, and answers from ``start`` on. Port 0 takes a free one.

        Raises:
            OSError: it cannot listen there.
        """
        self._pages = pages
        self._failing: set[str] = set()  # paths whose page failed last time: said once, not at every probe
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._stopping = threading.Event()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=MAX_CONNECTIONS)
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take no more; safe more than once. Answers under way end by themselves within their time."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept, which close does not
        if self._thread.is_alive():
            self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if not self._stopping.wait(_PAUSE_S):
                    log.warning("connection not accepted", extra={"error": str(error)})
                continue
            if self._places.acquire(blocking=False):
                self._begin(connection)
            else:
                _turn_away(connection)

    def _begin(self, connection: socket.socket) -> None:
        try:
            threading.Thread(target=self._serve, args=(connection,), name="http-answer", daemon=True).start()
        except RuntimeError:  # no more threads
            connection.close()
            self._places.release()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError):  # a client that went away or came too slowly
                reply, with_body = self._answer(_head(connection))
                connection.settimeout(REQUEST_S)  # of the whole sendall
                connection.sendall(_encoded(reply, with_body=with_body))
        finally:
            self._places.release()

    def _answer(self, head: bytes | None) -> tuple[Reply, bool]:
        if head is None:
            return _failure(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), True
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _failure(HTTPStatus.BAD_REQUEST), True
        method, path = words[0], words[1].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return _failure(HTTPStatus.METHOD_NOT_ALLOWED), True
        page = self._pages.get(path)
        if page is None:
            return _failure(HTTPStatus.NOT_FOUND), method == "GET"
        pairs = (line.partition(":") for line in lines if line)
        return self._page(path, page, {name.strip().lower(): value.strip() for name, _, value in pairs}), method == "GET"

    def _page(self, path: str, page: Page, headers: Mapping[str, str]) -> Reply:
        try:
            reply = page(headers)
        except Exception:  # the outermost edge of a request: a probe must not end a thread without an answer
            if path not in self._failing:
                self._failing.add(path)
                log.exception("page failed", extra={"path": path})
            return _failure(HTTPStatus.INTERNAL_SERVER_ERROR)
        self._failing.discard(path)
        return reply


def _head(connection: socket.socket) -> bytes | None:
    """All before the empty line; None for more than MAX_HEAD_BYTES. Raises OSError where it does not come in time."""
    deadline, head = time.monotonic() + REQUEST_S, bytearray()
    while (end := head.find(b"\r\n\r\n")) < 0:
        if len(head) > MAX_HEAD_BYTES:
            return None
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the request did not come in time")
        connection.settimeout(left_s)
        more = connection.recv(4096)
        if not more:
            raise ConnectionError("the client hung up")
        head += more
    return bytes(head[:end]) if end <= MAX_HEAD_BYTES else None


def _encoded(reply: Reply, *, with_body: bool) -> bytes:
    head = (
        f"HTTP/1.1 {reply.status.value} {reply.status.phrase}\r\n"
        f"Content-Type: {reply.content_type}\r\nContent-Length: {len(reply.body)}\r\n"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n"
    )
    if reply.status is HTTPStatus.METHOD_NOT_ALLOWED:
        head += "Allow: GET, HEAD\r\n"
    return (head + "\r\n").encode("latin-1") + (reply.body if with_body else b"")


def _failure(status: HTTPStatus) -> Reply:
    return Reply(status=status, body=status.phrase.encode() + b"\n")


def _turn_away(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.send(_encoded(_failure(HTTPStatus.SERVICE_UNAVAILABLE), with_body=True))
