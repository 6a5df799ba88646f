"""A simulated fleet against a real hub: what it shares with the agent works, and what chance does to it is seen by the hub."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from scripts.fleet.admin import Admin
from scripts.fleet.conditions import Behaviour, Conditions
from scripts.fleet.device import SimulatedDevice
from scripts.fleet.fleet import Fleet
from tests.agent.models import files
from tests.e2e.system import System, environment, wait_for

NAMES = [f"sim-{i}" for i in range(8)]
LABELS = {"fleet": "sim"}
DEADLINE_S = 60.0


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    made = System(tmp_path / "hub")
    yield made
    made.close()


async def until(condition: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(wait_for, condition, what, DEADLINE_S)


def roll_out(system: System, *, canary: int = 0) -> str:
    version = system.publish(lambda number: files(version=number))
    admin = Admin(system.hub.data_dir / "admin" / "hubctl.yaml")
    return admin.roll_out(version.name, version.version, LABELS, canary=canary)


def as_told(system: System, device: SimulatedDevice) -> bool:
    return device.settled and system.stored(device.id) == device.told.produced


def ended(system: System, id: str) -> bool:
    return system.rollout(id).state.name != "RUNNING"


def test_a_bad_version_is_taken_back_whatever_the_links_are_like(system: System, tmp_path: Path) -> None:
    behaviours = {2: Behaviour(errors=0.5), 3: Behaviour(refused=1.0), 4: Behaviour(crashes=1.0)}
    conditions = Conditions(
        seed=3, loss=0.03, latency_s=0.01, restart_every_s=20.0, linger_s=2.0, probation_s=1.0, behaviours=behaviours
    )

    async def play() -> None:
        fleet = Fleet(tmp_path / "fleet", conditions)
        await fleet.enrol(Admin(system.hub.data_dir / "admin" / "hubctl.yaml"), NAMES, labels=LABELS)
        async with fleet:
            good = await asyncio.to_thread(roll_out, system)
            await until(partial(ended, system, good), "the good version")
            assert system.rollout(good).state.name == "SUCCEEDED", system.rollout(good).reason
            for words in ("inferences failed", "golden outputs", "worker was lost"):
                bad = await asyncio.to_thread(partial(roll_out, system, canary=2))
                await until(partial(ended, system, bad), f"the version with {words}")
                rollout = system.rollout(bad)
                assert (rollout.state.name, words in rollout.reason) == ("FAILED", True), rollout.reason
                assert {one.device for one in rollout.devices if one.generation} <= set(NAMES)
            await until(lambda: all(device.version == 1 for device in fleet.devices), "the good version everywhere")
            for device in fleet.devices:
                device.hush()
            # what ends late on a device is still told: only all of it at one moment is everything, and nothing twice
            await until(lambda: all(as_told(system, device) for device in fleet.devices), "every record to be stored once")
            assert not fleet.failed()
        picture = fleet.picture()
        assert picture.restarts > 0 and picture.records > 20, picture

    asyncio.run(play())


def test_devices_of_a_folder_go_on_with_what_they_ran(system: System, tmp_path: Path) -> None:
    async def live(*, first: bool) -> int:
        fleet = Fleet(tmp_path / "fleet", Conditions(probation_s=0.5))
        await fleet.enrol(Admin(system.hub.data_dir / "admin" / "hubctl.yaml"), NAMES[:2], labels=LABELS)
        async with fleet:
            if first:
                id = await asyncio.to_thread(roll_out, system)
                await until(partial(ended, system, id), "the version")
            await until(lambda: fleet.picture().connected == 2 and fleet.picture().versions == {1: 2}, "both devices")
            return fleet.picture().blob_bytes

    assert asyncio.run(live(first=True)) > 0
    assert asyncio.run(live(first=False)) == 0, "nothing is downloaded again"


def test_the_program_shows_what_its_devices_do_until_a_signal(system: System, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts.fleet.main", "--devices", "3", "--label", "fleet=sim"]
    command += ["--admin", str(system.hub.data_dir / "admin" / "hubctl.yaml"), "--folder", str(tmp_path / "fleet")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as program:
        assert program.stdout is not None
        wait_for(lambda: sum(device["presence"] == "online" for device in listed(system)) == 3, "three devices", DEADLINE_S)
        program.send_signal(signal.SIGTERM)
        last = json.loads(program.stdout.readlines()[-1])
    assert program.returncode == 0
    assert (last["devices"], last["versions"]) == (3, {"0": 3})
    wait_for(lambda: all(device["presence"] == "stopped" for device in listed(system)), "goodbyes")


def listed(system: System) -> list[dict[str, str]]:
    found = system.hubctl("device", "list")
    return list(found)


def test_the_program_says_what_is_wrong_with_its_configuration(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts.fleet.main", "--admin", str(tmp_path / "none.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 1 and "none.yaml" in done.stderr and "Traceback" not in done.stderr, done.stderr
