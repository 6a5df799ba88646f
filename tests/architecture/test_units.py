"""The systemd units: little to gain for whoever breaks in, and all that the programs need."""

import re
import shutil
import subprocess

import pytest

from tests.conftest import REPOSITORY

UNITS = ("cloud-hub.service", "edge-agent.service")
EXPOSURE = 20  # tenths of what systemd-analyze gives at most, 0 to 10


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def settings(unit: str) -> list[tuple[str, str]]:
    lines = (REPOSITORY / "deploy" / unit).read_text().splitlines()
    return [(name, value) for name, _, value in (line.partition("=") for line in lines if re.match(r"[A-Z]\w+=", line))]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("AmbientCapabilities", ""),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("StateDirectoryMode", "0700"),
        ("UMask", "0077"),
        ("RestrictNamespaces", "yes"),
        ("SystemCallArchitectures", "native"),
    ],
)
def test_a_unit_gives_nothing_away(unit: str, name: str, value: str) -> None:
    assert (name, value) in settings(unit)


def test_a_unit_does_not_run_as_root(unit: str) -> None:
    assert dict(settings(unit))["User"] not in ("", "root", "0")


def test_a_unit_lets_the_program_jail_its_models(unit: str) -> None:
    """Without these calls models would run with all that the program may do, and its status would say so."""
    filters = [value.split() for name, value in settings(unit) if name == "SystemCallFilter"]
    needed = {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "seccomp", "@system-service"}
    assert needed <= {word for words in filters for word in words if not words[0].startswith("~")}
    taken = {word.removeprefix("~") for words in filters if words[0].startswith("~") for word in words}
    assert not taken & {*needed, "@resources", "@process", "@ipc"}  # rlimits, prctl, shared memory


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_finds_little_to_object_to(unit: str) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE}", REPOSITORY / "deploy" / unit]
    out = subprocess.run(command, capture_output=True, text=True)
    assert out.returncode == 0, out.stdout + out.stderr
