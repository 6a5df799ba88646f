"""Queries, sums, tails and quarantine on the command line."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_hub.services import tails
from protos.contract import codec, topics
from protos.contract.ids import DeviceId
from protos.contract.telemetry import Lane
from tests.hub.hubctl.conftest import Run
from tests.hub.rpc.running import ADMIN, RunningHub
from tests.hub.rpc.test_telemetry import land, made

Ask = Callable[..., Any]
DEADLINE_S = 30.0


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_filters_leave_out_what_they_say(hub: RunningHub, run: Run) -> None:
    for device, group in (("door-1", "doors"), ("door-2", "doors"), ("roof-1", "roofs")):
        hub.services.enrollment.create_device(ADMIN, device, "camera-x86", {"group": group})
        land(hub, device, 4)
    query = ("--output", "json", "telemetry", "query")
    assert {row["device_id"] for row in lines(run(*query, "--group", "doors").stdout)} == {"door-1", "door-2"}
    assert {row["device_id"] for row in lines(run(*query, "-l", "group=roofs").stdout)} == {"roof-1"}
    assert {row["device_id"] for row in lines(run(*query, "--model", "model-door-2").stdout)} == {"door-2"}
    assert run(*query, "--group", "doors", "--uncertain").stdout == ""
    assert len(lines(run(*query, "--group", "doors", "--certain", "--not-captured").stdout)) == 8
    assert "no published model" in run(*query, "--model", "nobody", code=3).stderr
    assert "each key once" in run(*query, "--group", "doors", "-l", "group=roofs", code=2).stderr


def test_a_window_sums_up(hub: RunningHub, run: Run) -> None:
    land(hub, "cam-sums", 7200)
    query = ("telemetry", "query", "--device", "cam-sums", "--window", "1h")
    table = run(*query).stdout.splitlines()
    assert len(table) == 3
    assert table[0].split()[:4] == ["START", "READINGS", "UNCERTAIN", "CAPTURED"] and "LATENCY MS P95" in table[0]
    rows = lines(run("--output", "json", *query, "--by", "label,device", "--field", "confidence").stdout)
    assert [(row["start"], row["label"], row["device_id"], row["readings"]) for row in rows] == [
        (f"2026-01-01T{hour:02}:00:00.000Z", label, "cam-sums", 1800) for hour in (0, 1) for label in ("cat", "dog")
    ]
    assert rows[0]["confidence_p50"] == 0.5 and rows[0]["confidence_approximate"] is False
    assert not any(key.startswith("latency") for key in rows[0])
    [whole] = list(csv.DictReader(io.StringIO(run(*query[:-1], "0s", "--output", "csv").stdout)))
    assert (whole["readings"], whole["latency_ms_mean"]) == ("7200", "1.5")


@pytest.mark.parametrize(
    "words",
    [
        ("--window", "soon"),
        ("--window", "1h", "--uncertain"),
        ("--by", "device"),
        ("--field", "confidence"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_the_hub_is_asked(run: Run, words: tuple[str, ...]) -> None:
    run("telemetry", "query", *words, code=2)


def test_a_sum_over_what_does_not_exist_is_refused_by_the_hub(run: Run) -> None:
    assert "must be one of" in run("telemetry", "query", "--window", "1h", "--by", "colour", code=4).stderr


@pytest.fixture
def tail(config: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """A real process, as a terminal starts it."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> "subprocess.Popen[str]":
        program = "from cloud_hub.app.hubctl import main; main()"
        command = [sys.executable, "-c", program, "--config", str(config), *words]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        started.append(process)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("waiting for readings")
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


@pytest.mark.parametrize("output", ["json", "csv", "table"])
def test_a_tail_prints_readings_at_once_and_ends_cleanly(
    hub: RunningHub,
    tail: Callable[..., "subprocess.Popen[str]"],
    output: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tails, "POLL_S", 0.05)
    device = f"cam-{output}"
    land(hub, device, 3)
    process = tail("telemetry", "tail", "--device", device, "--last", "1", "--output", output)
    assert process.stdout is not None
    header = [process.stdout.readline()] if output == "csv" else []
    first = process.stdout.readline()
    land(hub, device, 2, first=4)
    told = [first, process.stdout.readline(), process.stdout.readline()]
    if output == "json":
        assert [json.loads(line)["sequence"] for line in told] == [2, 4, 5]
    elif output == "csv":
        assert [row["sequence"] for row in csv.DictReader([*header, *told])] == ["2", "4", "5"]
    else:
        assert told[1].split()[:5] == ["2026-01-01T00:00:04.000Z", device, "normal", "4", "cat"]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out, err) == (0, "", "")


def test_quarantine_is_shown_saved_and_replayed(hub: RunningHub, run: Run, ask: Ask, tmp_path: Path) -> None:
    hub.device("cam-back")
    batch = made("cam-back", 0, 3, hub.publish("model-back").variants[0].manifest_digest)
    topic = topics.telemetry(ADMIN.tenant, DeviceId("cam-back"), Lane.NORMAL)
    with hub.db.write() as tx:
        hub.services.telemetry.quarantine(tx, topic, codec.encode_batch(batch), "a bug, since mended")
        hub.services.telemetry.quarantine(tx, topic, b"\x1b]0;nonsense", "bad")
    good, bad = (one["id"] for one in sorted(ask("telemetry", "quarantine", "list"), key=lambda one: one["reason"]))
    shown = run("telemetry", "quarantine", "show", str(bad), "--payload", str(tmp_path / "bytes"))
    assert "bytes: 1b 5d" in shown.stdout and "\x1b" not in shown.stdout
    assert (tmp_path / "bytes").read_bytes() == b"\x1b]0;nonsense"
    assert ask("telemetry", "quarantine", "show", str(good))["reason"] == "a bug, since mended"
    assert "cannot write" in run("telemetry", "quarantine", "show", str(bad), "--payload", "/no/such/file", code=4).stderr
    run("telemetry", "quarantine", "show", "999", code=3)
    run("telemetry", "quarantine", "replay", code=2)
    result = run("telemetry", "quarantine", "replay", "--all", code=4)
    assert result.stdout == "taken in: 1\n" and f"{bad} stays: " in result.stderr
    assert "stay in quarantine" in result.stderr.splitlines()[-1]
    assert ask("telemetry", "stats", "--device", "cam-back")["devices"][0]["records"] == 4
    assert [one["id"] for one in ask("telemetry", "quarantine", "list")] == [bad]
