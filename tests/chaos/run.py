"""Let faults rain on a world for a while, then count. ``scripts/chaos --minutes N --seed S``."""

import argparse
import json
import logging
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos import faults, stored
from tests.chaos.faults import Fault
from tests.chaos.verdict import Verdict, judge, summary
from tests.chaos.world import World
from tests.e2e.system import wait_for

AT_ONCE = 3  # faults
PAUSE_S = (0.1, 1.2)  # between two
SETTLE_S = 120.0

log = logging.getLogger("chaos")


@dataclass(slots=True, kw_only=True)
class Outcome:
    seed: int
    seconds: float
    faults: Counter[str] = field(default_factory=Counter)
    impossible: list[str] = field(default_factory=list)  # faults that this machine does not allow
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    died: list[str] = field(default_factory=list)  # processes that ended although nobody ended them
    settled_s: float = 0.0
    false_starts: int = 0  # of the hub and its replicas while their database was away or busy

    @property
    def good(self) -> bool:
        return not self.died and not any(verdict.wrong for verdict in self.verdicts.values())

    def as_json(self) -> dict[str, Any]:
        return {
            "good": self.good,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "settled_s": round(self.settled_s, 1),
            **summary(self.verdicts),
            "died": self.died,
            "false_starts": self.false_starts,
            "faults": dict(sorted(self.faults.items())),
            "faults_total": self.faults.total(),
            "impossible_here": self.impossible,
        }


def rain(world: World, seconds: float, seed: int, only: set[str] | None = None) -> tuple[Counter[str], list[str]]:
    """Faults at random times on random parts, several at once but never two on the same part; their count, and who died."""
    dice, happened, died = random.Random(seed), Counter[str](), list[str]()
    known = {name: found for name, found in faults.of(world).items() if only is None or name in only}
    locks: dict[str, threading.Lock] = {}
    until = time.monotonic() + seconds
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = []
        while time.monotonic() < until:
            name = dice.choice(sorted(known))
            part, fault = dice.choice(known[name])
            own = random.Random(dice.random())
            lock = locks.setdefault(part, threading.Lock())
            if lock.acquire(blocking=False):
                running.append(pool.submit(_one, world, name, fault, own, lock, happened, died))
            time.sleep(dice.uniform(*PAUSE_S))
        for done in running:
            done.result()
    died += _died(world)
    return happened, died


def _one(
    world: World, name: str, fault: Fault, dice: random.Random, lock: threading.Lock, happened: Counter[str], died: list[str]
) -> None:
    try:
        log.info("fault: %s", name)
        happened[name] += 1
        fault(dice)
    except AssertionError as error:
        died.append(f"after {name}: {error}")
    finally:
        lock.release()


def _died(world: World) -> list[str]:
    ended = {name: process.poll() for name, process in world.processes.items() if process is not None}
    return [f"{name}: status {status}" for name, status in ended.items() if status is not None]


def run(
    folder: Path,
    *,
    seconds: float,
    seed: int,
    devices: int,
    fps: float,
    only: set[str] | None = None,
    broken: bool = False,
    postgres: bool = False,
    replicas: int = 0,
) -> Outcome:
    """Everything of the run is below ``folder``."""
    outcome = Outcome(seed=seed, seconds=seconds)
    world = World(folder, devices=devices, seed=seed, fps=fps, broken=broken, postgres=postgres, replicas=replicas)
    try:
        time.sleep(1.0)  # let there be records
        outcome.impossible = sorted(faults.EVERYWHERE - faults.of(world).keys())
        outcome.faults, outcome.died = rain(world, seconds, seed, only)
        started = time.monotonic()
        world.settle(SETTLE_S)
        wait_for(lambda: stored.folded(world.database_url), "everything to be folded", SETTLE_S)
        outcome.settled_s = time.monotonic() - started
        outcome.false_starts = world.false_starts
        stopped = world.hub.stop()
        if stopped != 0:
            outcome.died.append(f"hub: status {stopped} at its end")
        held = stored.of(world.database_url, world.hub.data_dir / "telemetry")
        for device in world.devices:
            may_drop = device.disk is not None and bool(outcome.faults["device's disk full"])
            outcome.verdicts[device.id] = judge(device.owed, held[device.id], may_drop=may_drop)
    finally:
        world.close()
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--devices", type=int, default=4)
    parser.add_argument("--fps", type=float, default=25.0, help="frames a second of each device")
    parser.add_argument(
        "--postgres", action="store_true", help="the hub on a PostgreSQL server of its own, which is killed too"
    )
    parser.add_argument("--replicas", type=int, default=0, help="processes that ingest beside the hub")
    parser.add_argument("--broken", action="store_true", help="agents that forget on PUBACK: the count must find it")
    parser.add_argument("--keep", type=Path, help="leave logs and databases in this folder")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    outcome = run(
        folder,
        seconds=60 * options.minutes,
        seed=options.seed,
        devices=options.devices,
        fps=options.fps,
        broken=options.broken,
        postgres=options.postgres,
        replicas=options.replicas,
    )
    sys.stdout.write(json.dumps(outcome.as_json(), indent=2) + "\n")
    if outcome.good and options.keep is None:
        shutil.rmtree(folder, ignore_errors=True)
    elif not outcome.good:
        log.error("logs and databases are in %s", folder)
    sys.exit(0 if outcome.good else 1)


if __name__ == "__main__":
    main()
