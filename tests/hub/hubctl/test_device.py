"""Devices, tickets, boards."""

import base64
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloud_hub.core.errors import NotReady
from tests.hub.device_keys import DeviceKey, serial
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
    roots = hub.services.trust.roots()
    assert roots is not None
    image, director = roots
    assert ticket["token"] not in result.stdout
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ticket == {
        "device_id": "cam-ticket",
        "board": "camera-x86",
        "token": ticket["token"],
        "ca_pem": hub.authority.ca_pem,
        "enroll_address": hub.enroll_address,
        "image_root": base64.b64encode(image).decode(),
        "director_root": base64.b64encode(director).decode(),
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


def enrolled(hub: RunningHub, name: str, token: str) -> str:
    return hub.services.enrollment.enroll(token, DeviceKey().csr, "camera-x86").certificate_pem


def test_a_registered_device_gets_a_new_ticket(run: Run, ask: Ask, hub: RunningHub, tmp_path: Path) -> None:
    first = ask("device", "create", "cam-again", "--board", "camera-x86")["token"]
    old = enrolled(hub, "cam-again", first)
    path = tmp_path / "again.json"
    done = run("device", "enroll", "cam-again", "--ticket", str(path), "--token-ttl", "60")
    assert done.stdout == f"new token for cam-again; ticket in {path}\n"
    ticket = json.loads(path.read_text())
    assert (ticket["device_id"], ticket["board"]) == ("cam-again", "camera-x86") and ticket["token"] not in done.stdout
    assert ask("device", "get", "cam-again")["credential"]["serial"] == serial(old)
    new = enrolled(hub, "cam-again", ticket["token"])
    assert ask("device", "get", "cam-again")["credential"]["serial"] == serial(new)
    run("device", "enroll", "cam-nobody", code=3)
    token = ask("device", "enroll", "cam-again")["token"]
    shown = run("device", "enroll", "cam-again").stdout
    assert "token" in shown and token not in shown and "BEGIN" not in shown


def test_a_key_is_approved_by_the_fingerprint_that_the_device_shows(run: Run, ask: Ask, hub: RunningHub) -> None:
    token = ask("device", "create", "cam-wait", "--board", "camera-x86", "--approval")["token"]
    assert "no key" in run("device", "approve", "cam-wait", code=4).stderr
    key = DeviceKey()
    with pytest.raises(NotReady):
        hub.services.enrollment.enroll(token, key.csr, "camera-x86")
    assert ask("device", "get", "cam-wait")["pending_fingerprint"] == key.fingerprint
    assert "waits for approval" in " ".join(run("device", "list", "--select", "id=cam-wait").stdout.split())
    assert "another one" in run("device", "approve", "cam-wait", "sha256:" + "0" * 64, code=4).stderr
    asked = run("device", "approve", "cam-wait", stdin="n\n", code=4)
    assert key.fingerprint in asked.stderr and "nothing was done" in asked.stderr
    run("device", "approve", "cam-wait", stdin="", code=4)  # nobody is there to ask
    assert ask("device", "approve", "cam-wait", stdin="y\n")["pending_fingerprint"] == ""
    hub.services.enrollment.enroll(token, key.csr, "camera-x86")


def test_a_device_is_revoked_only_after_a_yes(run: Run, ask: Ask, hub: RunningHub) -> None:
    enrolled(hub, "cam-stolen", ask("device", "create", "cam-stolen", "--board", "camera-x86")["token"])
    for answer in ("n\n", ""):
        assert "nothing was done" in run("device", "revoke", "cam-stolen", stdin=answer, code=4).stderr
    assert ask("device", "get", "cam-stolen")["credential"]["revoked_at"] is None
    assert "until 20" in run("device", "list", "--select", "id=cam-stolen").stdout
    done = run("device", "revoke", "cam-stolen", "--reason", "stolen", stdin="y\n")
    assert done.stdout == "revoked cam-stolen\n"
    credential = ask("device", "get", "cam-stolen")["credential"]
    assert credential["revoked_at"].endswith("Z") and credential["reason"] == "ada: stolen"
    assert "revoked" in run("device", "list", "--select", "id=cam-stolen").stdout
    assert ask("device", "revoke", "cam-stolen", "--yes")["id"] == "cam-stolen"  # twice is harmless
    run("device", "revoke", "cam-nobody", "--yes", code=3)


def test_a_device_is_asked_to_renew(run: Run, ask: Ask, hub: RunningHub) -> None:
    token = ask("device", "create", "cam-rotate", "--board", "camera-x86")["token"]
    assert "no certificate" in run("device", "rotate", "cam-rotate", code=4).stderr
    enrolled(hub, "cam-rotate", token)
    assert ask("device", "rotate", "cam-rotate")["desired"]["renew_before"].endswith("Z")
    assert run("device", "rotate", "cam-rotate").stdout == "asked cam-rotate to renew its certificate\n"


def test_more_devices_than_a_page_are_all_listed(ask: Ask, hub: RunningHub) -> None:
    for number in range(130):
        hub.services.enrollment.create_device(ADMIN, f"many-{number:03}", "camera-x86", {"lot": "many"})
    assert [d["id"] for d in ask("device", "list", "--select", "lot=many")] == [f"many-{n:03}" for n in range(130)]


def test_boards_are_listed_without_a_hub(ask: Ask) -> None:
    boards = {board["name"]: board for board in ask("board", "list")}
    assert boards["camera-x86"]["runtimes"] == ["onnx", "tflite"]
