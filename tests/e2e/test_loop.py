"""The main job, as a person runs it: the demo's own exit code is the test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

MINUTES = 60


@pytest.mark.timeout(12 * MINUTES)
def test_the_loop_closes_on_digits(tmp_path: Path) -> None:
    summary = _play(tmp_path)
    assert summary["accuracy"]["day/fleet"] > 0.95
    assert summary["accuracy"]["after/fleet"] > summary["accuracy"]["changed/fleet"] + 0.2


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.timeout(20 * MINUTES)
def test_the_loop_closes_on_real_traffic_signs(shared_data: Path, tmp_path: Path) -> None:
    signs = tmp_path / "signs"
    subprocess.run(
        [sys.executable, "-m", "scripts.demonstration.gtsrb", shared_data / "gtsrb32", signs], cwd=REPOSITORY, check=True
    )
    summary = _play(tmp_path, "--data", str(signs))
    assert summary["accuracy"]["after/fleet"] > summary["accuracy"]["changed/fleet"]


def _play(folder: Path, *options: str) -> dict[str, dict[str, float]]:
    out = folder / "demo"
    done = subprocess.run(
        [sys.executable, "-m", "scripts.demonstration.main", "--out", str(out), *options],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert (out / "report.html").stat().st_size > 50_000
    summary: dict[str, dict[str, float]] = json.loads((out / "summary.json").read_text())
    return summary
