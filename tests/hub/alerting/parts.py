"""Letters, and real peers that take them: an HTTP server and an SMTP server that behave as they are told."""

import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloud_hub.core.alert_rules import Severity
from cloud_hub.core.alerts import Alert, AlertState
from cloud_hub.core.notices import Letter, News, Notice
from protos.contract.ids import TenantId

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def alert(**values: Any) -> Alert:
    standard: dict[str, Any] = {
        "id": "a1", "tenant": TenantId("default"), "rule": "hot", "device": "cam-1", "key": "", "labels": {"site": "gate"},
        "source": "device.temperature_c", "severity": Severity.WARNING, "state": AlertState.FIRING, "repeats": 0,
        "summary": "cam-1 is at 85 °C", "value": 85.0, "threshold": 80.0, "fired_at": AT, "updated_at": AT,
    }  # fmt: skip
    return Alert(**{**standard, **values})


def letter(*alerts: Alert, news: News = News.FIRED) -> Letter:
    notices = tuple(Notice(id=str(number), news=news, alert=one) for number, one in enumerate(alerts or (alert(),), start=1))
    return Letter(id=notices[0].id, tenant=notices[0].alert.tenant, notices=notices, at=AT)


@dataclass
class Site:
    """An HTTP server. ``answers`` are given one after the other, the last one for ever."""

    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=lambda: [(200, {}, b"ok")])
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    hang: str = ""  # "before", "drip" or "": how it fails to answer
    ended: threading.Event = field(default_factory=threading.Event)
    url: str = ""


@contextmanager
def http_site(site: Site, context: ssl.SSLContext | None = None) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            site.requests.append((self.path, {key.lower(): value for key, value in self.headers.items()}, body))
            if site.hang == "before":
                site.ended.wait(30)
                return
            if site.hang == "drip":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not site.ended.wait(0.05):
                    self.wfile.write(b"x")
                return
            status, headers, reply = site.answers[0] if len(site.answers) == 1 else site.answers.pop(0)
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:  # peers that hang up are what is tested
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    site.url = f"http{'s' if context else ''}://127.0.0.1:{server.server_port}/hook?team=a"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield site
    finally:
        site.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def make_certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Self-signed for 127.0.0.1 and localhost: the CA file, and a server's context."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, key_file = folder / "site.pem", folder / "site.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key_file)
    return pem, context


@dataclass
class MailServer:
    """An SMTP server of one exchange at a time, as RFC 5321 has it; ``replies`` replaces the answer to a verb."""

    context: ssl.SSLContext | None = None  # offers STARTTLS
    implicit_tls: bool = False
    replies: dict[str, str] = field(default_factory=dict)
    drip: bool = False  # greets a letter at a time, and never ends
    lines: list[str] = field(default_factory=list)
    mails: list[bytes] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def mail(self, number: int = -1) -> Message:
        return message_from_bytes(self.mails[number])

    def serve(self, sock: socket.socket) -> None:
        if self.context is not None and self.implicit_tls:
            sock = self.context.wrap_socket(sock, server_side=True)
        if self.drip:
            while not self.ended.wait(0.05):
                sock.sendall(b"2")
            return
        stream = sock.makefile("rwb", buffering=0)
        stream.write(b"220 mail.test ESMTP\r\n")
        while line := stream.readline().decode().rstrip("\r\n"):
            self.lines.append(line)
            verb = line.split()[0].upper()
            reply = self.replies.get(verb) or self._reply(verb, line)
            stream.write(reply.encode() + b"\r\n")
            if verb == "STARTTLS" and reply.startswith("220") and self.context is not None:
                sock = self.context.wrap_socket(sock, server_side=True)
                stream = sock.makefile("rwb", buffering=0)
            elif verb == "DATA" and reply.startswith("354"):
                self._take(stream)
                stream.write((self.replies.get("BODY") or "250 queued").encode() + b"\r\n")
            elif verb == "QUIT":
                return

    def _reply(self, verb: str, line: str) -> str:
        if verb == "EHLO":
            tls = "250-STARTTLS\r\n" if self.context is not None and not self.implicit_tls else ""
            return f"250-mail.test\r\n{tls}250-AUTH PLAIN\r\n250 8BITMIME"
        if verb == "RCPT":
            self.recipients.append(line.partition(":")[2])
        return {"STARTTLS": "220 go ahead", "AUTH": "235 welcome", "DATA": "354 go ahead", "QUIT": "221 bye"}.get(
            verb, "250 ok"
        )

    def _take(self, stream: Any) -> None:
        lines = []
        while (line := stream.readline()) not in (b".\r\n", b""):
            lines.append(line[1:] if line.startswith(b"..") else line)
        self.mails.append(b"".join(lines))


@contextmanager
def mail_server(mail: MailServer) -> Iterator[MailServer]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            mail.serve(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:  # peers that hang up are what is tested
            pass

    server = Server(("127.0.0.1", 0), Handler)
    mail.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield mail
    finally:
        mail.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
