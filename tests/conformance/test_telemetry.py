"""Telemetry and samples flow in, and membership of the fleet."""

import json
from pathlib import Path

import pytest

from protos.contract.ids import digest_of
from protos.contract.twin import Presence
from tests.conformance.agent import Agent, command
from tests.conformance.hub import BOARD, Hub


def ticket(hub: Hub, folder: Path, device: str, token: str) -> Path:
    path = folder / "ticket.json"
    values = {"device_id": device, "board": BOARD, "token": token, "ca_pem": hub.authority.pem.decode()}
    path.write_text(json.dumps(values | {"enroll_address": f"localhost:{hub.enroll_port}"}))
    return path


def test_a_running_agent_joins_its_hub_once_it_is_enrolled_and_says_goodbye(hub: Hub, agent: Agent, tmp_path: Path) -> None:
    agent.equip()
    agent.start()
    agent.wait(lambda: agent.logged("no link to a hub"), "word that it runs alone")
    hub.tokens["t1"] = "joining"
    done = command("enroll", "--ticket", str(ticket(hub, tmp_path, "joining", "t1")), "--data-dir", str(agent.data_dir))
    assert (done.returncode, done.stderr) == (0, "")
    assert "joining" in done.stdout
    device = hub.devices["joining"]
    hub.wait(lambda: bool(device.batches) and bool(device.reported), "what it did alone")
    assert device.batches[0].first_sequence == 0
    assert agent.stop() == 0
    hub.wait(lambda: bool(device.statuses) and device.statuses[-1].presence is Presence.STOPPED, "its goodbye")
    assert {status.presence for status in device.statuses} == {Presence.ONLINE, Presence.STOPPED}


def test_a_killed_agent_is_reported_offline_by_the_broker(hub: Hub, agent: Agent) -> None:
    hub.identity("killed", agent.data_dir)
    agent.start()
    device = hub.devices["killed"]
    hub.wait(lambda: bool(device.statuses), "its presence")
    agent.kill()
    hub.wait(lambda: device.statuses[-1].presence is Presence.OFFLINE, "word of its end")


def test_a_used_ticket_is_refused_with_status_3(hub: Hub, tmp_path: Path) -> None:
    done = command("enroll", "--ticket", str(ticket(hub, tmp_path, "late", "used")), "--data-dir", str(tmp_path / "d"))
    assert done.returncode == 3
    assert "wrong, used or too old" in done.stderr and done.stderr.count("\n") == 1


def test_a_hub_that_is_away_is_status_4(hub: Hub, tmp_path: Path) -> None:
    path = ticket(hub, tmp_path, "early", "t")
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"enroll_address": "localhost:1"}))
    assert command("enroll", "--ticket", str(path), "--data-dir", str(tmp_path / "d")).returncode == 4


def test_telemetry_is_kept_until_the_watermark_and_comes_again_the_same_after_a_kill(hub: Hub, agent: Agent) -> None:
    agent.equip()
    hub.identity("keeping", agent.data_dir)
    device = hub.devices["keeping"]
    device.acknowledged = False
    agent.start()
    hub.wait(lambda: len(device.batches) >= 3, "telemetry")
    first = device.batches[0]
    agent.kill()
    with hub.heard:
        device.batches.clear()
    agent.start("--max-frames", "50")
    assert agent.process is not None and agent.process.wait(30) == 0
    assert agent.status()["health"]["spool_records"] >= first.records + 50, "nothing was committed, nothing may be gone"
    hub.wait(lambda: first in device.batches, "the same batch again")

    device.acknowledged = True
    agent.start()
    seen = len(device.batches)
    hub.wait(lambda: len(device.batches) > seen + 10, "telemetry after the watermark")
    assert agent.stop() == 0
    assert agent.status()["health"]["spool_records"] < first.records + 50
    sequences = [set(range(batch.first_sequence, batch.last_sequence + 1)) for batch in device.batches]
    assert set().union(*sequences) == set(range(max(map(max, sequences)) + 1)), "not one record is missing"


@pytest.mark.parametrize("refused", [False, True])
def test_a_capture_leaves_the_device_once_the_hub_has_answered(hub: Hub, agent: Agent, refused: bool) -> None:
    name = f"capturing-{refused}".lower()
    agent.equip()
    agent.configure(capture={"control_rate": 1.0, "per_hour": 4})
    hub.identity(name, agent.data_dir)
    hub.refuse_uploads = refused
    try:
        agent.start()
        device = hub.devices[name]
        captures = agent.data_dir / "captures"
        if not refused:
            hub.wait(lambda: len(device.uploads) >= 4, "captures")
            assert all(digest_of(upload.content) == upload.digest for upload in device.uploads)
            assert device.uploads[0].reason == "control" and device.uploads[0].predicted
        else:
            agent.wait(lambda: len(agent.logged("the hub refuses a capture, dropped")) >= 4, "refusals")
        agent.wait(lambda: not list(captures.glob("*.png")), "an empty folder")
    finally:
        hub.refuse_uploads = False
    hub.wait(lambda: any(batch.inferences.flags.any() for batch in device.batches), "records that say so")
