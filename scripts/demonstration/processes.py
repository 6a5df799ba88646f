"""The real programs, as a person would start them."""

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from scripts.demonstration.timeline import StepFailed

BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}:/usr/sbin", "ORT_DISABLE_TELEMETRY": "1"}


@dataclass(slots=True)
class Programs:
    """Starts hub and agents under ``folder``; ``stop`` ends whatever still runs."""

    folder: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *command: object) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        self.running[name] = subprocess.Popen(
            [BIN / str(command[0]), *map(str, command[1:])],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=ENVIRONMENT, start_new_session=True,
        )  # fmt: skip

    def run(self, name: str, *command: object) -> None:
        """Start and wait; StepFailed with its last words if it fails."""
        self.start(name, *command)
        if self.running.pop(name).wait(60):
            raise StepFailed(f"{name}: {(self.folder / f'{name}.log').read_text(errors='replace').strip()[-500:]}")

    def check(self) -> None:
        """StepFailed if a program has ended by itself."""
        for name, process in self.running.items():
            if process.poll() is not None:
                tail = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-3:]
                raise StepFailed(f"{name} ended with code {process.returncode}: " + " | ".join(tail))

    def stop(self, *names: str) -> None:
        for name in names or reversed(list(self.running)):
            process = self.running.pop(name)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


@dataclass(frozen=True, slots=True)
class Hubctl:
    """``hubctl`` with the first admin's configuration."""

    config: Path

    def __call__(self, *words: object) -> Any:
        """The command's JSON; StepFailed with its own words when it fails."""
        done = self._run("--output", "json", *words)
        return json.loads(done) if done.strip() else None

    def rows(self, *words: object) -> list[dict[str, Any]]:
        """For commands that print JSON lines."""
        return [json.loads(line) for line in self._run("--output", "json", *words).splitlines() if line.strip()]

    def _run(self, *words: object) -> str:
        command = [str(BIN / "hubctl"), "--config", str(self.config), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
        if done.returncode:
            raise StepFailed(f"hubctl {' '.join(map(str, words))}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_yaml(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path
