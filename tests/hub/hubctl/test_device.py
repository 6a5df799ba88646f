"""Devices, tickets, boards."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hub.hubctl.conftest import Run
from tests.hub.rpc.running import ADMIN, RunningHub, make_csr

Ask = Callable[..., Any]


def test_a_device_is_created_labelled_listed_and_deleted(run: Run, ask: Ask) -> None:
    created = ask("device", "create", "cam-life", "--board", "camera-x86", "--label", "site=north", "--label", "line=3")
    assert created["device"]["labels"] == {"line": "3", "site": "north"}
    assert created["token"] and created["ca_pem"].startswith("-----BEGIN CERTIFICATE")
    assert ask("device", "label", "cam-life", "site=south", "line-")["labels"] == {"site": "south"}
    assert [d["id"] for d in ask("device", "list", "--select", "site=south")] == ["cam-life"]
    assert ask("device", "list", "--select", "site=north") == []
    table = run("device", "list").stdout
    assert "cam-life" in table and "site=south" in table and "camera-x86" in table
    device = ask("device", "get", "cam-life")
    assert device["created_at"].endswith("Z") and device["last_seen"] is None and device["reported"] is None
    assert run("device", "delete", "cam-life").stdout == "deleted device cam-life\n"
    run("device", "get", "cam-life", code=3)


def test_a_ticket_holds_what_a_device_needs_and_is_private(run: Run, hub: RunningHub, tmp_path: Path) -> None:
    path = tmp_path / "ticket.json"
    result = run("device", "create", "cam-ticket", "--board", "camera-x86", "--ticket", str(path))
    ticket = json.loads(path.read_text())
    assert ticket["token"] not in result.stdout
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ticket == {
        "device_id": "cam-ticket",
        "board": "camera-x86",
        "token": ticket["token"],
        "ca_pem": hub.authority.ca_pem,
        "enroll_address": hub.enroll_address,
    }
    assert hub.services.enrollment.enroll(ticket["token"], make_csr()[1], ticket["board"]).device_id == "cam-ticket"


def test_a_ticket_never_replaces_a_file_and_none_is_left_by_a_refusal(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "ticket.json"
    path.write_text("mine")
    run("device", "create", "cam-kept", "--board", "camera-x86", "--ticket", str(path), code=4)
    assert path.read_text() == "mine"
    run("device", "get", "cam-kept", code=3)  # nothing was created
    run("device", "create", "cam-kept", "--board", "toaster", "--ticket", str(tmp_path / "new.json"), code=4)
    assert not (tmp_path / "new.json").exists()


def test_more_devices_than_a_page_are_all_listed(ask: Ask, hub: RunningHub) -> None:
    for number in range(130):
        hub.services.enrollment.create_device(ADMIN, f"many-{number:03}", "camera-x86", {"lot": "many"})
    assert [d["id"] for d in ask("device", "list", "--select", "lot=many")] == [f"many-{n:03}" for n in range(130)]


def test_boards_are_listed_without_a_hub(ask: Ask) -> None:
    boards = {board["name"]: board for board in ask("board", "list")}
    assert boards["camera-x86"]["runtimes"] == ["onnx", "tflite"]
