"""Alerts as mail."""

import base64
import re
import smtplib
import ssl
from collections.abc import Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path

from cloud_hub.alerting.secrets import Secret
from cloud_hub.alerting.watchdog import Watchdog
from cloud_hub.core.errors import Invalid
from cloud_hub.core.notices import Letter, Notice, Route, SinkDown, SinkRefused

_TLS_PORT = 465  # TLS from the first byte
_SHOWN = 50  # alerts written out in one mail
_MAX_SUBJECT = 150
_ADDRESS = re.compile(r"[^\s<>,;:\"@]{1,64}@[A-Za-z0-9.-]{1,255}")


class SmtpSink:
    """STARTTLS with the server's certificate verified, or TLS from the first byte on port 465."""

    def __init__(
        self,
        route: Route,
        *,
        host: str,
        port: int,
        starttls: bool,
        user: str,
        password: Secret | None,
        sender: str,
        recipients: Sequence[str],
        ca_file: Path | None,
        timeout_s: float,
    ) -> None:
        """Raises Invalid."""
        where = f"sink {route.sink!r}"
        if not host or not recipients:
            raise Invalid(f"{where}: 'host' and 'recipients' are needed")
        for address in (sender, *recipients):
            if not _ADDRESS.fullmatch(address):
                raise Invalid(f"{where}: 'sender' and 'recipients' must be addresses as a@example.org, got {address!r}")
        if bool(user) != (password is not None):
            raise Invalid(f"{where}: 'user' and 'secret_file' go together")
        if user and not starttls and port != _TLS_PORT:
            raise Invalid(f"{where}: a password needs 'starttls: true' or port {_TLS_PORT}")
        self.route = route
        self._host, self._port, self._starttls = host, port, starttls
        self._user, self._password = user, password
        self._sender, self._recipients = sender, tuple(recipients)
        self._tls = ssl.create_default_context(cafile=ca_file)
        self._timeout_s = timeout_s

    def send(self, letter: Letter) -> None:
        message, late = compose(letter, self._sender, self._recipients), f"no answer within {self._timeout_s:g} s"
        with Watchdog(self._timeout_s) as watchdog:
            try:
                with self._connect(watchdog) as client:
                    self._converse(client, message)
            except (OSError, smtplib.SMTPException) as error:
                raise (SinkDown(late) if watchdog.expired else _verdict(error)) from error
        if watchdog.expired:  # what was cut off in the middle looks like an answer
            raise SinkDown(late)

    def _connect(self, watchdog: Watchdog) -> smtplib.SMTP:
        if self._port == _TLS_PORT:
            return _TlsClient(self._host, self._port, self._timeout_s, watchdog, self._tls)
        return _Client(self._host, self._port, self._timeout_s, watchdog)

    def _converse(self, client: smtplib.SMTP, message: EmailMessage) -> None:
        if self._starttls and self._port != _TLS_PORT:
            client.starttls(context=self._tls)
        if self._user and self._password is not None:
            _log_in(client, self._user, self._password.read())
        client.send_message(message, from_addr=self._sender, to_addrs=self._recipients)


class _Client(smtplib.SMTP):
    """Watched from before it connects: the constructor of its parent talks to the server."""

    def __init__(self, host: str, port: int, timeout_s: float, watchdog: Watchdog) -> None:
        watchdog.over(lambda: self.sock)
        super().__init__(host, port, timeout=timeout_s)


class _TlsClient(smtplib.SMTP_SSL):
    def __init__(self, host: str, port: int, timeout_s: float, watchdog: Watchdog, context: ssl.SSLContext) -> None:
        watchdog.over(lambda: self.sock)
        super().__init__(host, port, timeout=timeout_s, context=context)


def _log_in(client: smtplib.SMTP, user: str, password: bytes) -> None:
    if user.isascii() and password.isascii():
        client.login(user, password.decode())
        return
    words = base64.b64encode(b"\0" + user.encode() + b"\0" + password).decode()  # RFC 4616; smtplib knows ASCII only
    code, reply = client.docmd("AUTH", f"PLAIN {words}")
    if code != 235:
        raise smtplib.SMTPAuthenticationError(code, reply)


def _verdict(error: Exception) -> SinkDown | SinkRefused:
    """Only the mail itself can be refused for ever: senders, recipients and passwords can be mended."""
    if isinstance(error, smtplib.SMTPResponseException):
        why = _said(error.smtp_code, error.smtp_error)
        refused = isinstance(error, smtplib.SMTPDataError) and error.smtp_code >= 500
        return SinkRefused(why) if refused else SinkDown(why)
    return SinkDown(f"{type(error).__name__}: {error}"[:500])


def compose(letter: Letter, sender: str, recipients: Sequence[str]) -> EmailMessage:
    """Nothing that a device or a rule says gets into a header but as one line of the subject."""
    message = EmailMessage()
    message["From"] = _address(sender)
    message["To"] = tuple(_address(one) for one in recipients)
    message["Date"] = format_datetime(letter.at)
    message["Subject"] = _line(_subject(letter))[:_MAX_SUBJECT]
    message["Message-ID"] = f"<alerts-{letter.tenant}-{letter.id}@{sender.rpartition('@')[2]}>"  # a repeat is recognised by it
    message["Auto-Submitted"] = "auto-generated"  # no vacation replies (RFC 3834)
    lines = [_paragraph(notice) for notice in letter.notices[:_SHOWN]]
    if len(letter.notices) > _SHOWN:
        lines.append(f"... and {len(letter.notices) - _SHOWN} more: hubctl alert list\n")
    message.set_content("\n".join(lines))
    return message


def _subject(letter: Letter) -> str:
    first = letter.notices[0]
    head = f"[{first.alert.severity.name.lower()}] {first.news.value}: {first.alert.summary}"
    return head if len(letter.notices) == 1 else f"{len(letter.notices)} alerts: {head}"


def _paragraph(notice: Notice) -> str:
    alert = notice.alert
    facts = [f"{notice.news.value.upper()} {alert.severity.name.lower()}: {_line(alert.summary)}"]
    facts.append(f"  rule {alert.rule}, alert {alert.id}, tenant {alert.tenant}")
    if alert.device:
        labels = " ".join(f"{key}={value}" for key, value in alert.labels.items())
        facts.append(f"  device {alert.device} {labels}".rstrip())
    facts.append(f"  fired {alert.fired_at:%Y-%m-%d %H:%M:%S} UTC, value {alert.value:.6g}, threshold {alert.threshold:.6g}")
    if alert.resolved_at is not None:
        facts.append(f"  resolved {alert.resolved_at:%Y-%m-%d %H:%M:%S} UTC: {_line(alert.resolution)}")
    elif alert.acknowledged_at is not None:
        facts.append(f"  acknowledged by {_line(alert.acknowledged_by)}: {_line(alert.comment)}")
    return "\n".join(facts) + "\n"


def _address(text: str) -> Address:
    return Address(addr_spec=text)


def _line(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _said(code: int, text: bytes | str) -> str:
    return f"SMTP {code}: {_line(text.decode(errors='replace') if isinstance(text, bytes) else text)}"[:500]
