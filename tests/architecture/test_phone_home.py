"""No library reports to whoever made it: neither in the programs nor in their units."""

import os
import subprocess
import sys

import pytest

from edge_agent.core import phone_home
from tests.conftest import REPOSITORY


@pytest.mark.parametrize("unit", ["cloud-hub.service", "edge-agent.service"])
def test_the_units_switch_every_report_off(unit: str) -> None:
    lines = (REPOSITORY / "deploy" / unit).read_text().splitlines()
    set_ = {word for line in lines if line.startswith("Environment=") for word in line.removeprefix("Environment=").split()}
    assert {f"{name}={value}" for name, value in phone_home.OFF.items()} <= set_


@pytest.mark.parametrize("program", ["edge_agent.app.cli", "cloud_hub.app.cli"])
def test_the_programs_switch_every_report_off_whatever_their_environment_says(program: str) -> None:
    code = f"""
import os, sys
import {program}
sys.argv = ["program", "version"]
try:
    {program}.main()
except SystemExit:
    pass
print(*(os.environ.get(name) for name in {list(phone_home.OFF)}))
"""
    contrary = {name: "0" for name in phone_home.OFF}
    out = subprocess.run([sys.executable, "-c", code], env=os.environ | contrary, capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1].split() == list(phone_home.OFF.values())
