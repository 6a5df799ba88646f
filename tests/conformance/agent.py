"""The agent as it is run: a process with a configuration file and a data directory."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from edge_agent.update.slots import SlotRecord, Slots
from protos.contract.ids import digest_of
from protos.contract.twin import ModelAssignment
from tests.agent import models
from tests.agent.models import SIDE

DEADLINE_S = 30.0
CONFIG = {
    "source": {"kind": "folder", "fps": 50.0, "loop": True},
    "capture": {"control_rate": 0.0},
    "spool": {"linger_s": 0.2, "batch_records": 20},
    "sync": {"report_s": 1.0, "backoff_min_s": 0.05, "backoff_max_s": 0.3, "stall_s": 2.0},
    "update": {"probation_s": 0.3, "probation_inferences": 5, "disk_reserve_bytes": 1},
}


class Agent:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.images = folder / "images"
        self.images.mkdir(parents=True)
        self.data_dir.mkdir()
        self.process: subprocess.Popen[bytes] | None = None
        self.configure()
        self.show(np.random.default_rng(3).integers(0, 256, (8, SIDE, SIDE, 3), np.uint8))

    def configure(self, **sections: dict[str, Any]) -> None:
        merged = {name: {**CONFIG.get(name, {}), **sections.get(name, {})} for name in CONFIG | sections}
        merged["source"].setdefault("path", str(self.images))
        (self.folder / "agent.yaml").write_text(yaml.safe_dump(merged | {"data_dir": str(self.data_dir)}))

    def show(self, frames: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        """What is before the camera from now on."""
        for i, pixels in enumerate(frames):
            hidden = self.images / f".{i}.png"
            Image.fromarray(pixels).save(hidden)
            hidden.replace(self.images / f"{i}.png")

    def equip(self) -> None:
        equip(self.data_dir)

    def start(self, *arguments: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EDGE_AGENT__")}
        with (self.folder / "log").open("ab") as log:
            command = [sys.executable, "-m", "edge_agent.app.cli", "run", "--config", str(self.folder / "agent.yaml")]
            self.process = subprocess.Popen([*command, *arguments], stdout=log, stderr=log, env=environment)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Its exit status after SIGTERM."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def status(self) -> dict[str, Any]:
        try:
            values: dict[str, Any] = json.loads((self.data_dir / "status.json").read_text())
        except FileNotFoundError:
            return {}
        return values

    def logged(self, message: str) -> list[dict[str, Any]]:
        lines = (self.folder / "log").read_text().splitlines()
        return [line for line in map(_parsed, lines) if line.get("message") == message]

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Until it holds; the agent must live as long."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            log = (self.folder / "log").read_text()[-3000:]
            assert self.process is not None and self.process.poll() is None, f"the agent ended; {what} never came:\n{log}"
            assert time.monotonic() < deadline, f"waited {DEADLINE_S} s for {what}:\n{log}"
            time.sleep(0.02)  # between looks at what another process does


def equip(data_dir: Path) -> None:
    """Put a committed model on the disk of an agent, as an earlier run would have left it."""
    files = models.files()
    slots = Slots(data_dir / "models")
    slot = slots.slot("a")
    assignment = ModelAssignment(
        name=files.manifest.name,
        version=files.manifest.version,
        manifest_digest=digest_of(files.manifest_bytes),
        manifest_size_bytes=len(files.manifest_bytes),
    )
    slots.prepare(slot, SlotRecord(assignment=assignment, generation=1))
    files.write(slot.folder)
    slots.mark(slot, good=True)
    slots.activate(slot)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """``edge-agent`` with ``arguments``, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "edge_agent.app.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )


def _parsed(line: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
