"""The folder tree is the architecture, and a tool says so."""

import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import firmware_images
from protos.contract.errors import InvalidValue
from tests.conftest import REPOSITORY

HEAVY = {
    "torch", "onnxruntime", "ai_edge_litert", "tflite_runtime", "cv2", "grpc", "paho", "sqlalchemy",
    "cryptography", "matplotlib", "typer", "rich", "apscheduler", "tuf", "securesystemslib", "urllib3",
}  # fmt: skip


def test_import_contracts_hold() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    out = subprocess.run([linter, "--no-logo"], cwd=REPOSITORY, capture_output=True, text=True)
    assert out.returncode == 0, out.stdout


def test_the_contracts_catch_a_forbidden_import(tmp_path: Path) -> None:
    """A linter that cannot fail proves nothing."""
    for package in ("protos", "edge_agent", "cloud_hub"):
        (tmp_path / package).symlink_to(REPOSITORY / package)
    (tmp_path / "edge_agent").unlink()
    (tmp_path / "edge_agent").mkdir()
    (tmp_path / "edge_agent" / "__init__.py").write_text("import sqlalchemy\n")
    for part in ("app", "sense", "infer", "decide", "streams", "spool", "sync", "update", "core"):
        (tmp_path / "edge_agent" / part).symlink_to(REPOSITORY / "edge_agent" / part)
    (tmp_path / "pyproject.toml").symlink_to(REPOSITORY / "pyproject.toml")
    linter = Path(sys.executable).parent / "lint-imports"
    out = subprocess.run(
        [linter, "--no-logo", "--no-cache"], cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path)}
    )
    assert out.returncode != 0
    assert "the agent is light BROKEN" in out.stdout


@pytest.mark.parametrize("module", ["edge_agent.app.cli", "edge_agent.infer", "edge_agent.sense.sources"])
def test_the_agents_entry_points_import_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY.isdisjoint(out.stdout.split())


def test_hubctl_imports_no_database_and_no_torch() -> None:
    code = "import sys, cloud_hub.app.hubctl; print(*{name.partition('.')[0] for name in sys.modules})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "sqlalchemy", "onnxruntime"}.isdisjoint(out.stdout.split())


def test_every_console_script_exists() -> None:
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
    for script in entry_points(group="console_scripts"):
        if script.name in declared:
            assert callable(script.load())


def test_every_board_is_described_and_an_unknown_one_is_named() -> None:
    boards = firmware_images.boards()
    assert {board.architecture for board in boards.values()} == {"x86_64", "aarch64", "armv7l"}
    assert boards["camera-armv7"].runtimes == ("tflite-legacy",)
    assert any(board.kind == "vehicle" for board in boards.values())
    with pytest.raises(InvalidValue, match="camera-x87.*known boards.*camera-x86"):
        firmware_images.board("camera-x87")
