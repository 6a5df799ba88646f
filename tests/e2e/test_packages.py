"""Settings, an agent, an image of the board: published and rolled out by ``hubctl``, to a device that starts anew with each."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cloud_hub.app.hubctl.cli import app
from cloud_hub.core.model import Device
from protos.contract.ids import DeviceId
from protos.contract.twin import ReportedTwin
from tests.agent import models
from tests.agent.update.fake_rauc import FakeBoard, bundle
from tests.conformance.agent import Agent
from tests.conformance.test_packages import Service
from tests.conftest import REPOSITORY
from tests.e2e.system import ADMIN, BOARD, System, wait_for

pytestmark = pytest.mark.timeout(300)

CAM = "cam-1"
LONG_S = 90.0  # for what takes a few seconds where nobody else works
BOOT_ID = "/proc/sys/kernel/random/boot_id"


class BoardService(Service):
    """A service manager on a board that also starts anew as a whole, when the agent asks for it."""

    def __init__(self, agent: Agent, board: FakeBoard) -> None:
        self.board, self.boot_id, self.asked = board, agent.folder / "boot_id", agent.folder / "reboot"
        self._write_boot_id()
        super().__init__(agent)

    def command(self) -> list[str]:
        if self.asked.exists():
            self.asked.unlink()
            self.board.reboot()
            self._write_boot_id()
        if os.geteuid() != 0:
            return super().command()
        shown = f'mount --bind "$0" {BOOT_ID} && exec "$@"'  # the kernel's own is what an agent knows a start of the board by
        return ["unshare", "--mount", "sh", "-c", shown, str(self.boot_id), *super().command()]

    def _write_boot_id(self) -> None:
        self.boot_id.write_text(f"{self.board.boots:08d}-0000-4000-8000-000000000000\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A hub, a board in the field, and the admin who sends packages there."""

    system: System
    agent: Agent
    service: BoardService

    def hubctl(self, *words: object, code: int = 0) -> Any:
        """Its JSON, or its lines of JSON. In this process: a new one for each command would take longer than the devices."""
        config = self.system.hub.data_dir / "admin" / "hubctl.yaml"
        done = CliRunner().invoke(app, ["--config", str(config), "--output", "json", *map(str, words)])
        assert done.exit_code == code, (done.stdout, done.stderr)
        return json.loads(done.stdout) if words[1] != "watch" else [json.loads(line) for line in done.stdout.splitlines()]

    def publish(self, kind: str, name: str, version: str, data: bytes, *options: str) -> None:
        file = self.agent.folder / f"{name}-{version}"
        file.write_bytes(data)
        found = self.hubctl("package", "publish", kind, file, "--name", name, "--version", version, *options)
        assert (found["kind"], found["version"], found["size_bytes"]) == (kind, version, len(data))

    def roll_out(self, kind: str, name: str, version: str, *, code: int = 0) -> dict[str, Any]:
        """As a plan says, watched to its end: how it stands then."""
        plan = self.agent.folder / "plan.yaml"
        plan.write_text(yaml.safe_dump({kind: name, "version": version, "selector": {"id": CAM}, "soak_s": 0}))
        id = self.hubctl("rollout", "create", "-f", plan)["id"]
        *_, last = self.hubctl("rollout", "watch", id, code=code)
        assert (last["component"], last["package_version"]) == (kind, version)
        found: dict[str, Any] = last
        return found

    def twin(self) -> ReportedTwin:
        twin = self.device().reported
        assert twin is not None
        return twin

    def device(self) -> Device:
        return self.system.services.fleet.get(ADMIN, DeviceId(CAM))

    def runs(self) -> dict[str, str]:
        """Version by kind of package, as ``hubctl`` shows it."""
        device = self.hubctl("device", "get", CAM)
        return {each["kind"]: each["version"] for each in device["reported"]["packages"]}

    def infers(self) -> None:
        """After its last start: what it said before does not count."""
        boot, before = self.twin().boot_id, self.twin().health.inferences
        wait_for(
            lambda: self.twin().boot_id != boot or self.twin().health.inferences > before, "inferences on the device", LONG_S
        )


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    folder = tmp_path_factory.mktemp("packages")
    system = System(folder)
    service = None
    try:
        agent = system.agent(CAM)
        board = FakeBoard(folder / "board")
        reboot = agent.folder / "reboot.sh"
        reboot.write_text(f"#!/bin/sh\ntouch {agent.folder}/reboot\nkill $PPID\n")
        reboot.chmod(0o755)
        agent.configure(
            sync={"report_s": 0.3},
            update={"settle_s": 0.5, "reach_timeout_s": 60.0, "rauc": str(board.rauc), "reboot_command": [str(reboot)]},
        )
        service = BoardService(agent, board)
        version = system.publish(lambda number: models.files(version=number))
        system.roll_out(version, CAM)
        wait_for(lambda: system.runs(CAM) == 1, "the model on the device", LONG_S)
        yield Field(system=system, agent=agent, service=service)
    finally:
        if service is not None:
            service.close()
        system.close()


def test_settings_are_rolled_out_refused_and_taken_back(field: Field) -> None:
    field.publish("config", "site", "1", yaml.safe_dump({"capture": {"per_century": 7}}).encode())
    refused = field.roll_out("config", "site", "1", code=1)
    assert refused["state"] == "failed" and "first cam-1" in refused["reason"]
    [device] = field.hubctl("rollout", "devices", refused["id"])
    assert device["state"] == "failed" and "unknown key 'capture.per_century'" in device["reason"]
    assert field.runs() == {}

    for version in ("2", "3"):
        field.publish("config", "site", version, yaml.safe_dump({"capture": {"per_hour": int(version)}}).encode())
        last = field.roll_out("config", "site", version)
        assert field.runs() == {"config": version}
    field.infers()
    field.hubctl("rollout", "rollback", last["id"])
    wait_for(lambda: [each.version for each in field.twin().packages] == ["2"], "the settings before", LONG_S)
    field.infers()


def test_an_agent_is_rolled_out_and_goes_on_inferring(field: Field, tmp_path: Path) -> None:
    made = tmp_path / "agent.zip"
    build = [sys.executable, str(REPOSITORY / "scripts" / "build_bundle"), "--version", "9.9.9", str(made)]
    subprocess.run(build, check=True, timeout=60, stdout=subprocess.DEVNULL)
    field.publish("agent", "edge-agent", "9.9.9", made.read_bytes())
    field.roll_out("agent", "edge-agent", "9.9.9")
    assert field.runs()["agent"] == "9.9.9" and field.twin().agent_version == "9.9.9"
    assert field.twin().model is not None
    field.infers()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can show an agent that its board was started anew")
def test_an_image_of_the_board_is_rolled_out_with_a_new_start_of_the_board(field: Field) -> None:
    field.publish("firmware", "base", "2.0", bundle("2.0"), "--board", BOARD)
    field.roll_out("firmware", "base", "2.0")
    assert field.runs()["firmware"] == "2.0"
    board = field.service.board.load()
    assert (board["booted"], board["content"]["rootfs.1"], field.service.board.boots) == ("rootfs.1", "2.0", 1)
    field.infers()
