"""Alerts as POST of JSON to a URL, signed."""

import hashlib
import hmac
import http.client
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from cloud_hub.alerting.body import letter_json
from cloud_hub.alerting.secrets import Secret
from cloud_hub.alerting.watchdog import Watchdog
from cloud_hub.core.errors import Invalid
from cloud_hub.core.notices import Letter, Route, SinkDown, SinkRefused

SIGNATURE = "X-Tideline-Signature"
_AGENT = "tideline-hub"
_MAX_REPLY_BYTES = 64 << 10
_SHOWN = 200  # characters of a reply in a reason
_REFUSED = (400, 413, 415, 422)  # this body will never be taken; all else may be mended on the other side


class WebhookSink:
    """HTTP or HTTPS with the other side's certificate verified. Redirects are not followed."""

    def __init__(self, route: Route, *, url: str, secret: Secret | None, ca_file: Path | None, timeout_s: float) -> None:
        """Raises Invalid."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise Invalid(f"sink {route.sink!r}: 'url' must be http://host/path or https://host/path without a password")
        if any(letter <= " " or letter > "~" for letter in url):
            raise Invalid(f"sink {route.sink!r}: 'url' must be printable ASCII without spaces")
        self.route = route
        self._host, self._port, self._secret, self._timeout_s = parts.hostname, _port(route, url), secret, timeout_s
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None

    def send(self, letter: Letter) -> None:
        body = letter_json(letter)
        headers = {"Content-Type": "application/json", "User-Agent": _AGENT}
        if self._secret is not None:
            headers[SIGNATURE] = signature(self._secret.read(), body)
        response, reply = self._ask(body, headers)
        _judge(response, reply)

    def _ask(self, body: bytes, headers: Mapping[str, str]) -> tuple[http.client.HTTPResponse, bytes]:
        connection, late = self._connection(), f"no answer within {self._timeout_s:g} s"
        with Watchdog(self._timeout_s) as watchdog:
            watchdog.over(lambda: connection.sock)
            try:
                connection.request("POST", self._path, body, headers)
                response = connection.getresponse()
                reply = response.read(_MAX_REPLY_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise SinkDown(late if watchdog.expired else f"{type(error).__name__}: {error}"[:_SHOWN]) from error
            finally:
                connection.close()
        if watchdog.expired:  # what was cut off in the middle looks like an answer
            raise SinkDown(late)
        return response, reply

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._tls)


def signature(secret: bytes, body: bytes) -> str:
    """What the header says: "sha256=" and the HMAC of the body's bytes in hex."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


def _judge(response: http.client.HTTPResponse, reply: bytes) -> None:
    if 200 <= response.status < 300:
        return
    text = " ".join(reply[:_SHOWN].decode(errors="replace").split())
    why = f"HTTP {response.status} {response.reason}: {text}"[: 2 * _SHOWN]
    if response.status in _REFUSED:
        raise SinkRefused(why)
    if 300 <= response.status < 400:
        why = f"HTTP {response.status}: redirects are not followed, set 'url' to where it leads"
    raise SinkDown(why, _retry_after_s(response.headers.get("Retry-After", "")))


def _retry_after_s(text: str) -> float | None:
    """Seconds or a date (RFC 9110, 10.2.3)."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _port(route: Route, url: str) -> int | None:
    try:
        return urlsplit(url).port
    except ValueError as error:
        raise Invalid(f"sink {route.sink!r}: 'url' has a port that is none") from error
