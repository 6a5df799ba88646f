"""The agent installs alone: a wheel, an empty environment, one runtime."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

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
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    version = subprocess.run(
        [agent_python.parent / "edge-agent", "version"], env=bare, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert version.stdout.strip()

    (tmp_path / "frames").mkdir()
    _write_png(agent_python, tmp_path / "frames" / "a.png")
    (tmp_path / "agent.yaml").write_text("source: {kind: folder, path: frames, fps: 0}\n")
    run = subprocess.run(
        [agent_python.parent / "edge-agent", "run", "--config", "agent.yaml", "--data-dir", "data", "--max-frames", "1"],
        env=bare,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr


def test_the_agents_environment_holds_nothing_of_the_hub(agent_python: Path) -> None:
    command = [agent_python, "-m", "pip", "list", "--format", "json"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    names = {package["name"].lower() for package in json.loads(listed.stdout)}
    assert "onnxruntime" in names
    assert HUB_ONLY.isdisjoint(names)


def _write_png(python: Path, path: Path) -> None:
    code = f"from PIL import Image; Image.new('RGB', (32, 32), (200, 10, 10)).save({str(path)!r})"
    subprocess.run([python, "-c", code], check=True)
