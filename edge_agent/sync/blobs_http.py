"""Blobs over HTTP with Range, from where the hub says. What comes is believed by its digests only.

Rules: https by default, verified against the hub's own authority or the system's, for the name in the URL, TLS 1.2 or newer;
the device shows its certificate to a server that asks for one. Plain http only where the device's own configuration allows it.
No redirects, no proxies from the environment, no compression.
"""

import contextlib
import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

from edge_agent.core.errors import AgentError, Corrupt, Endless, LinkDown, Refused, TooSlow
from edge_agent.sync.pace import Pace, Watch, paced
from edge_agent.sync.part import Part

_CONNECT_S = 10.0
_READ_BYTES = 256 << 10
_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")
_LATER = {408, 425, 429}
_Connection = http.client.HTTPConnection


class HttpBlobs:
    """Downloads, one at a time; ``close`` is for any thread, and ends it."""

    def __init__(self, tls: Callable[[], ssl.SSLContext], *, pace: Pace, total_timeout_s: float, plain: bool) -> None:
        """``tls`` raises ConfigError. ``plain``: http without TLS is allowed."""
        self._tls, self._pace, self._total_timeout_s, self._plain = tls, pace, total_timeout_s, plain
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._closed = False

    def fetch(self, url: str, part: Part) -> None:
        """Bring what ``part`` lacks of its blob.

        Raises:
            LinkDown, TooSlow: not now, or not whole; what came is in the part.
            Refused: the server does not have it, will not give it, or does no ranges; or the URL may not be used.
            Corrupt, Endless: as ``Part.take``; also where the server's file has another size.
        """
        where = self._checked(url)
        what = f"download of {part.blob.digest} from {where.scheme}://{where.netloc}"  # a signed query is a secret
        connection = self._connection(where)
        try:
            self._keep(connection, what)
            with paced(self, self._pace) as watch:
                self._read(connection, where, part, watch, what)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise LinkDown(f"{what}: {error or type(error).__name__}; {part.offset} bytes are here") from error
        finally:
            with self._lock:
                self._socket = None
            connection.close()
        if part.missing:
            raise LinkDown(f"{what} ended after {part.offset} of {part.blob.size_bytes} bytes")

    def cancel(self) -> None:
        """End what is under way."""
        with self._lock:
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)  # wakes its reader, which close does not

    def close(self) -> None:
        self._closed = True
        self.cancel()

    def _checked(self, url: str) -> SplitResult:
        try:
            where = urlsplit(url)
            port = where.port
        except ValueError as error:
            raise Refused(f"the hub names a URL that cannot be read: {error}") from error
        if where.scheme != "https" and not (where.scheme == "http" and self._plain):
            raise Refused(
                f"the hub names a URL of scheme {where.scheme[:16]!r}: only https is allowed here, see update.plain_http"
            )
        odd = any(ord(letter) <= 32 or ord(letter) > 126 for letter in url)
        if not where.hostname or where.username is not None or odd or port == 0:
            raise Refused("the hub names a URL without a host, with a user, or with characters that none may have")
        return where

    def _connection(self, where: SplitResult) -> _Connection:
        host = where.hostname or ""
        if where.scheme == "http":
            return http.client.HTTPConnection(host, where.port, timeout=_CONNECT_S)
        tls = self._tls()
        tls.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return http.client.HTTPSConnection(host, where.port, timeout=_CONNECT_S, context=tls)

    def _keep(self, connection: _Connection, what: str) -> None:
        """Connect, so that ``close`` has something to end. Raises OSError, LinkDown."""
        connection.connect()
        connection.sock.settimeout(self._pace.silence_s)
        with self._lock:
            self._socket = connection.sock
        if self._closed:
            raise LinkDown(f"{what}: called off")

    def _read(self, connection: _Connection, where: SplitResult, part: Part, watch: Watch, what: str) -> None:
        deadline = time.monotonic() + self._total_timeout_s
        path = (where.path or "/") + (f"?{where.query}" if where.query else "")
        headers = {"Range": f"bytes={part.offset}-", "Accept-Encoding": "identity", "User-Agent": "edge-agent"}
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            _check(response, part, what)
            while data := response.read1(_READ_BYTES):
                part.take(data)
                watch.heard(len(data))
                if time.monotonic() > deadline:
                    raise LinkDown(f"{what} took longer than {self._total_timeout_s:.0f} s")
                if not part.missing:
                    return
        except (OSError, http.client.HTTPException):
            if watch.too_slow:
                raise TooSlow(f"{what} is slower than {self._pace.rate}; {part.offset} bytes are here") from None
            raise
        if watch.too_slow:
            raise TooSlow(f"{what} is slower than {self._pace.rate}; {part.offset} bytes are here")


def _check(response: http.client.HTTPResponse, part: Part, what: str) -> None:
    """Whether what follows is the rest of the blob."""
    status = response.status
    if status not in (200, 206):
        raise _refusal(status, what)
    if response.getheader("Content-Encoding", "identity") != "identity":
        raise Refused(f"{what}: it is encoded, which nobody asked for")
    if status == 200:
        if part.offset:
            raise Refused(f"{what}: the server does no ranges, and {part.offset} bytes are here")
        if response.length is not None:
            part.expect(response.length)
        return
    span = _RANGE.fullmatch(response.getheader("Content-Range", ""))
    if span is None:
        raise Corrupt(f"{what}: the server does not say which bytes it sends")
    first, last, total = (int(number) for number in span.groups())
    part.expect(total)
    if first != part.offset or last >= total:
        raise Corrupt(f"{what}: bytes from {first} to {last} came, asked for were those from {part.offset} on")
    if response.length is not None and response.length > part.missing:
        raise Endless(f"{what}: {response.length} bytes are announced, {part.missing} are missing")


def _refusal(status: int, what: str) -> AgentError:
    if 400 <= status < 500 and status not in _LATER:
        return Refused(f"{what}: status {status}")
    if 300 <= status < 400:
        return Refused(f"{what}: status {status}, and redirects are not followed")
    return LinkDown(f"{what}: status {status}")
