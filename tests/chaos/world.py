"""The processes of a run and what can be done to them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.agent.models import SIDE
from tests.chaos import witness
from tests.chaos.database import Postgres
from tests.chaos.proxy import Proxy
from tests.chaos.witness import Owed
from tests.conformance.agent import Agent
from tests.e2e.system import BOARD, HubProcess, environment, program, wait_for

FRAMES = 16
DEVICE_DISK = "6m"
HUB_DISK = "512m"
SPOOL_BYTES = 2 << 20
START_S = 120.0
STREAMS = """
streams:
  flicker:  # holds for about every second window of these frames: windows in one lane, events in another
    window: {kind: tumbling, size_s: 0.5}
    aggregates: {mean: mean(confidence), readings: count}
    condition: mean > 0.57
"""


class Entry:
    """How a process is started so that its clock can be moved."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"

    def command(self, which: str) -> list[str]:
        return [sys.executable, "-m", "tests.chaos.entry", which]

    def environment(self) -> dict[str, str]:
        return environment() | {"CHAOS_CLOCK": str(self._file)}

    def jump(self, seconds: float) -> None:
        self._file.write_text(str(seconds))


class ChaosHub(HubProcess):
    def __init__(self, folder: Path, **sections: Any) -> None:
        super().__init__(folder, **sections)
        self.entry = Entry(folder)
        self.disk = Disk(self.data_dir, HUB_DISK)
        self.false_starts = 0

    def launch(self, **env: str) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.entry.command("hub"), "serve", "--config", str(self.config_path)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.entry.environment() | env,
            )  # fmt: skip
        return self.process

    def start(self, **env: str) -> None:
        """On return it serves. As a service manager does, what ends before that is started again: its database may be away."""
        before = self.log.count('"message": "ready"')
        self.launch(**env)

        def ready() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                self.false_starts += 1
                self.launch(**env)
            return self.log.count('"message": "ready"') > before

        wait_for(ready, f"a ready hub: {self.log_path}", START_S)

    def kill_broker(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            os.kill(self.broker_pid, signal.SIGKILL)

    @contextlib.contextmanager
    def frozen_broker(self) -> Iterator[None]:
        """Where there is one now: it may just have been killed."""
        pid = 0
        with contextlib.suppress(ProcessLookupError, ValueError):
            pid = self.broker_pid
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                if pid:
                    os.kill(pid, signal.SIGCONT)


class Device(Agent):
    """An agent behind a line and a disk of its own, and what it owes."""

    def __init__(self, folder: Path, id: str, *, broken: bool, small_disk: bool) -> None:
        super().__init__(folder)
        self.id = id
        self.owed = Owed()
        self.entry = Entry(folder)
        self.disk = Disk(self.data_dir, DEVICE_DISK) if small_disk else None
        self._line: Proxy | None = None
        self._broken = broken
        self.show(np.random.default_rng(3).integers(0, 256, (FRAMES, SIDE, SIDE, 3), np.uint8))

    @property
    def line(self) -> Proxy:
        """To the broker."""
        assert self._line is not None, "it has not joined"
        return self._line

    def join(self, hub: ChaosHub, seed: int) -> None:
        """Enrol, and put the line to the broker through a proxy."""
        ticket = self.folder / "ticket.json"
        admin = hub.data_dir / "admin" / "hubctl.yaml"
        made = program("hubctl", "--config", admin, "device", "create", self.id, "--board", BOARD, "--ticket", ticket)
        assert made.returncode == 0, made.stderr
        done = program("edge-agent", "enroll", "--ticket", ticket, "--data-dir", self.data_dir)
        assert done.returncode == 0, done.stderr
        self._line = Proxy(hub.config.broker.port, seed)
        self._line.start()
        path = self.data_dir / "identity" / "hub.json"
        values = json.loads(path.read_text())
        values["broker"]["port"] = self.line.port
        path.write_text(json.dumps(values))
        self.equip()

    def watch(self, fps: float) -> None:
        specs = self.folder / "streams.yaml"
        specs.write_text(STREAMS)
        self.configure(source={"fps": fps}, spool={"max_bytes": SPOOL_BYTES}, streams={"specs": str(specs)})

    def drain_only(self) -> None:
        """Nothing new, also no windows that close by the clock."""
        self.configure(source={"kind": "none"}, spool={"max_bytes": SPOOL_BYTES})

    def start(self, *arguments: str) -> None:
        broken = ["--forget-on-puback"] if self._broken else []
        command = [*self.entry.command("agent"), *broken, "run", "--config", str(self.folder / "agent.yaml"), *arguments]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self.entry.environment())

    def kill(self) -> None:
        """And look at what it leaves."""
        super().kill()
        witness.look(self.data_dir, self.owed)

    def frozen(self) -> contextlib.AbstractContextManager[None]:
        return stopped(self.process)

    def close(self) -> None:
        super().close()
        if self._line is not None:
            self._line.stop()
        if self.disk is not None:
            self.disk.unmount()


@contextlib.contextmanager
def stopped(process: "subprocess.Popen[bytes] | None") -> Iterator[None]:
    """It notices nothing meanwhile."""
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


class Disk:
    """A small file system of its own below a folder, where we may mount one."""

    def __init__(self, folder: Path, size: str) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tideline-chaos", str(folder)]
        self.mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Not a byte is free at first; what its user deletes meanwhile it may use."""
        filler = self._folder / ".filler"
        try:
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            yield
        finally:
            filler.unlink(missing_ok=True)

    def unmount(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", str(self._folder)], capture_output=True, check=False)


class Replica:
    """A process that ingests beside the hub."""

    def __init__(self, hub: ChaosHub, name: str) -> None:
        self.name = name
        self._hub = hub
        self._entry = hub.entry
        self._down = False
        self.false_starts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._manager = threading.Thread(target=self._manage, name=name, daemon=True)
        self._ended = threading.Event()

    def start(self) -> None:
        """And see to it, as a service manager does, that it runs until it is stopped: its database may be away at a start."""
        self._launch()
        self._down = False
        if not self._manager.is_alive():
            self._manager.start()

    def _manage(self) -> None:
        while not self._ended.wait(0.5):
            if not self._down and self.process is not None and self.process.poll() is not None:
                self.false_starts += 1
                self._launch()

    def _launch(self) -> None:
        command = [*self._entry.command("hub"), "ingest", "--config", str(self._hub.config_path), "--name", self.name]
        with (self._hub.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self._entry.environment())

    def kill(self) -> None:
        self._down = True
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def frozen(self) -> contextlib.AbstractContextManager[None]:
        return stopped(self.process)

    def stop(self) -> int:
        self._down = True
        self._ended.set()
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)


class World:
    """A hub with its broker and, where asked for, a PostgreSQL server and replicas of its ingest; and devices."""

    def __init__(
        self,
        folder: Path,
        *,
        devices: int,
        seed: int,
        fps: float,
        broken: bool = False,
        postgres: bool = False,
        replicas: int = 0,
    ) -> None:
        sections: dict[str, Any] = {
            "metrics": {"port": 0},
            "telemetry": {"compact_after_s": 1.0, "compact_every_s": 2.0},
            "drift": {"window_s": 5.0},
        }
        self.postgres = Postgres() if postgres else None
        if self.postgres is not None:
            sections["database_url"] = self.postgres.url
        self.hub = ChaosHub(folder / "hub", **sections)
        self.replicas = [Replica(self.hub, f"ingest-{number}") for number in range(2, 2 + replicas)]
        self.devices: list[Device] = []
        try:
            self.hub.init()
            self.hub.start()
            for replica in self.replicas:
                replica.start()
            for number in range(devices):
                device = Device(folder / f"cam-{number}", f"cam-{number}", broken=broken, small_disk=number == 0)
                self.devices.append(device)
                device.join(self.hub, seed + number)
                device.watch(fps)
                device.start()
        except BaseException:
            self.close()
            raise

    def settle(self, deadline_s: float) -> None:
        """Nothing is wrong any more and nobody produces: wait until every spool is empty, then end everything in good order."""
        for device in self.devices:
            device.line.calm()
            status = device.stop()
            assert status == 0, f"{device.id} ended with {status}: {(device.folder / 'log').read_text()[-2000:]}"
            witness.look(device.data_dir, device.owed)
            device.drain_only()
            device.start()
        for device in self.devices:
            wait_for(partial(_empty, device.data_dir), f"an empty spool of {device.id}", deadline_s)
        for device in self.devices:
            assert device.stop() == 0
            witness.look(device.data_dir, device.owed)
        for replica in self.replicas:
            assert replica.stop() == 0

    @property
    def database_url(self) -> str:
        return self.postgres.url if self.postgres is not None else f"sqlite:///{self.hub.data_dir / 'hub.db'}"

    @property
    def processes(self) -> dict[str, "subprocess.Popen[bytes] | None"]:
        """What nobody starts again: it must be running."""
        return {device.id: device.process for device in self.devices} | {"hub": self.hub.process}

    @property
    def false_starts(self) -> int:
        return self.hub.false_starts + sum(replica.false_starts for replica in self.replicas)

    def close(self) -> None:
        for device in self.devices:
            device.close()
        for replica in self.replicas:
            if replica.process is not None and replica.process.poll() is None:
                replica.stop()
        self.hub.close()
        self.hub.disk.unmount()
        if self.postgres is not None:
            self.postgres.stop()


def _empty(data_dir: Path) -> bool:
    owed = Owed()
    with contextlib.suppress(Exception):  # the agent writes meanwhile: look again
        witness.look(data_dir, owed)
    return bool(owed.following) and not any(owed.records.values()) and not any(owed.gaps.values())
