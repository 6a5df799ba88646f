"""``hubctl`` as a user runs it, in process, against a whole hub."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cloud_hub.app.hubctl.cli import app
from cloud_hub.trust.authority import Issued
from tests.hub.rpc.running import RunningHub

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    running = RunningHub(tmp_path_factory.mktemp("hub"))
    yield running
    running.close()


def write_config(folder: Path, hub: RunningHub, identity: Issued, *, address: str = "") -> Path:
    """Paths in it are relative to it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.pem").write_text(hub.authority.ca_pem)
    (folder / "user.pem").write_text(identity.certificate_pem)
    (folder / "user.key").touch(mode=0o600)
    (folder / "user.key").write_text(identity.key_pem)
    (folder / "user.key").chmod(0o600)
    config = folder / "hubctl.yaml"
    config.write_text(f"hub: {address or hub.address}\nca: ca.pem\ncert: user.pem\nkey: user.key\n")
    return config


@pytest.fixture(scope="module")
def config(hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_config(tmp_path_factory.mktemp("hubctl"), hub, hub.user)


@pytest.fixture(scope="module")
def run(config: Path) -> Run:
    """``run("device", "list")``; ``code`` is the exit code it must end with."""

    def invoke(*words: str, code: int = 0, stdin: str | None = None) -> Result:
        result = CliRunner().invoke(app, ["--config", str(config), *words], input=stdin)
        assert result.exit_code == code, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
        assert "Traceback" not in result.stderr
        return result

    return invoke


@pytest.fixture(scope="module")
def ask(run: Run) -> Callable[..., Any]:
    """The same with ``--output json``, parsed."""
    return lambda *words, **options: json.loads(run("--output", "json", *words, **options).stdout)
