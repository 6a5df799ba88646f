"""What goes wrong, each by name; every one heals itself before it returns."""

import random
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from tests.chaos.proxy import Weather
from tests.chaos.world import Device, World

Fault = Callable[[random.Random], None]
YEAR_S = 365 * 86_400.0
EVERYWHERE = {  # on every machine that lets us mount small disks
    "agent killed", "agent stopped", "agent's clock jumps", "line cut", "line slow", "line corrupts", "line hangs",
    "line refuses", "device's disk full", "hub killed", "hub stopped", "hub's clock jumps", "hub's disk full", "broker killed",
    "broker stopped", "broker killed while the hub was stopped",
}  # fmt: skip


class Restartable(Protocol):
    def kill(self) -> None: ...

    def start(self) -> None: ...


def of(world: World) -> dict[str, list[tuple[str, Fault]]]:
    """Name -> (the part that it needs to itself, the fault), one for each part that it can happen to."""
    found: dict[str, list[tuple[str, Fault]]] = defaultdict(list)
    for device in world.devices:
        for name, part, fault in _of_device(device):
            found[name].append((part, fault))
    for name, fault in _of_hub(world).items():
        found[name].append(("hub", fault))
    found["hub's clock jumps"].append(("hub's clock", _jump(world.hub.entry.jump)))
    for replica in world.replicas:
        found["replica killed"].append((replica.name, _restarted(replica)))
        found["replica stopped"].append((replica.name, _for_a_while(replica.frozen, 0.5, 40.0)))
    if world.postgres is not None:
        found["database killed"].append(("database", _restarted(world.postgres)))
    return dict(found)


def _of_device(device: Device) -> list[tuple[str, str, Fault]]:
    line = f"line of {device.id}"
    found: list[tuple[str, str, Fault]] = [
        ("agent killed", device.id, _restarted(device)),
        ("agent stopped", device.id, _for_a_while(device.frozen, 0.2, 5.0)),
        ("agent's clock jumps", f"clock of {device.id}", _jump(device.entry.jump)),
        ("line cut", line, lambda _: device.line.cut()),
        ("line slow", line, _weather(device, lambda dice: Weather(delay_s=dice.uniform(0.01, 0.3)))),
        ("line corrupts", line, _weather(device, lambda dice: Weather(corrupt=dice.uniform(0.02, 0.3)))),
        ("line hangs", line, _weather(device, lambda _: Weather(stalled=True))),
        ("line refuses", line, _weather(device, lambda _: Weather(refusing=True))),
    ]
    if device.disk is not None and device.disk.mounted:
        found.append(("device's disk full", f"disk of {device.id}", _for_a_while(device.disk.full, 0.5, 3.0)))
    return found


def _of_hub(world: World) -> dict[str, Fault]:
    hub = world.hub
    found: dict[str, Fault] = {
        "hub killed": _restarted(hub),
        "hub stopped": _for_a_while(hub.frozen, 0.5, 4.0),
        "broker killed": lambda _: hub.kill_broker(),
        "broker stopped": _for_a_while(hub.frozen_broker, 0.5, 4.0),
        "broker killed while the hub was stopped": lambda dice: _broker_dies_with_a_queue(world, dice),
    }
    if hub.disk.mounted:
        found["hub's disk full"] = _for_a_while(hub.disk.full, 0.5, 3.0)
    return found


def _broker_dies_with_a_queue(world: World, dice: random.Random) -> None:
    """What the broker has acknowledged and not yet handed on dies with it."""
    with world.hub.frozen():
        time.sleep(dice.uniform(1.0, 2.0))
        world.hub.kill_broker()
        time.sleep(0.3)


def _restarted(process: Restartable) -> Fault:
    def run(dice: random.Random) -> None:
        process.kill()
        time.sleep(dice.choice([0.0, 0.0, 1.0, 3.0]))
        process.start()

    return run


def _for_a_while(state: Callable[[], AbstractContextManager[None]], least_s: float, most_s: float) -> Fault:
    def run(dice: random.Random) -> None:
        with state():
            time.sleep(dice.uniform(least_s, most_s))

    return run


def _jump(jump: Callable[[float], None]) -> Fault:
    def run(dice: random.Random) -> None:
        jump(dice.choice([-1, 1]) * dice.choice([0.5, 5.0, 60.0, 3600.0, 86_400.0, YEAR_S]))
        time.sleep(dice.uniform(0.5, 3.0))
        jump(0.0)

    return run


def _weather(device: Device, make: Callable[[random.Random], Weather]) -> Fault:
    def run(dice: random.Random) -> None:
        device.line.weather = make(dice)
        time.sleep(dice.uniform(0.5, 5.0))
        device.line.calm()

    return run
