"""Rollouts by plan on the command line, and the picture of one."""

import io
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cloud_hub.app.hubctl.rollout_view import picture
from protos.contract.ids import DeviceId
from protos.contract.update import UpdateState
from protos.v1 import rollouts_pb2 as pb
from protos.v1 import twin_pb2
from tests.hub.hubctl.conftest import Run
from tests.hub.rpc.running import ADMIN, RunningHub
from tests.hub.rpc.test_rollouts import report

Ask = Callable[..., Any]

PLAN = """
model: {name}
version: 1
selector: {{line: {name}}}
waves: [{{count: 1}}, {{rest: true, approval: true}}]
soak_s: 0
"""


def _planned(hub: RunningHub, tmp_path: Path, name: str, more: str = "") -> str:
    """Three devices and a plan for them: its file."""
    for number in range(3):
        hub.device(f"cam-{name}-{number}")
        hub.services.fleet.set_labels(ADMIN, DeviceId(f"cam-{name}-{number}"), {"line": name})
    hub.publish(name)
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN.format(name=name) + more)
    return str(file)


def test_a_plan_is_created_approved_and_shown(hub: RunningHub, run: Run, ask: Ask, tmp_path: Path) -> None:
    made = ask("rollout", "create", "-f", _planned(hub, tmp_path, "cli"))
    assert (made["state"], made["plan"]["waves"][1]) == ("running", {"approval": True})
    report(hub, "cam-cli-0", UpdateState.COMMITTED)
    text = run("rollout", "status", made["id"]).stdout
    assert "waits for approval" in text and "1 device" in text and "the rest" in text
    status = ask("rollout", "status", made["id"])
    assert [wave["committed"] for wave in status["standings"]] == [1, 0] and "devices" not in status
    assert ask("rollout", "approve", made["id"])["standings"][1]["approved_by"] == "ada"
    report(hub, "cam-cli-1", UpdateState.FAILED)
    failed = ask("rollout", "devices", made["id"], "--state", "failed")
    assert [(device["device_id"], device["reason"]) for device in failed] == [("cam-cli-1", "why")]
    assert len(ask("rollout", "devices", made["id"], "--limit", "2")) == 2
    assert "cam-cli-1: why" in run("rollout", "status", made["id"]).stdout


def test_a_scheduled_plan_from_standard_input_is_started(hub: RunningHub, run: Run, ask: Ask, tmp_path: Path) -> None:
    plan = Path(_planned(hub, tmp_path, "stdin", "start: manual\n")).read_text()
    made = json.loads(run("--output", "json", "rollout", "create", "-f", "-", stdin=plan).stdout)
    assert made["state"] == "scheduled"
    assert ask("rollout", "start", made["id"])["state"] == "running"
    run("rollout", "start", made["id"], code=4)


def test_a_model_or_a_plan_but_not_both(hub: RunningHub, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("model: a\nversoin: 1\n")
    run("rollout", "create", code=2)
    run("rollout", "create", "a", "--version", "1", "-f", str(file), code=2)
    assert "versoin" in run("rollout", "create", "-f", str(file), code=4).stderr
    run("rollout", "create", "-f", str(tmp_path / "none"), code=4)


def test_on_a_terminal_a_watch_draws_a_picture_until_the_end(
    hub: RunningHub, run: Run, ask: Ask, config: Path, tmp_path: Path
) -> None:
    made = ask("rollout", "create", "-f", _planned(hub, tmp_path, "drawn"))
    leader, follower = pty.openpty()
    main = "from cloud_hub.app.hubctl import main; main()"
    command = [sys.executable, "-c", main, "--config", str(config), "rollout", "watch", made["id"]]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    with subprocess.Popen(command, stdout=follower, stderr=subprocess.PIPE, env=environment) as process:
        os.close(follower)
        drawn = io.BytesIO()

        def read() -> None:
            while True:
                try:
                    data = os.read(leader, 65536)
                except OSError:  # its end is closed
                    return
                if not data:
                    return
                drawn.write(data)
                if b"ON THE WAY" in drawn.getvalue() and not told.is_set():
                    told.set()

        told = threading.Event()
        reader = threading.Thread(target=read)
        reader.start()
        assert told.wait(30.0)
        ask("rollout", "abort", made["id"])
        assert process.wait(30.0) == 1
        reader.join()
        assert process.stderr is not None
        assert b"is aborted: aborted by ada" in process.stderr.read()
    os.close(leader)
    text = drawn.getvalue().decode()
    assert "\x1b[" in text and "COMMITTED" in text and "aborted by ada" in text


def _picture(rollout: pb.Rollout) -> str:
    text = io.StringIO()
    Console(file=text, width=160, highlight=False).print(picture(rollout))
    return text.getvalue()


def test_gates_are_shown_with_their_readings_and_limits() -> None:
    figure = pb.GateFigure(value=0.41, low=0.35, high=0.47, samples=260, devices=5)
    gate = pb.GateReading(
        metric="uncertain_rate",
        rule="max_rise",
        bound=0.1,
        versus="control",
        min_samples=200,
        outcome=pb.GATE_OUTCOME_BREACH,
        treated=figure,
        compared=pb.GateFigure(value=0.12),
    )
    waits = pb.GateReading(metric="crash_rate", rule="max", bound=2, min_samples=5, outcome=pb.GATE_OUTCOME_WAIT)
    lines = _picture(pb.Rollout(id="r", gates=[gate, waits])).splitlines()
    (line,) = [line for line in lines if "uncertain_rate" in line]
    assert line.split() == [
        "uncertain_rate",
        "<=",
        "control",
        "+",
        "0.1",
        "0.41",
        "0.35..0.47",
        "0.12",
        "260",
        "of",
        "200",
        "breach",
    ]
    (line,) = [line for line in lines if "crash_rate" in line]
    assert line.split() == ["crash_rate", "<=", "2", "-", "-", "-", "0", "of", "5", "wait"]


@pytest.mark.parametrize("rule", ["max", "min", "max_rise", "max_fall", "max_ratio"])
def test_every_rule_of_a_gate_has_a_sign(rule: str) -> None:
    gate = pb.GateReading(metric="m", rule=rule, bound=0.5, versus="before")
    assert "=" in _picture(pb.Rollout(id="r", gates=[gate]))


def test_nothing_that_a_device_says_steers_the_terminal() -> None:
    device = pb.RolloutDevice(device_id="cam", state=twin_pb2.UPDATE_STATE_FAILED, reason="\x1b[2J[bold]x")
    text = _picture(pb.Rollout(id="r", reason="\x1b]0;t\x07", devices=[device]))
    assert "\x1b]0" not in text and "\x1b[2J" not in text and "[bold]x" in text


def test_a_wave_that_soaks_says_until_when() -> None:
    wave = pb.RolloutWave(title="1 device", committed=1, started_at_ms=1, soaking_since_ms=1_700_000_000_000, soak_s=60)
    assert "soaks until 22:14:20 UTC" in _picture(pb.Rollout(id="r", state=pb.ROLLOUT_STATE_RUNNING, standings=[wave], waves=1))


def test_options_beside_a_plan_are_refused_for_the_plan_says_everything(run: Run, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN.format(name="beside"))
    for option in (
        ("--select", "site=north"),
        ("--canary", "1"),
        ("--soak", "60"),
        ("--max-failures", "0"),
        ("--version", "2"),
    ):
        said = run("rollout", "create", "-f", str(tmp_path / "plan.yaml"), *option, code=2).stderr
        assert f"leave out {option[0]}" in " ".join(said.replace("\u2502", " ").split())


def test_an_empty_plan_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("\n")
    said = run("rollout", "create", "-f", str(tmp_path / "plan.yaml"), code=4).stderr
    assert "plan.yaml is empty: a plan names a model" in said


def test_waves_count_from_1_in_every_table_and_from_0_for_scripts(hub: RunningHub, run: Run, ask: Ask, tmp_path: Path) -> None:
    id = ask("rollout", "create", "-f", _planned(hub, tmp_path, "counted"))["id"]
    (listed,) = (line.split() for line in run("rollout", "list").stdout.splitlines() if line.startswith(id))
    assert listed[5:7] == ["1", "2"]
    first = run("rollout", "devices", id).stdout.splitlines()[1].split()
    assert first[:2] == ["cam-counted-0", "1"]
    assert first[:2] in [line.split()[:2] for line in run("rollout", "get", id).stdout.splitlines()]
    assert [device["wave"] for device in ask("rollout", "devices", id)] == [0, 1, 1]
