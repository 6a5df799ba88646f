"""``hubctl shadow``, and what ``hubctl model get`` says about variants on boards."""

from collections.abc import Callable
from typing import Any

from protos.contract.ids import DeviceId, TenantId
from protos.contract.twin import Fit, Health, ReportedTwin, ShadowReport
from tests.hub.hubctl.conftest import Run
from tests.hub.rpc.running import RunningHub

Ask = Callable[..., Any]
FIT = Fit(p50_ms=2.5, p95_ms=3.5, peak_bytes=64_000_000, error=0.25, agreement=1.0)


def report(hub: RunningHub, device: str, **figures: Any) -> None:
    now = hub.clock.now()
    with hub.db.read() as tx:
        from cloud_hub.store import fleet

        found = fleet.find(tx, DeviceId(device))
    assert found is not None and found.desired.challenger is not None
    shadow = ShadowReport(model=found.desired.challenger.model, since=now, **figures)
    twin = ReportedTwin(
        generation=found.desired.generation, boot_id="b", agent_version="1", board="camera-x86", at=now,
        health=Health(started_at=now), shadow=shadow,
    )  # fmt: skip
    with hub.db.write() as tx:
        hub.services.fleet.on_reported(tx, TenantId("default"), DeviceId(device), twin)


def test_a_challenger_is_started_watched_and_stopped(hub: RunningHub, run: Run, ask: Ask) -> None:
    hub.publish("shade")
    for name in ("cam-shade-1", "cam-shade-2"):
        ask("device", "create", name, "--board", "camera-x86", "--label", "site=shade")
    started = run("shadow", "start", "shade", "--version", "1", "--select", "site=shade", "--share", "0.5").stdout
    assert started == "shade version 1 is the challenger on 2 devices\n"
    report(hub, "cam-shade-1", frames=200, agreed=150, captured=3, problem="", fit=FIT)
    report(hub, "cam-shade-2", problem="its worker was lost 3 times")
    shown = ask("shadow", "status", "shade", "--version", "1")
    assert (shown["total"]["frames"], shown["total"]["agreement"], shown["total"]["troubled"]) == (200, 0.75, 1)
    assert [device["device_id"] for device in shown["devices"]] == ["cam-shade-1", "cam-shade-2"]
    assert shown["devices"][0]["started_by"] == "ada"
    table = run("shadow", "status", "shade", "--version", "1").stdout
    assert "troubled" in table and "its worker was lost 3 times" in table and "0.75" in table
    assert "shade" in run("shadow", "status").stdout
    assert run("shadow", "stop", "shade", "--select", "id=cam-shade-2").stdout == "the challenger of shade is off 1 devices\n"
    assert ask("shadow", "stop", "shade") == {"devices": 1}
    assert ask("shadow", "status")[0]["active"] == 0


def test_what_cannot_be_started_is_said_in_one_line(run: Run) -> None:
    assert "no version 1 of model nothing" in run("shadow", "start", "nothing", "--version", "1", code=3).stderr
    run("shadow", "status", "shade", code=2)
    run("shadow", "start", "shade", "--version", "1", "--share", "2", code=2)


def test_a_version_shows_what_was_declared_and_measured_on_each_board(hub: RunningHub, run: Run, ask: Ask) -> None:
    hub.publish("fitted")
    ask("device", "create", "cam-fitted", "--board", "camera-x86")
    run("shadow", "start", "fitted", "--version", "1", "--select", "id=cam-fitted")
    report(hub, "cam-fitted", fit=FIT)
    rows = {
        row["board"]: row
        for row in ask("model", "get", "fitted", "--version", "1")["on_boards"]
        if row["target"] == "onnx-int8"
    }
    assert rows["camera-x86"]["chosen"] and rows["camera-x86"]["devices"] == 1 and rows["camera-x86"]["p50_ms"] == 2.5
    assert rows["vehicle-arm64"]["devices"] == 0
    table = run("model", "get", "fitted", "--version", "1").stdout
    assert "DECLARED MS" in table and "2.5" in table and "64" in table
