"""What a device keeps of its very first day, when every folder is new: a power cut at its end."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.update.slots import Slots
from tests.chaos.power import Power, build, compiler

FIRST_DAY = f"""
import sys
sys.path.insert(0, {str(Path.cwd())!r})
from pathlib import Path
from edge_agent.app.bootstrap import _claim
from edge_agent.sync import identity
from tests.agent import models
from tests.conformance.agent import equip
data_dir = Path("disk/data").absolute()
with _claim(data_dir), identity.claim(data_dir):
    equip(data_dir)
"""


def test_the_first_model_survives_a_power_cut_that_leaves_only_what_was_synced(tmp_path: Path) -> None:
    if compiler() is None:
        pytest.skip("no C compiler on PATH: power cuts need one")
    (tmp_path / "tree" / "disk").mkdir(parents=True)
    power = Power(build(tmp_path), tmp_path / "tree", tmp_path / "shadow")
    power.settle()
    subprocess.run([sys.executable, "-c", FIRST_DAY], cwd=tmp_path / "tree", env=dict(power.environment()), check=True)
    power.cut(random.Random(1), reached=0.0)
    slots = Slots(tmp_path / "tree" / "disk" / "data" / "models")
    current = slots.current()
    assert current is not None
    slots.check(current)
