"""Rollouts, telemetry and drift on the command line."""

import csv
import io
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from protos.contract.update import UpdateState
from tests.hub.hubctl.conftest import Run
from tests.hub.rpc.running import ADMIN, RunningHub
from tests.hub.rpc.test_rollouts import report
from tests.hub.rpc.test_telemetry import land

Ask = Callable[..., Any]


@pytest.mark.parametrize(
    ("outcome", "code", "state"), [(UpdateState.COMMITTED, 0, "succeeded"), (UpdateState.FAILED, 1, "failed")]
)
def test_watching_a_rollout_ends_as_the_rollout_does(
    hub: RunningHub, run: Run, ask: Ask, outcome: UpdateState, code: int, state: str
) -> None:
    name = f"roll-{state}"
    hub.device(f"cam-{name}")
    hub.publish(name)
    options = ("--alias", "challenger", "--select", f"id=cam-{name}", "--canary", "0", "--soak", "0")
    created = ask("rollout", "create", name, *options)
    assert (created["version"], created["state"], created["selector"]) == (1, "running", {"match": {"id": f"cam-{name}"}})
    device = threading.Thread(target=report, args=(hub, f"cam-{name}", outcome))
    device.start()
    result = run("rollout", "watch", created["id"], code=code)
    device.join()
    assert result.stdout.splitlines()[-1].startswith(f"rollout {created['id']}: {state}")
    if code:
        assert result.stderr.splitlines()[-1].startswith(f"error: rollout {created['id']} is failed")
    last = json.loads(run("--output", "json", "rollout", "watch", created["id"], code=code).stdout.splitlines()[-1])
    assert last["state"] == state
    assert f"cam-{name}" in run("rollout", "get", created["id"]).stdout


def test_a_rollout_is_steered(hub: RunningHub, run: Run, ask: Ask) -> None:
    hub.device("cam-steer")
    hub.publish("steer")
    id = ask("rollout", "create", "steer", "--version", "1", "--select", "id=cam-steer")["id"]
    assert [r["id"] for r in ask("rollout", "list", "--active")] == [id]
    assert "paused" in run("rollout", "pause", id).stdout
    assert ask("rollout", "resume", id)["state"] == "running"
    assert ask("rollout", "abort", id)["state"] == "aborted"
    run("rollout", "pause", id, code=4)
    assert ask("rollout", "rollback", id)["state"] == "rolled_back"
    assert id in run("rollout", "list").stdout
    hub.publish("steer")
    newer = ask("rollout", "create", "steer", "--version", "2", "--select", "id=cam-steer")["id"]
    assert [r["id"] for r in ask("rollout", "list", "--limit", "1")] == [newer]
    run("rollout", "create", "steer", "--alias", "nobody", code=3)


def test_readings_are_printed_as_a_table_as_lines_and_as_csv(hub: RunningHub, run: Run) -> None:
    hub.device("cam-read")
    land(hub, "cam-read", 20)
    query = ("telemetry", "query", "--device", "cam-read", "--since", "2026-01-01T00:00:05Z", "--until", "2026-01-01T00:00:08")
    table = run(*query).stdout.splitlines()
    assert len(table) == 4 and "CAPTURED AT" in table[0] and "cam-read" in table[1]
    lines = [json.loads(line) for line in run("--output", "json", *query).stdout.splitlines()]
    assert [line["sequence"] for line in lines] == [5, 6, 7]
    assert lines[0]["captured_at"] == "2026-01-01T00:00:05.000Z"
    rows = list(csv.DictReader(io.StringIO(run(*query, "--output", "csv").stdout)))
    assert [row["label_name"] for row in rows] == ["dog", "cat", "dog"]
    assert len(run("--output", "json", "telemetry", "query", "--device", "cam-read", "--limit", "0").stdout.splitlines()) == 20
    assert run("--output", "json", *query[:4], "--since", "1h").stdout == ""


def test_stats_events_and_quarantine_are_listed(hub: RunningHub, run: Run, ask: Ask) -> None:
    hub.device("cam-sums")
    land(hub, "cam-sums", 4)
    with hub.db.write() as tx:
        topic = f"tl/v1/{ADMIN.tenant}/cam-sums/up/status"
        hub.services.telemetry.quarantine(tx, topic, b"\x1b]0;owned\x07", "not a \x1b[2Jstatus")
    assert ask("telemetry", "stats", "--device", "cam-sums")["devices"][0]["records"] == 5
    assert "quarantined messages: 1" in run("telemetry", "stats").stderr
    assert ask("telemetry", "events", "--device", "cam-sums")[0]["kind"] == "agent.started"
    assert "\x1b" not in run("telemetry", "quarantine", "list").stdout
    assert ask("telemetry", "quarantine", "list")[0]["count"] == 1


def test_drift_is_listed(run: Run, ask: Ask) -> None:
    assert ask("drift", "episodes", "--open") == []
    assert ask("drift", "windows", "--limit", "5") == []
    assert run("drift", "episodes").stderr == "no drift\n"
