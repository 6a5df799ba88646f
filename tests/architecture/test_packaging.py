"""The agent installs alone: a wheel, an empty environment, one runtime."""

import json
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from PIL import Image

from edge_agent.update.slots import SlotRecord, Slots
from protos.contract.ids import digest_of
from protos.contract.manifest import Format
from protos.contract.twin import ModelAssignment
from tests.agent import models
from tests.conftest import REPOSITORY

HUB_ONLY = {"torch", "sqlalchemy", "alembic", "typer", "rich", "apscheduler", "matplotlib"}


@pytest.fixture(scope="module")
def agent_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("agent")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(REPOSITORY)], check=True, capture_output=True
    )
    (wheel,) = folder.glob("tideline-*.whl")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"{wheel}[onnx]"], check=True, capture_output=True)
    return python


@pytest.mark.timeout(600)
def test_an_agent_only_wheel_works_in_an_empty_environment(agent_python: Path, tmp_path: Path) -> None:
    _install_model(tmp_path / "data")
    (tmp_path / "frames").mkdir()
    Image.new("RGB", (32, 24), (200, 10, 10)).save(tmp_path / "frames" / "a.png")
    (tmp_path / "agent.yaml").write_text("source: {kind: folder, path: frames, fps: 0}\n")
    run = _agent(agent_python, tmp_path, "run", "--config", "agent.yaml", "--data-dir", "data", "--max-frames", "1")
    assert run.returncode == 0, run.stderr
    assert "first inference" in run.stderr
    assert "Traceback" not in run.stderr


def test_the_agent_says_which_version_it_is(agent_python: Path, tmp_path: Path) -> None:
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert declared in _agent(agent_python, tmp_path, "version").stdout


def test_the_agents_environment_holds_nothing_of_the_hub(agent_python: Path) -> None:
    command = [agent_python, "-m", "pip", "list", "--format", "json"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    names = {package["name"].lower() for package in json.loads(listed.stdout)}
    assert "onnxruntime" in names
    assert HUB_ONLY.isdisjoint(names)


def _agent(python: Path, folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """``edge-agent`` with an environment that leads nowhere else."""
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    command = [python.parent / "edge-agent", *words]
    return subprocess.run(command, env=bare, cwd=folder, capture_output=True, text=True, timeout=60)


def _install_model(data_dir: Path) -> None:
    """As an update leaves it."""
    files = models.files(Format.ONNX)
    slots = Slots(data_dir / "models")
    slot = slots.other()
    assignment = ModelAssignment(
        name=files.manifest.name,
        version=files.manifest.version,
        manifest_digest=digest_of(files.manifest_bytes),
        manifest_size_bytes=len(files.manifest_bytes),
    )
    slots.prepare(slot, SlotRecord(assignment=assignment, generation=1, good=True))
    files.write(slot.folder)
    slots.activate(slot)
