"""Certificates come, go and are replaced while a real agent infers."""

import itertools
import json
import subprocess
import sys
import time
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from protos.contract.telemetry import Lane
from protos.contract.twin import Presence
from tests.conformance.agent import Agent, command
from tests.conformance.hub import BOARD, Device, Hub

LIFE = timedelta(seconds=6)  # due after four to four and a half
DAY = timedelta(days=1)
PAUSE_MS = 1500  # between two inferences at 50 a second, far above what a busy machine needs


def records(device: Device, lane: Lane = Lane.NORMAL) -> list[int]:
    """Sequences of the records that came, once each."""
    batches = [batch for batch in device.batches if batch.lane is lane]
    return sorted({number for batch in batches for number in range(batch.first_sequence, batch.last_sequence + 1)})


def nothing_is_lost(device: Device) -> None:
    for lane in Lane:
        sequences = records(device, lane)
        assert sequences == list(range(len(sequences))), f"{lane.name}: holes in {len(sequences)} records"


def inference_never_paused(device: Device) -> None:
    times = sorted({int(ms) for batch in device.batches for ms in batch.inferences.captured_at_ms})
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) < PAUSE_MS


def events(device: Device) -> list[str]:
    return [event.kind for batch in device.batches for event in batch.events]


def certificate(agent: Agent) -> dict[str, Any]:
    return agent.status().get("certificate") or {}


def ticket(hub: Hub, folder: Path, device: str, token: str) -> Path:
    path = folder / f"{token}.json"
    values = {"device_id": device, "board": BOARD, "token": token, "ca_pem": hub.authority.pem.decode()}
    path.write_text(json.dumps(values | {"enroll_address": f"localhost:{hub.enroll_port}"}))
    hub.tokens[token] = device
    return path


# -- renewal --------------------------------------------------------------------------------------------------------------


def test_short_lived_certificates_renew_themselves_again_and_again_and_nobody_notices(hub: Hub, agent: Agent) -> None:
    agent.equip()
    identity = hub.identity("renewing", agent.data_dir, life=LIFE)
    key = identity.key_path.read_bytes()
    agent.start()
    device, issued = hub.devices["renewing"], hub.registrar.issued["renewing"]
    agent.wait(lambda: len(issued) >= 5, "four renewals")
    agent.wait(lambda: certificate(agent).get("serial") in issued[4:], "word of it in its status")
    assert certificate(agent)["problem"] == "" and certificate(agent)["renewals"] >= 4
    seen = len(records(device))
    hub.wait(lambda: len(records(device)) > seen + 50, "telemetry with the newest")
    assert agent.stop() == 0
    hub.wait(lambda: device.statuses[-1].presence is Presence.STOPPED, "its goodbye")
    assert {status.presence for status in device.statuses} == {Presence.ONLINE, Presence.STOPPED}, "it was never offline"
    nothing_is_lost(device)
    inference_never_paused(device)
    assert events(device).count("certificate.renewed") >= 4
    assert identity.key_path.read_bytes() != key
    inferred = agent.status()["health"]["inferences"]
    held = agent.status()["health"]["spool_records"]
    assert len(records(device)) + held >= inferred, "every inference is at the hub or in the spool"


@pytest.mark.parametrize("with_model", [False, True])
def test_the_hub_asks_for_a_new_certificate_and_gets_it_once(hub: Hub, agent: Agent, with_model: bool) -> None:
    name = f"rotated-{with_model}".lower()
    agent.equip()
    hub.identity(name, agent.data_dir, age=timedelta(hours=1))
    agent.start()
    device, issued = hub.devices[name], hub.registrar.issued[name]
    hub.wait(lambda: bool(device.reported), "its report")
    model = device.reported[-1].model
    generation = hub.rotate(name, model if with_model else None)
    agent.wait(lambda: len(issued) == 2, "the new certificate")
    hub.wait(lambda: device.reported[-1].generation == generation, "that it has seen it")
    assert device.reported[-1].model == model
    assert agent.stop() == 0
    assert not [kind for kind in events(device) if kind.startswith("update.")], "nothing was begun"
    agent.start()  # and the retained twin comes again
    online = len(device.statuses)
    hub.wait(lambda: len(device.statuses) > online, "its presence")
    seen = len(records(device))
    hub.wait(lambda: len(records(device)) > seen + 50, "telemetry")
    assert len(issued) == 2


def test_an_expired_certificate_comes_back(hub: Hub, agent: Agent) -> None:
    agent.equip()
    hub.identity("expired", agent.data_dir, life=90 * DAY, age=400 * DAY)
    agent.start()
    device = hub.devices["expired"]
    hub.wait(lambda: len(records(device)) > 20, "telemetry with a certificate that is good")
    agent.wait(lambda: certificate(agent).get("days_left", 0) > 80, "the new one in its status")
    nothing_is_lost(device)


@pytest.mark.parametrize("after_ms", [None, 0, 3, 10, 30, 100])
def test_an_agent_killed_while_it_renews_goes_on_with_the_old_certificate_or_the_new_one(
    hub: Hub, agent: Agent, after_ms: int | None
) -> None:
    """``after_ms`` the hub has issued the certificate; None: before it answers."""
    name = f"killed-{'before' if after_ms is None else after_ms}"
    agent.equip()
    identity = hub.identity(name, agent.data_dir, age=timedelta(hours=1))
    agent.start()
    device, issued = hub.devices[name], hub.registrar.issued[name]
    hub.wait(lambda: len(records(device)) > 20, "telemetry")
    if after_ms is None:
        hub.registrar.before_answer = agent.kill
    hub.rotate(name)
    with hub.registrar.changed:
        assert hub.registrar.changed.wait_for(lambda: len(issued) >= 2, 30)
    if after_ms is None:
        assert agent.process is not None
        agent.process.wait(30)
        hub.registrar.before_answer = lambda: None
    else:
        time.sleep(after_ms / 1000)  # the point of time is what the test is about
        agent.kill()
    agent.start()
    agent.wait(lambda: certificate(agent).get("serial") in issued[1:], "a certificate that is new")
    assert len(issued) <= 3, "one that was lost, and the one it got"
    seen = len(records(device))
    hub.wait(lambda: len(records(device)) > seen + 50, "telemetry with it")
    assert agent.stop() == 0
    identity.tls()
    assert list((agent.data_dir / "pending-keys").iterdir()) == []
    nothing_is_lost(device)


def test_renewing_by_hand_is_taken_up_by_the_agent_that_runs(hub: Hub, agent: Agent) -> None:
    agent.equip()
    agent.configure(metrics={"port": 0})
    hub.identity("by-hand", agent.data_dir)
    agent.start()
    device, issued = hub.devices["by-hand"], hub.registrar.issued["by-hand"]
    hub.wait(lambda: len(records(device)) > 20, "telemetry")
    done = command("renew", "--data-dir", str(agent.data_dir))
    assert (done.returncode, done.stderr) == (0, "") and "renewed: expires" in done.stdout
    agent.wait(lambda: certificate(agent).get("serial") == issued[1], "its status")
    agent.wait(lambda: agent.status()["uplink"]["connects"] == 2, "a connection with it")
    table = command("status", "--data-dir", str(agent.data_dir))
    assert "certificate expires" in " ".join(table.stdout.split()) and "days left" in table.stdout
    port = agent.logged("metrics are served")[0]["port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        figures = dict(line.split(" ") for line in page.read().decode().splitlines() if line.startswith("tideline_agent_cert"))
    assert float(figures["tideline_agent_certificate_expiry_timestamp_seconds"]) > time.time()
    assert float(figures["tideline_agent_certificate_problem"]) == 0
    nothing_is_lost(device)


def test_renewing_by_hand_says_why_it_fails(hub: Hub, tmp_path: Path) -> None:
    nobody = command("renew", "--data-dir", str(tmp_path / "nobody"))
    assert nobody.returncode == 2 and "edge-agent enroll" in nobody.stderr
    hub.identity("by-hand-2", tmp_path / "d")
    hub.registrar.revoked.update(hub.registrar.issued["by-hand-2"])
    refused = command("renew", "--data-dir", str(tmp_path / "d"))
    assert refused.returncode == 3 and "revoked" in refused.stderr and refused.stderr.count("\n") == 1


# -- who is not welcome ---------------------------------------------------------------------------------------------------


def test_a_revoked_device_infers_and_spools_says_so_and_is_whole_again_once_it_is_enrolled(
    hub: Hub, agent: Agent, tmp_path: Path
) -> None:
    agent.equip()
    hub.identity("revoked", agent.data_dir)
    agent.start()
    device = hub.devices["revoked"]
    hub.wait(lambda: len(records(device)) > 20, "telemetry")
    hub.revoke("revoked")
    agent.wait(lambda: "revoked" in certificate(agent).get("problem", ""), "word of it")
    assert "certificate" in agent.status()["note"]
    assert not agent.status()["broker_connected"]
    before = agent.status()["health"]
    agent.wait(lambda: agent.status()["health"]["spool_records"] >= before["spool_records"] + 100, "the spool to grow")
    assert agent.status()["health"]["inferences"] >= before["inferences"] + 100

    path = ticket(hub, tmp_path, "revoked", "second-chance")
    done = command("enroll", "--ticket", str(path), "--data-dir", str(agent.data_dir), "--force")
    assert done.returncode == 0, done.stderr
    hub.wait(lambda: "certificate.refused" in events(device), "what it could not say")
    agent.wait(lambda: agent.status()["broker_connected"] and not certificate(agent)["problem"], "its status")
    seen = len(records(device))
    hub.wait(lambda: len(records(device)) > seen + 50, "telemetry again")
    assert agent.stop() == 0
    nothing_is_lost(device)
    inference_never_paused(device)


def test_a_hub_restored_from_an_older_backup_takes_the_device_back_by_itself(hub: Hub, agent: Agent) -> None:
    agent.equip()
    agent.configure(capture={"control_rate": 1.0, "per_hour": 100000})
    hub.identity("restored", agent.data_dir, age=timedelta(hours=1))
    agent.start()
    device, issued = hub.devices["restored"], hub.registrar.issued["restored"]
    hub.rotate("restored")
    agent.wait(lambda: len(issued) == 2, "the certificate that the backup will not have")
    agent.wait(lambda: certificate(agent).get("serial") == issued[1], "it in use")
    hub.registrar.unknown.add(issued[1])
    agent.wait(lambda: len(issued) == 3, "one that the hub knows")
    uploads = len(device.uploads)
    hub.wait(lambda: len(device.uploads) > uploads + 5, "uploads with it")
    agent.wait(lambda: certificate(agent)["problem"] == "", "its status")


# -- enrolment ------------------------------------------------------------------------------------------------------------


def test_a_key_is_certified_once_an_admin_has_approved_it(hub: Hub, tmp_path: Path) -> None:
    hub.registrar.unapproved.add("approved")
    path, data_dir = ticket(hub, tmp_path, "approved", "t-approved"), tmp_path / "d"
    enrolling = ["enroll", "--ticket", str(path), "--data-dir", str(data_dir), "--wait"]
    waiting = command(*enrolling, "0")
    assert waiting.returncode == 5 and waiting.stderr.count("\n") == 1
    fingerprint = hub.registrar.asked[-1]
    assert f"hubctl device approve approved {fingerprint}" in waiting.stdout
    assert not (data_dir / "identity").exists()

    patient = subprocess.Popen(
        [sys.executable, "-m", "edge_agent.app.cli", *enrolling, "60"], stdout=subprocess.PIPE, text=True
    )
    assert patient.stdout is not None
    assert fingerprint in patient.stdout.readline(), "the same key"
    hub.registrar.unapproved.clear()
    assert patient.wait(60) == 0
    assert (data_dir / "identity" / "key.pem").exists()


def test_a_running_agent_that_is_enrolled_as_another_device_becomes_it(hub: Hub, agent: Agent, tmp_path: Path) -> None:
    agent.equip()
    hub.identity("before", agent.data_dir)
    agent.start()
    hub.wait(lambda: len(records(hub.devices["before"])) > 20, "telemetry")
    path = ticket(hub, tmp_path, "after", "t-after")
    done = command("enroll", "--ticket", str(path), "--data-dir", str(agent.data_dir), "--force")
    assert done.returncode == 0, done.stderr
    assert "takes no updates" in done.stdout
    hub.wait(lambda: len(records(hub.devices["after"])) > 50, "telemetry under the new name")
    hub.wait(lambda: hub.devices["before"].statuses[-1].presence is Presence.STOPPED, "goodbye under the old one")
