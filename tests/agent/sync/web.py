"""A web server that serves one blob with Range, honestly unless it is told otherwise."""

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.agent.sync.authority import Authority

Handle = Callable[[BaseHTTPRequestHandler, int], None]  # the request, and the offset that it asks for


@dataclass
class Web:
    """``answer``: what it does instead of the honest answer."""

    content: bytes
    answer: Handle | None = None
    requests: list[tuple[str, int]] = field(default_factory=list)  # path, offset
    headers: list[dict[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def start(self, *, authority: Authority | None = None, folder: Path | None = None, ask: bytes = b"") -> str:
        """Its URL; with an ``authority`` over TLS, and with ``ask`` clients show a certificate of this root."""
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                offset = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
                web.requests.append((self.path, offset))
                web.headers.append(dict(self.headers))
                (web.answer or web.honest)(self, offset)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if authority is not None and folder is not None:
            key, certificate = authority.issue("localhost")
            (folder / "web.key").write_bytes(key)
            (folder / "web.pem").write_bytes(certificate)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(folder / "web.pem", folder / "web.key")
            if ask:
                context.load_verify_locations(cadata=ask.decode())
                context.verify_mode = ssl.CERT_REQUIRED
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=lambda: self._server.serve_forever(0.02), daemon=True).start()
        scheme = "https" if authority is not None else "http"
        return f"{scheme}://localhost:{self._server.server_port}/blobs/one"

    def stop(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def honest(self, request: BaseHTTPRequestHandler, offset: int) -> None:
        head(request, offset, len(self.content) - 1, len(self.content))
        request.wfile.write(self.content[offset:])


def head(request: BaseHTTPRequestHandler, first: int, last: int, total: int, *, length: int | None = None) -> None:
    request.send_response(206)
    request.send_header("Content-Range", f"bytes {first}-{last}/{total}")
    request.send_header("Content-Length", str(last - first + 1 if length is None else length))
    request.end_headers()
