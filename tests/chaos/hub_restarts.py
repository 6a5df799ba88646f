"""Kill the hub at random while rollouts go over a simulated fleet, then ask every device what it saw.

``python -m tests.chaos.hub_restarts --devices 200 --kills 30 --seed S [--pair]``. With ``--pair`` two hubs share a PostgreSQL,
the one that leads is killed each time, and the other takes over.
"""

import argparse
import asyncio
import json
import logging
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grpc

from cloud_hub.core.model import RolloutState
from protos.contract.ids import DeviceId
from scripts.fleet.admin import Admin
from scripts.fleet.conditions import Conditions
from scripts.fleet.device import SimulatedDevice
from scripts.fleet.fleet import Fleet
from scripts.fleet.relay import Relay
from tests.agent.models import files
from tests.chaos.database import Postgres
from tests.chaos.rollout_verdict import Run, Witness, wrong
from tests.e2e.system import ADMIN, HubProcess, System, wait_for

PAUSE_S = (0.2, 5.0)  # that a hub serves until it is killed
SOAK_S = 2
SETTLE_S = 120.0
START_S = 120.0  # of a hub: on a busy machine Python alone takes long
LABELS = {"fleet": "chaos"}
_READY = '"message": "ready"'

log = logging.getLogger("chaos")
T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Outcome:
    seed: int
    devices: int
    kills: int = 0
    kills_in_wave: Counter[int] = field(default_factory=Counter)  # of a rollout that had not ended
    away_s: list[float] = field(default_factory=list)  # from each kill until a hub was ready
    runs: list[Run] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    records: int = 0
    reconnects: int = 0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        away = sorted(self.away_s)
        return {
            "good": not self.wrong,
            "seed": self.seed,
            "devices": self.devices,
            "kills": self.kills,
            "kills_while_running": self.kills_in_wave.total(),
            "kills_in_wave": dict(sorted(self.kills_in_wave.items())),
            "rollouts": len(self.runs),
            "dispatches": sum(len(run.waves) for run in self.runs),
            "records": self.records,
            "reconnects": self.reconnects,
            "away_s_median": round(away[len(away) // 2], 2) if away else None,
            "away_s_longest": round(away[-1], 2) if away else None,
            "seconds": round(self.seconds, 1),
            "wrong": self.wrong[:20],
            "wrong_total": len(self.wrong),
        }


class Ground:
    """One hub that is started again, or two of which one leads."""

    def __init__(self, folder: Path, *, pair: bool) -> None:
        self.postgres = Postgres() if pair else None
        settings = {"database_url": self.postgres.url} if self.postgres is not None else {}
        self.system = System(folder, **settings)
        self.hubs = [self.system.hub]
        if pair:
            self.hubs.append(self._standby(folder / "second", settings))
        self.leader = self.hubs[0]

    def kill(self) -> float:
        """The hub that leads; seconds until there is one again."""
        killed, started = self.leader, time.monotonic()
        if self.postgres is None:
            before = killed.log.count(_READY)
            killed.kill()
            killed.launch()
            wait_for(lambda: killed.log.count(_READY) > before, "the hub to serve again", START_S)
            return time.monotonic() - started
        following = next(hub for hub in self.hubs if hub is not killed)
        before = following.log.count(_READY)
        killed.kill()
        wait_for(lambda: following.log.count(_READY) > before, "the hub that stands by", START_S)
        away_s = time.monotonic() - started
        self.leader = following
        stood_by = killed.log.count('"standing by"')
        killed.launch()
        wait_for(lambda: killed.log.count('"standing by"') > stood_by, "the hub that was killed to stand by", START_S)
        return away_s

    def close(self) -> None:
        for hub in self.hubs[1:]:
            hub.close()
        self.system.close()
        if self.postgres is not None:
            self.postgres.stop()

    def _standby(self, folder: Path, settings: dict[str, Any]) -> HubProcess:
        """On its own folder, with what hubs of one database share."""
        first, second = self.system.hub, HubProcess(folder, **settings)
        for shared in ("ca", "trust"):
            shutil.copytree(first.data_dir / shared, second.data_dir / shared)
        (first.data_dir / "artifacts").mkdir(exist_ok=True)
        (second.data_dir / "artifacts").symlink_to(first.data_dir / "artifacts")
        second.launch()
        wait_for(lambda: '"standing by"' in second.log, "a hub that stands by", START_S)
        return second


def run(folder: Path, *, devices: int, kills: int, seed: int, pair: bool = False) -> Outcome:
    """Everything of the run is below ``folder``."""
    ground = Ground(folder / "hub", pair=pair)
    try:
        return asyncio.run(_Rain(ground, folder, devices=devices, kills=kills, seed=seed).fall())
    finally:
        ground.close()


class _Rain:
    def __init__(self, ground: Ground, folder: Path, *, devices: int, kills: int, seed: int) -> None:
        self._ground, self._folder, self._kills = ground, folder, kills
        self._dice = random.Random(seed)
        self._names = [f"sim-{i:04}" for i in range(devices)]
        self._conditions = Conditions(seed=seed, linger_s=3.0, report_s=15.0, probation_s=1.0)
        self._outcome = Outcome(seed=seed, devices=devices)
        self._ids: list[tuple[str, int]] = []

    async def fall(self) -> Outcome:
        started = time.monotonic()
        system, fleet = self._ground.system, Fleet(self._folder / "fleet", self._conditions)
        config = system.hub.data_dir / "admin" / "hubctl.yaml"
        async with AsyncExitStack() as stack:
            hub, broker = await self._addresses(stack)
            self._relays = (hub, broker)
            self._admin = Admin(config, address=f"localhost:{hub.port}")
            await fleet.enrol(self._admin, self._names, labels=LABELS)
            fleet.reroute(hub=hub.port, broker=broker.port)
            async with fleet:
                await self._until(lambda: fleet.picture().connected == len(self._names), "the fleet to be connected")
                await self._kill_through_rollouts(fleet)
                await self._settle(fleet)
                assert not fleet.failed(), fleet.failed()
                witnesses = {str(device.id): await _in_thread(partial(self._witness, device)) for device in fleet.devices}
            self._outcome.wrong = wrong(self._outcome.runs, witnesses)
            self._outcome.records = sum(one.stored for one in witnesses.values())
            self._outcome.reconnects = sum(device.traffic.connects - 1 for device in fleet.devices)
        self._outcome.seconds = time.monotonic() - started
        return self._outcome

    async def _addresses(self, stack: AsyncExitStack) -> tuple[Relay, Relay]:
        """Of gRPC and of the broker, which stay the same whoever leads."""
        hub = await stack.enter_async_context(Relay(lambda: self._ground.leader.config.grpc.port))
        broker = await stack.enter_async_context(Relay(lambda: self._ground.leader.config.broker.port))
        return hub, broker

    async def _kill_through_rollouts(self, fleet: Fleet) -> None:
        while self._outcome.kills < self._kills:
            id = await self._begin()
            while self._outcome.kills < self._kills and not self._ended(id):
                await asyncio.sleep(self._dice.uniform(*PAUSE_S))
                rollout = self._ground.system.rollout(id)
                self._outcome.kills_in_wave[rollout.wave] += rollout.state is RolloutState.RUNNING
                self._outcome.away_s.append(await _in_thread(self._ground.kill))
                self._outcome.kills += 1
                if self._ground.postgres is not None:
                    for relay in self._relays:
                        relay.cut()
                log.info("killed, away for %.1f s; %s", self._outcome.away_s[-1], fleet.picture().versions)
            await self._until(partial(self._ended, id), f"the end of rollout {id}")

    async def _begin(self) -> str:
        system = self._ground.system
        version = await _in_thread(lambda: system.publish(lambda number: files(version=number)))
        create = partial(
            self._admin.roll_out, version.name, version.version, LABELS, canary=max(1, len(self._names) // 4), soak_s=SOAK_S
        )
        deadline = time.monotonic() + SETTLE_S
        while True:
            try:
                id = await _in_thread(create)
                break
            except grpc.RpcError:  # the channel has not noticed yet that there is a hub again
                assert time.monotonic() < deadline, "the hub takes no rollout"
                await asyncio.sleep(0.2)
        self._ids.append((id, version.version))
        log.info("rollout %s of version %d", id, version.version)
        return id

    async def _settle(self, fleet: Fleet) -> None:
        await self._until(lambda: all(device.version == self._ids[-1][1] for device in fleet.devices), "the last version")
        for device in fleet.devices:
            device.hush()
        await self._until(lambda: fleet.picture().settled == len(self._names), "the hub to confirm every record")
        for id, version in self._ids:
            rollout = self._ground.system.rollout(id)
            waves = {str(one.device): one.wave for one in rollout.devices}
            self._outcome.runs.append(Run(id=id, version=version, state=rollout.state.name, soak_s=SOAK_S, waves=waves))

    def _witness(self, device: SimulatedDevice) -> Witness:
        system = self._ground.system
        return Witness(
            asked=[(at, twin.generation, twin.rollout_id) for at, twin in device.asked],
            started=device.updates.runner.started,
            committed={
                int(told.detail.split()[0].partition(":")[2]): at
                for at, told in device.ended
                if told.kind == "update.committed"
            },
            runs=system.runs(device.id),
            generation=system.services.fleet.get(ADMIN, DeviceId(device.id)).desired.generation,
            produced=device.told.produced,
            stored=system.stored(device.id),
        )

    def _ended(self, id: str) -> bool:
        return self._ground.system.rollout(id).state is not RolloutState.RUNNING

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + SETTLE_S
        while not await _in_thread(condition):
            assert time.monotonic() < deadline, f"waited {SETTLE_S:.0f} s for {what}"
            await asyncio.sleep(0.2)


async def _in_thread(call: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, call)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.chaos.hub_restarts", description=__doc__)
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--pair", action="store_true", help="two hubs on a PostgreSQL server of the run's own")
    parser.add_argument("--keep", type=Path, help="leave logs and databases in this folder")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="chaos-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    outcome = run(folder, devices=options.devices, kills=options.kills, seed=options.seed, pair=options.pair)
    sys.stdout.write(json.dumps(outcome.as_json(), indent=2) + "\n")
    if options.keep is None:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if outcome.wrong else 0)


if __name__ == "__main__":
    main()
