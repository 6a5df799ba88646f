"""Alerts on the command line."""

import json
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cloud_hub.app.hubctl import alert as command
from tests.hub.hubctl.conftest import Run
from tests.hub.rpc.running import ADMIN, RunningHub
from tests.hub.rpc.test_alerts import clone

Ask = Callable[..., Any]


def test_an_alert_is_listed_shown_acknowledged_and_resolved(hub: RunningHub, run: Run, ask: Ask) -> None:
    assert run("alert", "list").stderr == "no open alerts\n"
    clone(hub, "cam-alert")
    [alert] = ask("alert", "list", "--device", "cam-alert", "--severity", "critical")
    assert (alert["rule"], alert["severity"], alert["state"]) == ("cloned", "critical", "firing")
    assert alert["id"] in run("alert", "list", "--rule", "cloned").stdout
    assert ask("alert", "list", "--state", "resolved") == [] and ask("alert", "list", "--rule", "hot") == []
    assert "acknowledged by ada" in run("alert", "ack", alert["id"], "-m", "on it").stdout
    assert ask("alert", "get", alert["id"])["comment"] == "on it"
    run("alert", "ack", alert["id"], code=4)
    assert ask("alert", "resolve", alert["id"])["resolution"] == "by ada"
    assert ask("alert", "list") == []
    assert [one["id"] for one in ask("alert", "list", "--all")] == [alert["id"]]
    assert [one["id"] for one in ask("alert", "list", "--state", "resolved")] == [alert["id"]]
    run("alert", "get", "nothing", code=3)
    run("alert", "list", "--severity", "worst", code=2)


def test_rules_are_put_listed_printed_and_deleted(run: Run, ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("rules:\n  - {name: hot, above: 70, clear: 60}\n  - {name: moved, event: camera.*, severity: info}\n")
    assert run("alert", "rule", "put", "-f", str(path)).stdout == "stored hot, moved\n"
    rules = {one["name"]: one for one in ask("alert", "rule", "list")}
    assert (rules["moved"]["source"], rules["hot"]["built_in"], rules["offline"]["changed_at"]) == (
        "event camera.*",
        True,
        None,
    )
    printed = run("alert", "rule", "get", "hot").stdout
    assert "above: 70" in printed
    assert run("alert", "rule", "put", "-f", "-", stdin=printed).stdout == "stored hot\n"
    assert "did you mean 'above'" in run("alert", "rule", "put", "-f", "-", stdin="{name: hot, abov: 1}", code=4).stderr
    assert run("alert", "rule", "delete", "hot").stdout == "deleted alert rule hot\n"
    assert "above: 80" in run("alert", "rule", "get", "hot").stdout
    run("alert", "rule", "delete", "moved")
    run("alert", "rule", "get", "moved", code=3)
    run("alert", "rule", "delete", "hot", code=4)


def test_silences_are_made_for_a_while_listed_and_ended(run: Run, ask: Ask) -> None:
    made = ask("alert", "silence", "add", "--rule", "hot", "--label", "site=gate", "--for", "2h", "--reason", "heat")
    assert (made["rule"], made["labels"], made["severity"], made["created_by"]) == ("hot", {"site": "gate"}, None, "ada")
    assert made["id"] in run("alert", "silence", "list").stdout
    run("alert", "silence", "expire", made["id"])
    assert run("alert", "silence", "list").stderr == "no silences\n"
    assert [one["id"] for one in ask("alert", "silence", "list", "--all")] == [made["id"]]
    run("alert", "silence", "add", "--for", "2h", "--reason", "everything", code=4)
    run("alert", "silence", "add", "--rule", "hot", "--for", "two hours", "--reason", "x", code=2)


def test_sinks_are_listed_and_tried(run: Run, ask: Ask) -> None:
    assert ask("alert", "sinks") == [{"name": "log"}]
    assert run("alert", "test", "log").stdout == "sink log has taken a test alert\n"
    assert "no sink pager; there are: log" in run("alert", "test", "pager", code=3).stderr


def test_a_watch_prints_every_change_once_wherever_the_connection_breaks_off(
    hub: RunningHub, run: Run, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone(hub, "cam-watch")
    [alert] = ask("alert", "list", "--device", "cam-watch")

    def broken(call: Callable[[], Generator[Any, None, None]]) -> Iterator[Any]:
        """As ``watch`` calls again after a break: at once, and after something has happened meanwhile."""
        first = call()
        yield next(first)
        first.close()
        second = call()
        hub.services.alerts.acknowledge(ADMIN, alert["id"])
        yield next(second)
        second.close()
        hub.services.alerts.resolve(ADMIN, alert["id"])
        yield next(call())

    monkeypatch.setattr(command, "watched", broken)
    lines = [json.loads(line) for line in run("--output", "json", "alert", "watch").stdout.splitlines()]
    assert [(line["device_id"], line["state"]) for line in lines] == [
        ("cam-watch", "firing"), ("cam-watch", "acknowledged"), ("cam-watch", "resolved"),
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("7d", 604_800)])
def test_a_duration_has_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert command.span_s(text) == seconds
    with pytest.raises(typer.BadParameter):
        command.span_s(text + "?")
