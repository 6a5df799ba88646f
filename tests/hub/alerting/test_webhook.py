import hashlib
import hmac
import json
import logging
import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from cloud_hub.alerting.secrets import Secret
from cloud_hub.alerting.webhook import WebhookSink
from cloud_hub.core.alerts import AlertState
from cloud_hub.core.errors import Invalid
from cloud_hub.core.notices import News, SinkDown, SinkRefused
from tests.hub.alert_parts import routed
from tests.hub.alerting.parts import Site, alert, http_site, letter, make_certificate


def sink(url: str, *, secret: Secret | None = None, ca: Path | None = None, timeout_s: float = 5.0) -> WebhookSink:
    return WebhookSink(routed("hook"), url=url, secret=secret, ca_file=ca, timeout_s=timeout_s)


def test_a_letter_is_one_signed_post_of_json_with_every_alert_in_it(tmp_path: Path) -> None:
    key = tmp_path / "secret"
    key.write_text("s3cret\n")
    key.chmod(0o600)
    with http_site(Site()) as site:
        resolved = alert(id="a2", device="cam-2", state=AlertState.RESOLVED, resolved_at=alert().fired_at)
        sink(site.url, secret=Secret(key)).send(letter(alert(), resolved))
    [(path, headers, body)] = site.requests
    assert path == "/hook?team=a"
    assert headers["content-type"] == "application/json"
    assert headers["x-tideline-signature"] == "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    told = json.loads(body)
    assert (told["version"], told["id"], told["tenant"], told["sent_at"]) == (1, "1", "default", "2026-03-01T12:00:00.000Z")
    assert [(one["notice"], one["event"], one["device"], one["state"]) for one in told["alerts"]] == [
        ("1", "fired", "cam-1", "firing"),
        ("2", "fired", "cam-2", "resolved"),
    ]
    assert told["alerts"][0]["summary"] == "cam-1 is at 85 °C" and told["alerts"][0]["resolved_at"] is None


@pytest.mark.parametrize(
    ("status", "headers", "error", "after_s"),
    [
        (500, {}, SinkDown, None),
        (503, {"Retry-After": "120"}, SinkDown, 120.0),
        (429, {"Retry-After": "soon"}, SinkDown, None),
        (401, {}, SinkDown, None),
        (404, {}, SinkDown, None),
        (400, {}, SinkRefused, None),
        (413, {}, SinkRefused, None),
    ],
)
def test_an_answer_says_whether_to_try_again_and_when(
    status: int, headers: dict[str, str], error: type[Exception], after_s: float | None
) -> None:
    with (
        http_site(Site(answers=[(status, headers, b"no\x1b way")])) as site,
        pytest.raises(error, match=f"HTTP {status}") as told,
    ):
        sink(site.url).send(letter())
    assert getattr(told.value, "retry_after_s", None) == after_s


def test_a_date_says_when_too() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    with http_site(Site(answers=[(503, {"Retry-After": later}, b"")])) as site, pytest.raises(SinkDown) as told:
        sink(site.url).send(letter())
    assert told.value.retry_after_s is not None and 80 < told.value.retry_after_s <= 90


def test_a_redirect_is_not_followed_and_says_so() -> None:
    with http_site(Site()) as target:
        away = Site(answers=[(302, {"Location": target.url}, b"")])
        with http_site(away) as site, pytest.raises(SinkDown, match="redirects are not followed"):
            sink(site.url).send(letter())
    assert target.requests == []


@pytest.mark.parametrize("how", ["before", "drip"])
def test_a_site_that_never_answers_costs_no_more_than_the_timeout(how: str) -> None:
    with http_site(Site(hang=how)) as site:
        started = time.monotonic()
        with pytest.raises(SinkDown, match="no answer within 0.3 s|timed out"):
            sink(site.url, timeout_s=0.3).send(letter())
        assert time.monotonic() - started < 20, "it was cut by the other end"


def test_an_endless_reply_is_read_only_so_far() -> None:
    with http_site(Site(answers=[(500, {}, b"x" * 5_000_000)])) as site, pytest.raises(SinkDown) as told:
        sink(site.url).send(letter())
    assert len(str(told.value)) < 500


def test_nobody_there_is_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(SinkDown, match="ConnectionRefused"):
        sink(f"http://127.0.0.1:{port}/").send(letter())


def test_a_certificate_is_verified_against_the_system_or_the_given_authority(tmp_path: Path) -> None:
    ca, context = make_certificate(tmp_path)
    with http_site(Site(), context) as site:
        with pytest.raises(SinkDown, match="CERTIFICATE_VERIFY_FAILED"):
            sink(site.url).send(letter())
        sink(site.url, ca=ca).send(letter(news=News.REPEATED))
    assert [json.loads(body)["alerts"][0]["event"] for _, _, body in site.requests] == ["repeated"]


@pytest.mark.parametrize(
    "url", ["", "ftp://host/", "file:///etc/passwd", "http://", "https://a:b@host/", "http://host/a b", "http://host:99999/"]
)
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="sink 'hook': 'url'"):
        sink(url)


def test_a_secret_comes_from_a_file_of_its_own_is_read_anew_and_never_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "secret"
    with pytest.raises(Invalid, match="secret_file .* cannot be read"):
        Secret(path)
    path.write_text("first")
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        secret = Secret(path)
    assert "chmod 600" in caplog.text and "first" not in caplog.text + repr(secret)
    path.write_text("second\n")
    assert secret.read() == b"second"
    path.unlink()
    with pytest.raises(SinkDown, match="cannot be read"):
        secret.read()
