"""Exit codes and one-line errors."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from cloud_hub.app import hubctl
from cloud_hub.app.hubctl.cli import app
from cloud_hub.app.hubctl.settings import ENV_CONFIG
from cloud_hub.trust.authority import Authority
from tests.hub.hubctl.conftest import Run, write_config
from tests.hub.rpc.running import RunningHub


def one_line(stderr: str) -> str:
    (line,) = stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_what_is_not_there_is_exit_code_3(run: Run) -> None:
    assert "no device nobody" in one_line(run("device", "get", "nobody", code=3).stderr)


def test_what_the_hub_refuses_is_exit_code_4(run: Run) -> None:
    run("device", "create", "cam-twice", "--board", "camera-x86")
    assert "cam-twice already" in one_line(run("device", "create", "cam-twice", "--board", "camera-x86", code=4).stderr)
    assert "device id must be" in one_line(run("device", "create", "NO", "--board", "camera-x86", code=4).stderr)


@pytest.mark.parametrize(
    "words",
    [
        ("device",),
        ("device", "create", "cam"),
        ("no-such-noun",),
        ("device", "create", "cam", "--board", "camera-x86", "--label", "no-equals"),
        ("rollout", "create", "m"),
        ("rollout", "create", "m", "--version", "1", "--alias", "challenger"),
        ("telemetry", "query", "--since", "yesterday"),
        ("dataset", "import", "d"),
        ("sample", "label", "only-an-id"),
    ],
)
def test_wrong_usage_is_exit_code_2(run: Run, words: tuple[str, ...]) -> None:
    run(*words, code=2)


def test_a_hub_that_is_not_there_is_exit_code_5(hub: RunningHub, tmp_path: Path) -> None:
    config = write_config(tmp_path, hub, hub.user, address="localhost:1")
    result = CliRunner().invoke(app, ["--config", str(config), "device", "list"])
    assert result.exit_code == 5
    assert "cannot reach the hub at localhost:1" in one_line(result.stderr)


def test_a_hub_of_another_authority_is_exit_code_5_and_says_that_it_is_the_certificate(hub: RunningHub, tmp_path: Path) -> None:
    config = write_config(tmp_path, hub, hub.user)
    (tmp_path / "ca.pem").write_text(Authority.create(tmp_path / "ca").ca_pem)
    result = CliRunner().invoke(app, ["--config", str(config), "device", "list"])
    assert result.exit_code == 5
    assert "certificate" in one_line(result.stderr)


def test_a_caller_without_the_right_is_exit_code_6(hub: RunningHub, tmp_path: Path) -> None:
    config = write_config(tmp_path, hub, hub.device("cam-admin-not"))
    result = CliRunner().invoke(app, ["--config", str(config), "device", "list"])
    assert result.exit_code == 6
    assert "device cam-admin-not may not call" in one_line(result.stderr)


def test_the_configuration_may_come_from_the_environment(config: Path) -> None:
    result = CliRunner().invoke(app, ["device", "list"], env={ENV_CONFIG: str(config)})
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("hub: h:1\nca: a\ncert: b\n", "'key' is missing"),
        ("hub: h:1\nca: a\ncert: b\nkey: c\ncerts: d\n", "did you mean 'cert'"),
        ("hub: [", "is not YAML"),
        ("hub: h:1\nca: a\ncert: b\nkey: c\n", "cannot read"),
    ],
)
def test_a_broken_configuration_is_exit_code_2_and_names_what_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    config = tmp_path / "hubctl.yaml"
    config.write_text(text)
    result = CliRunner().invoke(app, ["--config", str(config), "device", "list"])
    assert result.exit_code == 2
    assert told in one_line(result.stderr)


def test_without_any_configuration_it_says_where_to_put_one(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["device", "list"], env={ENV_CONFIG: "", "HOME": str(tmp_path)})
    assert result.exit_code == 2
    assert str(tmp_path / ".config/tideline/hubctl.yaml") in one_line(result.stderr)


def test_exit_codes_are_in_the_help() -> None:
    text = CliRunner().invoke(app, ["--help"]).stdout
    assert "Exit codes" in text and "5 hub" in text


def test_it_imports_neither_torch_nor_a_database() -> None:
    code = "import sys, cloud_hub.app.hubctl; print(*sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "sqlalchemy", "alembic", "onnxruntime", "cloud_hub.rpc", "cloud_hub.services"} & set(modules)


def test_ctrl_c_while_the_commands_come_in_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "cloud_hub.app.hubctl.cli", Slow("cli"))
    with pytest.raises(SystemExit) as ended:
        hubctl.main()
    assert ended.value.code == 130
