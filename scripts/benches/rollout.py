"""A rollout to a simulated fleet: how long it takes, what it costs the hub, and how many bytes each device needs.

The hub is a real process with its broker; the devices are those of ``scripts/simulate_fleet``: their TUF checks, downloads and
update engine are the agent's own, so most of the work of a rollout is theirs, and on one machine they take the time away from
the hub. That is why CPU is told apart. Reference of the time: one device alone, in the same run. Of the bytes: the files.
"""

import argparse
import asyncio
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cloud_hub.core.model import ModelVersion
from scripts.benches._figures import figure
from scripts.benches._serving import ServingHub, cpu_s, peak_mb
from scripts.fleet.admin import Admin
from scripts.fleet.conditions import Conditions
from scripts.fleet.fleet import Fleet
from scripts.fleet.main import MEMORY
from scripts.fleet.relay import Relay

MODEL_BYTES = 256 << 10  # nothing in it can be compressed, and there is nothing to make a delta from
GOLDEN_BYTES = 16 << 10
METERED = 10  # devices whose gRPC is counted on the wire: counting costs time
IDLE_S = 10.0
DEADLINE_S = 540.0
CONDITIONS = Conditions(readings_per_s=0.1, linger_s=60.0, report_s=60.0, probation_s=2.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="60 devices instead of 1,000")
    devices = 60 if parser.parse_args().quick else 1000
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=MEMORY if MEMORY.is_dir() else None))
    hub = ServingHub(folder / "hub")
    try:
        asyncio.run(_measure(hub, folder, devices))
    finally:
        hub.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(hub: ServingHub, folder: Path, devices: int) -> None:
    fleet = Fleet(folder / "fleet", CONDITIONS)
    admin = Admin(hub.admin)
    at_rest = _Costs.of(hub)
    started = time.monotonic()
    await fleet.enrol(admin, ["alone"], labels={"fleet": "alone"})
    await fleet.enrol(admin, [f"sim-{i:05}" for i in range(devices)], labels={"fleet": "bench"})
    enrolled_s = time.monotonic() - started
    async with Relay(lambda: hub.config.grpc.port) as relay:
        fleet.reroute(hub=relay.port, first=METERED)
        async with fleet:
            await _until(lambda: fleet.picture().connected == devices + 1, "the fleet to be connected")
            one = _publish(hub)
            alone_s = await _roll_out(hub, admin, one, {"fleet": "alone"})
            before = _Costs.of(hub)
            await asyncio.sleep(IDLE_S)
            idle = _Costs.of(hub).since(before)
            version = _publish(hub)
            before, sent, own = _Costs.of(hub), fleet.picture(), _own_cpu_s()
            converged_s = await _roll_out(hub, admin, version, {"fleet": "bench"})
            cost, after = _Costs.of(hub).since(before), fleet.picture()
            own_s = _own_cpu_s() - own
            assert not fleet.failed(), fleet.failed()
    name = f"{devices} devices"
    figure("rollout", f"time to converge, {name}", converged_s, "s", reference=alone_s)
    idle_s = (idle.hub_cpu_s + idle.broker_cpu_s) / IDLE_S * converged_s
    figure("rollout", f"hub CPU, {name}", cost.hub_cpu_s, "s", reference=idle_s)
    figure("rollout", f"broker CPU, {name}", cost.broker_cpu_s, "s")
    figure("rollout", f"simulated devices' CPU, {name}", own_s, "s")
    figure("rollout", f"hub peak memory, {name}", cost.peak_mb, "MB", reference=at_rest.peak_mb)
    payload = MODEL_BYTES + GOLDEN_BYTES + version.variants[0].manifest_size_bytes
    figure("rollout", "gRPC per device, on the wire", relay.carried_bytes / METERED, "bytes", reference=payload)
    mqtt = (after.mqtt_bytes - sent.mqtt_bytes) / (devices + 1)
    figure("rollout", "MQTT per device, on the wire", mqtt, "bytes", reference=payload)
    figure("rollout", f"enrolment, {name}", (devices + 1) / enrolled_s, "devices/s")


def _publish(hub: ServingHub) -> ModelVersion:
    return hub.publish(os.urandom(MODEL_BYTES), os.urandom(GOLDEN_BYTES))


async def _roll_out(hub: ServingHub, admin: Admin, version: ModelVersion, selector: dict[str, str]) -> float:
    """All at once; seconds until the hub says that it has succeeded."""
    started = time.monotonic()
    id = await asyncio.to_thread(admin.roll_out, version.name, version.version, selector)
    await _until(lambda: hub.rollout(id).state.name != "RUNNING", "the rollout to end")
    rollout = hub.rollout(id)
    assert rollout.state.name == "SUCCEEDED", rollout.reason
    return time.monotonic() - started


async def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not await asyncio.to_thread(condition):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {DEADLINE_S:.0f} s for {what}")
        await asyncio.sleep(0.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Costs:
    """Of the hub's processes so far."""

    hub_cpu_s: float
    broker_cpu_s: float
    peak_mb: float

    @classmethod
    def of(cls, hub: ServingHub) -> "_Costs":
        return cls(hub_cpu_s=cpu_s(hub.pid), broker_cpu_s=cpu_s(hub.broker_pid), peak_mb=peak_mb(hub.pid))

    def since(self, before: "_Costs") -> "_Costs":
        return _Costs(
            hub_cpu_s=self.hub_cpu_s - before.hub_cpu_s,
            broker_cpu_s=self.broker_cpu_s - before.broker_cpu_s,
            peak_mb=self.peak_mb,
        )


def _own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
