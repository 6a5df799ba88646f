"""A whole system of real processes: a hub with its broker, and agents enrolled with it, each in a folder of its own."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from cloud_hub.app import setup
from cloud_hub.app.bootstrap import make_services
from cloud_hub.core import config as configuration
from cloud_hub.core.config import HubConfig
from cloud_hub.core.model import Baseline, ModelVersion, Principal, Role, Rollout, StoredReading, Variant
from cloud_hub.core.ports import BrokerAddress, TlsFiles
from cloud_hub.rpc.services import Services
from cloud_hub.services.readings import ReadingFilter
from cloud_hub.services.registry import PublishedVersion
from edge_agent.core.clock import SystemClock
from edge_agent.sense.keys import frame_key
from protos.contract.ids import DeviceId, digest_of
from protos.contract.twin import ReportedTwin
from tests.agent.models import LABELS, SIDE, ModelFiles
from tests.conformance.agent import Agent

ADMIN = Principal(role=Role.ADMIN, name="ada")
BOARD = "camera-x86"
BIN = Path(sys.executable).parent
DEADLINE_S = 30.0


def wait_for(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> float:
    """Seconds it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < deadline_s, f"waited {deadline_s:.0f} s for {what}"
        time.sleep(0.02)  # between looks at what another process does
    return time.monotonic() - started


def program(name: str, *words: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A console script of the distribution, to its end."""
    return subprocess.run(
        [BIN / name, *map(str, words)], capture_output=True, text=True, timeout=120, env=environment() | (env or {})
    )


def environment() -> dict[str, str]:
    """Ours without anybody's settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CLOUD_HUB__", "EDGE_AGENT__"))}
    return kept | {"PATH": f"{BIN}:{os.environ['PATH']}:/usr/sbin"}


_given: set[int] = set()


def free_port() -> int:
    """Below the ephemeral range: while a hub is down nobody's outgoing connection may take its port. Never the same again."""
    while True:
        port = random.randrange(20_000, 32_000)
        if port not in _given:
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
                _given.add(port)
                return port


class HubProcess:
    """``cloud-hub`` with a configuration and a data folder of its own."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.config_path = folder / "hub.yaml"
        self.log_path = folder / "hub.log"
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        values = {
            "data_dir": str(self.data_dir),
            "grpc": {"port": free_port(), "enroll_port": free_port(), "token_port": free_port()},
            "broker": {"port": free_port(), "kind": "mosquitto"},
            "metrics": {"port": free_port()},
        }
        self.config_path.write_text(yaml.safe_dump(values | sections))

    @cached_property
    def config(self) -> HubConfig:
        return configuration.load(self.config_path, {})

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def broker_pid(self) -> int:
        """Raises ValueError while there is none. By what runs: on a full disk the number was not written."""
        config = str(self.data_dir / "broker" / "mosquitto.conf").encode()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if config in (process / "cmdline").read_bytes().split(b"\0"):
                    return int(process.name)
        raise ValueError("no broker runs")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def init(self) -> None:
        done = program("cloud-hub", "init", "--config", self.config_path)
        assert done.returncode == 0, done.stderr

    def launch(self, **env: str) -> subprocess.Popen[bytes]:
        """Without waiting for anything."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [BIN / "cloud-hub", "serve", "--config", self.config_path],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment() | env,
            )  # fmt: skip
        return self.process

    def start(self, **env: str) -> None:
        """On return it serves."""
        before = self.log.count('"message": "ready"')
        process = self.launch(**env)
        wait_for(
            lambda: self.log.count('"message": "ready"') > before or process.poll() is not None,
            f"a ready hub:\n{self.log[-2000:]}",
        )
        assert process.poll() is None, self.log[-3000:]

    def stop(self) -> int:
        """Its exit status after SIGTERM."""
        self.signal(signal.SIGTERM)
        assert self.process is not None
        return self.process.wait(DEADLINE_S)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    @contextlib.contextmanager
    def frozen(self) -> Any:
        """It notices nothing meanwhile; its broker runs on."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def close(self) -> None:
        """Nothing of it is left, whatever state it is in."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.kill()
        with contextlib.suppress(OSError, ValueError):
            if str(self.folder).encode() in Path(f"/proc/{self.broker_pid}/cmdline").read_bytes():
                os.kill(self.broker_pid, signal.SIGKILL)


class System:
    """A running hub and, over its own database, what a test wants to know and to do without a remote call."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        """``sections`` of the hub's configuration."""
        self.folder = folder
        self.hub = HubProcess(folder / "hub", **sections)
        self.hub.init()
        self.hub.start()
        self.agents: list[Agent] = []
        self._database = setup.open_database(self.hub.config)
        self.root_keys = folder / "root-keys"
        self.hubctl("trust", "init", "--keys", self.root_keys)

    @cached_property
    def services(self) -> Services:
        return make_services(self.hub.config, self._database, setup.open_authority(self.hub.config), SystemClock())

    def close(self) -> None:
        for agent in self.agents:
            agent.close()
        self.hub.close()
        self._database.close()

    # -- people and devices -------------------------------------------------------------------------------------------

    def hubctl(self, *words: object) -> Any:
        """The command's JSON, as the first admin gets it."""
        config = self.hub.data_dir / "admin" / "hubctl.yaml"
        done = program("hubctl", "--config", config, "--output", "json", *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def agent(self, id: str) -> Agent:
        """Enrolled as a person does it; not started."""
        agent = Agent(self.folder / id)
        self.agents.append(agent)
        self.enroll(id, agent)
        return agent

    def enroll(self, id: str, agent: Agent) -> None:
        ticket = agent.folder / "ticket.json"
        self.hubctl("device", "create", id, "--board", BOARD, "--ticket", ticket)
        done = program("edge-agent", "enroll", "--ticket", ticket, "--data-dir", agent.data_dir)
        assert done.returncode == 0, done.stderr

    def broker(self) -> BrokerAddress:
        return BrokerAddress(host="localhost", port=self.hub.config.broker.port, protocol=5)

    # -- models out ---------------------------------------------------------------------------------------------------

    def publish(self, build: Callable[[int], ModelFiles]) -> ModelVersion:
        """A version without training; ``build`` gets its number."""
        registry, store = self.services.registry, self.services.artifacts
        number = registry.reserve(build(1).manifest.name)
        files = build(number)
        for blob in (files.manifest_bytes, files.model, files.golden_bytes):
            store.put(blob)
        manifest = files.manifest
        variant = Variant(
            target="onnx-fp32",  # what the board asks for first, whatever the manifest says
            manifest_digest=digest_of(files.manifest_bytes),
            manifest_size_bytes=len(files.manifest_bytes),
            artifact_digest=manifest.artifact.digest,
            artifact_size_bytes=manifest.artifact.size_bytes,
            golden_digest=manifest.golden.blob.digest,
            score=0.9,
            metric="accuracy",
            latency_p50_ms=1.0,
            output_error=0.0,
        )
        share = (1 / len(LABELS),) * len(LABELS)
        baseline = Baseline(labels=LABELS, label_share=share, confidence_share=(0.1,) * 10, confidence_mean=0.5, samples=100)
        return registry.publish(
            PublishedVersion(
                name=manifest.name,
                version=number,
                task=manifest.task,
                variants=(variant,),
                baseline=baseline,
                report={"accuracy": 0.9},
                job_id=f"by-hand-{number}",
            )
        )

    def blob_path(self, digest: str) -> Path:
        """Where the hub's store keeps it."""
        name = digest.removeprefix("sha256:")
        return self.hub.data_dir / "artifacts" / "sha256" / name[:2] / name

    def roll_out(self, version: ModelVersion, id: str) -> str:
        """Its id."""
        return self.services.rollouts.create(ADMIN, version.name, version.version, {"id": id}).id

    def rollout(self, id: str) -> Rollout:
        return self.services.rollouts.get(ADMIN, id)

    def reported(self, id: str) -> ReportedTwin:
        twin = self.services.fleet.get(ADMIN, DeviceId(id)).reported
        assert twin is not None
        return twin

    def runs(self, id: str) -> int:
        """Version of the model the device says it runs; 0: none."""
        twin = self.services.fleet.get(ADMIN, DeviceId(id)).reported
        return twin.model.version if twin is not None and twin.model is not None else 0

    def settled(self, id: str) -> bool:
        """The device has acted on what it was asked for last."""
        device = self.services.fleet.get(ADMIN, DeviceId(id))
        return device.reported is not None and device.reported.generation == device.desired.generation

    # -- telemetry in -------------------------------------------------------------------------------------------------

    def readings(self, id: str, since: datetime = datetime(2020, 1, 1, tzinfo=UTC)) -> list[StoredReading]:
        wanted = ReadingFilter(device=DeviceId(id), since=since, until=datetime(2100, 1, 1, tzinfo=UTC))
        pages = self.services.readings.query(ADMIN, wanted, limit=1_000_000)
        return [reading for page in pages for reading in page]

    def stored(self, id: str) -> int:
        """Records of a device."""
        return sum(stats.records for stats in self.services.telemetry.stats(ADMIN, DeviceId(id)).devices)

    def lost(self, id: str) -> int:
        """Records a device says it had to drop."""
        return sum(stats.gap_records for stats in self.services.telemetry.stats(ADMIN, DeviceId(id)).devices)

    def seen(self, id: str, names: list[str]) -> Counter[str]:
        """How often each of these frames is stored."""
        keys = {frame_key(name): name for name in names}
        return Counter(keys[reading.frame_key] for reading in self.readings(id) if reading.frame_key in keys)

    def goes_on(self, id: str, records: int = 20) -> float:
        """Seconds until so many more records of a device are stored: it infers, the broker carries, the hub serves."""
        before = self.stored(id)
        return wait_for(lambda: self.stored(id) >= before + records, f"telemetry of {id}")


def film(agent: Agent, name: str, frames: int, *, fps: float = 60.0) -> list[str]:
    """Make the agent see so many different frames once, and wait for more afterwards; their names. Before its start."""
    agent.images = agent.folder / name
    agent.images.mkdir()
    names = [f"{name}-{i:04}.png" for i in range(frames)]
    pixels = np.random.default_rng(5).integers(0, 256, (frames, SIDE, SIDE, 3), np.uint8)
    for path, frame in zip(names, pixels, strict=True):
        Image.fromarray(frame).save(agent.images / path)
    agent.configure(source={"loop": False, "fps": fps})
    return names


def tls_of(agent: Agent) -> TlsFiles:
    """The identity a device was given."""
    identity = agent.data_dir / "identity"
    return TlsFiles(ca=identity / "ca.pem", certificate=identity / "cert.pem", key=identity / "key.pem")
