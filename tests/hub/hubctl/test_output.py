"""What is printed."""

import io

import pytest
from rich.console import Console

from cloud_hub.app.hubctl import output
from cloud_hub.app.hubctl.output import Format, Output, printable
from cloud_hub.app.hubctl.plain import plain
from protos.v1 import fleet_pb2, registry_pb2, rollouts_pb2, telemetry_service_pb2, twin_pb2


def test_times_enums_and_reports_are_plain() -> None:
    rollout = rollouts_pb2.Rollout(id="r1", state=rollouts_pb2.ROLLOUT_STATE_ROLLED_BACK, created_at_ms=1_700_000_000_123)
    values = plain(rollout)
    assert values["state"] == "rolled_back"
    assert values["created_at"] == "2023-11-14T22:13:20.123Z"
    assert values["ended_at"] is None
    assert plain(registry_pb2.ModelVersion(report_json='{"accuracy": 0.5}'))["report"] == {"accuracy": 0.5}


def test_what_is_not_set_is_there_as_nothing() -> None:
    device = plain(fleet_pb2.Device(id="cam", presence=twin_pb2.PRESENCE_UNSPECIFIED))
    assert device["presence"] is None and device["reported"] is None and device["labels"] == {}


def test_a_latency_is_no_time() -> None:
    assert plain(telemetry_service_pb2.Reading(latency_ms=1.1, captured_at_ms=1))["latency_ms"] == 1.1


def test_an_enum_value_of_a_newer_hub_is_its_number() -> None:
    message = rollouts_pb2.Rollout()
    message.ParseFromString(bytes([8 << 3, 99]))
    assert plain(message)["state"] == "99"


def test_nothing_a_device_says_steers_the_terminal() -> None:
    assert printable("\x1b[2J\u202eok\n") == "\\x1b[2J\\u202eok\n"


def test_a_table_is_not_folded_for_a_script_and_takes_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    Output(Format.TABLE).rows([{"id": "[red]x[/red]", "text": "word " * 60}], ("id", "text"), empty="none")
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["ID", "TEXT"]
    assert "[red]x[/red]" in row and ("word " * 60).strip() in row


def test_an_empty_table_is_a_remark_beside_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    Output(Format.TABLE).rows([], ("id",), empty="no devices")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "no devices\n")


def test_progress_is_told_in_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(Format.JSON).progress("importing", 20) as bar:
        for done in range(1, 21):
            bar.at(done)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "importing: 100 %" and len(err.splitlines()) == 11


def test_what_goes_on_within_a_step_has_a_bar_of_its_own_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(output, "_console", lambda *, stderr: screen)
    with Output(Format.TABLE).progress("job", 1.0) as bar:
        bar.at(0.3, "job 7 teacher")
        bar.within(0.5, "epoch 5/10, loss 0.412")
        bar._bar.refresh()  # type: ignore[union-attr]
        drawn = screen.file.getvalue()  # type: ignore[attr-defined]
        bar.within(0.0, "")
    assert "job 7 teacher" in drawn and "epoch 5/10, loss 0.412" in drawn and "50%" in drawn
