import base64
import socket
import time
from email.header import decode_header, make_header
from pathlib import Path
from typing import Any

import pytest

from cloud_hub.alerting import smtp
from cloud_hub.alerting.secrets import Secret
from cloud_hub.alerting.smtp import SmtpSink, compose
from cloud_hub.core.errors import Invalid
from cloud_hub.core.notices import SinkDown, SinkRefused
from tests.hub.alert_parts import routed
from tests.hub.alerting.parts import MailServer, alert, letter, mail_server, make_certificate

SENDER, RECIPIENTS = "hub@example.org", ("ada@example.org", "grace@example.org")


def sink(mail: MailServer, **values: Any) -> SmtpSink:
    standard: dict[str, Any] = {
        "host": "127.0.0.1", "port": mail.port, "starttls": mail.context is not None, "user": "", "password": None,
        "sender": SENDER, "recipients": RECIPIENTS, "ca_file": None, "timeout_s": 5.0,
    }  # fmt: skip
    return SmtpSink(routed("mail"), **{**standard, **values})


def test_a_letter_is_one_mail_to_everyone() -> None:
    with mail_server(MailServer()) as mail:
        sink(mail).send(letter(alert(), alert(id="a2", device="cam-2")))
    message = mail.mail()
    assert mail.recipients == [f"<{one}>" for one in RECIPIENTS]
    assert str(make_header(decode_header(message["Subject"]))) == "2 alerts: [warning] fired: cam-1 is at 85 °C"
    assert (message["From"], message["Auto-Submitted"]) == (SENDER, "auto-generated")
    assert message["Message-ID"] == "<alerts-default-1@example.org>"
    body = message.get_payload(decode=True)
    assert isinstance(body, bytes)
    text = body.decode()
    assert "device cam-1 site=gate" in text and "device cam-2" in text and "value 85, threshold 80" in text


def test_the_password_goes_over_tls_only_and_the_server_is_verified(tmp_path: Path) -> None:
    ca, context = make_certificate(tmp_path)
    path = tmp_path / "password"
    path.write_text("pässword\n")
    path.chmod(0o600)
    login = {"user": "hub", "password": Secret(path)}
    with mail_server(MailServer(context=context)) as mail:
        with pytest.raises(SinkDown, match="CERTIFICATE_VERIFY_FAILED"):
            sink(mail, **login).send(letter())
        assert not [line for line in mail.lines if line.startswith("AUTH")]
        sink(mail, ca_file=ca, **login).send(letter())
    words = [line for line in mail.lines if line.startswith("AUTH")]
    assert base64.b64decode(words[0].split()[2]) == "\0hub\0pässword".encode()
    assert mail.lines.index("STARTTLS") < mail.lines.index(words[0]) and len(mail.mails) == 1
    with pytest.raises(Invalid, match="a password needs 'starttls: true' or port 465"):
        sink(mail, starttls=False, **login)


def test_a_server_without_starttls_gets_nothing() -> None:
    with mail_server(MailServer()) as mail, pytest.raises(SinkDown, match="STARTTLS"):
        sink(mail, starttls=True).send(letter())
    assert mail.mails == []


def test_tls_from_the_first_byte_on_its_own_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca, context = make_certificate(tmp_path)
    with mail_server(MailServer(context=context, implicit_tls=True)) as mail:
        monkeypatch.setattr(smtp, "_TLS_PORT", mail.port)
        sink(mail, ca_file=ca).send(letter())
    assert len(mail.mails) == 1 and "STARTTLS" not in mail.lines


@pytest.mark.parametrize(
    ("verb", "reply", "error", "words"),
    [
        ("BODY", "554 looks like spam", SinkRefused, "SMTP 554: looks like spam"),
        ("BODY", "452 disk full", SinkDown, "SMTP 452"),
        ("MAIL", "550 who are you", SinkDown, "SMTP 550|SMTPSenderRefused"),
        ("RCPT", "550 nobody here", SinkDown, "SMTPRecipientsRefused"),
        ("EHLO", "421 go away", SinkDown, "SMTP"),
    ],
)
def test_what_the_server_says_is_for_later_or_for_ever(verb: str, reply: str, error: type[Exception], words: str) -> None:
    with mail_server(MailServer(replies={verb: reply, "HELO": reply})) as mail, pytest.raises(error, match=words):
        sink(mail).send(letter())


def test_a_server_that_drips_costs_no_more_than_the_timeout() -> None:
    with mail_server(MailServer(drip=True)) as mail:
        started = time.monotonic()
        with pytest.raises(SinkDown, match="no answer within 0.3 s"):
            sink(mail, timeout_s=0.3).send(letter())
        assert time.monotonic() - started < 20, "it was cut by the other end"


def test_nobody_there_is_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(SinkDown, match="refused"):
        sink(MailServer(port=port)).send(letter())


def test_nothing_a_device_or_a_rule_says_becomes_a_header_of_its_own() -> None:
    evil = alert(
        summary="hot\r\nBcc: eve@example.org\r\n\r\nbody\x1b[2J" + "x" * 500,
        labels={"site": "gate\nX: y"},
        resolution="a\r\n.\r\n",
    )
    with mail_server(MailServer()) as mail:
        sink(mail).send(letter(evil))
    message = mail.mail()
    assert message["Bcc"] is None and message["X"] is None and len(mail.recipients) == 2 and len(mail.mails) == 1
    assert str(make_header(decode_header(message["Subject"]))).startswith("[warning] fired: hot Bcc: eve@example.org body")


def test_a_storm_is_one_short_mail() -> None:
    message = compose(letter(*(alert(id=f"a{number}") for number in range(400))), SENDER, RECIPIENTS)
    assert "... and 350 more: hubctl alert list" in message.get_content()


@pytest.mark.parametrize(
    "values",
    [
        {"host": ""}, {"recipients": ()}, {"sender": "hub"}, {"recipients": ("a@b.c\r\nBcc: d@e.f",)}, {"sender": "a@b.c>"},
        {"user": "hub"},
    ],
)  # fmt: skip
def test_what_cannot_be_a_mail_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="sink 'mail'"):
        sink(MailServer(), **values)
