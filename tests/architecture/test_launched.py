"""What a service manager starts must be able to go back by itself, whatever the agent in between ends with."""

import tomllib

from tests.architecture.test_units import settings
from tests.conftest import REPOSITORY


def test_the_unit_starts_the_launcher_on_the_folder_where_the_agent_keeps_its_bundles() -> None:
    values = dict(settings("edge-agent.service"))
    program, flag, folder, command, *_ = values["ExecStart"].split()
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts[program.rpartition("/")[2]] == "edge_agent.app.launcher:main"
    assert (flag, folder, command) == ("--app", f"/var/lib/{values['StateDirectory']}/app", "run")


def test_no_status_ends_the_service_for_good() -> None:
    """A bundle or a configuration on trial may end with any: only a new start counts against it."""
    values = dict(settings("edge-agent.service"))
    assert values["Restart"] == "always" and "RestartPreventExitStatus" not in values
    lines = (REPOSITORY / "deploy" / "edge-agent.service").read_text().splitlines()
    assert "StartLimitIntervalSec=0" in lines


def test_one_that_hangs_is_ended() -> None:
    values = dict(settings("edge-agent.service"))
    assert values["Type"] == "notify" and int(values["WatchdogSec"]) <= 60 and int(values["TimeoutStartSec"]) <= 300
