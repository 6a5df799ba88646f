import logging
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_hub.alerting.log import LogSink
from cloud_hub.alerting.sinks import open_sinks
from cloud_hub.core.alert_rules import Severity
from cloud_hub.core.config import AlertsConfig, HubConfig, SinkConfig, load
from cloud_hub.core.errors import Invalid
from cloud_hub.core.notices import News
from tests.hub.alerting.parts import alert, letter


def no_broker(topic: str, payload: bytes, *, retain: bool, timeout_s: float) -> bool:
    return False


HOOK = SinkConfig(name="hook", kind="webhook", url="https://example.org/hook")


def test_sinks_are_made_of_the_configuration_and_the_log_is_always_one(tmp_path: Path) -> None:
    assert HubConfig().alerts.sinks == ()
    (tmp_path / "secret").write_text("s")
    path = tmp_path / "hub.yaml"
    path.write_text(
        f"""
        alerts:
          repeat_s: 600
          sinks:
            - {{name: hook, kind: webhook, url: "https://example.org/x", secret_file: {tmp_path}/secret, tenants: [acme]}}
            - {{name: mail, kind: smtp, host: mail, sender: h@example.org, recipients: [a@example.org], min_severity: critical}}
            - {{name: bus, kind: mqtt, topic: ops}}
        """
    )
    config = load(path, {})
    assert config.alerts.repeat_s == 600.0
    routes = [sink.route for sink in open_sinks(config.alerts, no_broker)]
    assert [route.sink for route in routes] == ["log", "hook", "mail", "bus"]
    assert (routes[1].tenants, routes[2].min_severity) == (frozenset({"acme"}), Severity.CRITICAL)


@pytest.mark.parametrize(
    ("sink", "problem"),
    [
        (replace(HOOK, kind="webhok"), "'kind' must be one of webhook, smtp, mqtt.*did you mean 'webhook'"),
        (replace(HOOK, name="log"), "'log' stands there twice, or is the log's own"),
        (replace(HOOK, name="Hook 1"), "'name' or 'tenants' of 'Hook 1'"),
        (replace(HOOK, tenants=("A",)), "'name' or 'tenants'"),
        (replace(HOOK, min_severity="error"), "severity must be one of"),
        (replace(HOOK, timeout_s=600.0), "'timeout_s' must be in"),
        (replace(HOOK, ca_file=Path("/nowhere")), "'ca_file' /nowhere cannot be used"),
        (replace(HOOK, secret_file=Path("/nowhere")), "secret_file /nowhere cannot be read"),
        (SinkConfig(name="bus", kind="mqtt", topic="a/#"), "'topic' must be"),
    ],
)
def test_what_is_wrong_with_a_sink_is_said_with_its_name_and_key(sink: SinkConfig, problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        open_sinks(AlertsConfig(sinks=(sink,)), no_broker)


def test_the_log_has_a_line_for_each_alert_at_its_severity(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        LogSink().send(letter(alert(), alert(severity=Severity.CRITICAL)))
        LogSink().send(letter(news=News.RESOLVED))
    lines = [record for record in caplog.records if record.message == "alert"]
    assert [record.levelname for record in lines] == ["WARNING", "ERROR", "INFO"]
    assert lines[0].__dict__["event"] == "fired" and lines[0].__dict__["device"] == "cam-1"
