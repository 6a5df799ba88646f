import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_committed_code_is_what_the_generator_makes(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed")
    command = [str(REPOSITORY / "scripts" / "gen_protos"), str(tmp_path)]
    subprocess.run(command, check=True, timeout=120, env={**os.environ, "PYTHON": sys.executable})
    made = {path.name: path.read_bytes() for path in (tmp_path / "protos" / "v1").iterdir()}
    committed = {path.name: path.read_bytes() for path in (REPOSITORY / "protos" / "v1").glob("*_pb2*.py*")}
    stale = sorted(name for name in made.keys() | committed.keys() if made.get(name) != committed.get(name))
    assert not stale, f"run scripts/gen_protos: {', '.join(stale)}"
