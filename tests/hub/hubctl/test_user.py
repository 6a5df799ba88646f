"""``hubctl user``, ``token`` and ``whoami``: identities on the disk of whoever uses them."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cloud_hub.app.hubctl.cli import app
from tests.hub.hubctl.conftest import Run, write_config
from tests.hub.rpc.running import RunningHub

Ask = Callable[..., Any]


def as_other(config: Path, *words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["--config", str(config), *words])
    assert result.exit_code == code, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result


def test_a_user_is_made_listed_changed_and_disabled(run: Run, ask: Ask) -> None:
    run("user", "create", "vera", "--role", "viewer")
    assert ask("user", "get", "vera")["role"] == "viewer"
    assert "vera" in {user["name"] for user in ask("user", "list")}
    assert "vera is operator" in run("user", "update", "vera", "--role", "operator").stdout
    run("user", "disable", "vera")
    assert ask("user", "get", "vera")["disabled"] is True
    run("user", "enable", "vera")
    assert ask("user", "get", "vera")["disabled"] is False
    assert "role is one of" in run("user", "create", "odd", "--role", "king", code=4).stderr


def test_a_certificate_is_for_a_key_that_stays_here_and_works(run: Run, tmp_path: Path) -> None:
    run("user", "create", "carl", "--role", "viewer")
    folder = tmp_path / "carl"
    run("user", "certificate", "carl", "--out", str(folder))
    assert {path.name for path in folder.iterdir()} == {"key.pem", "cert.pem", "ca.pem", "hubctl.yaml"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    who = json.loads(as_other(folder / "hubctl.yaml", "--output", "json", "whoami").stdout)
    assert (who["name"], who["role"], who["tenant"]) == ("carl", "viewer", "default")
    as_other(folder / "hubctl.yaml", "device", "delete", "cam", code=6)
    assert "holds an identity already" in run("user", "certificate", "carl", "--out", str(folder), code=4).stderr
    assert "revoked 1" in run("user", "revoke", "carl", "--reason", "lost the laptop").stdout
    assert "was revoked" in as_other(folder / "hubctl.yaml", "whoami", code=6).stderr


def test_a_token_works_until_it_is_revoked(run: Run, ask: Ask, tmp_path: Path) -> None:
    run("user", "create", "tess", "--role", "operator")
    folder = tmp_path / "tess"
    made = ask("token", "create", "--user", "tess", "--scope", "viewer", "--ttl", "1h", "--note", "ci", "--out", str(folder))
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    who = json.loads(as_other(folder / "hubctl.yaml", "--output", "json", "whoami").stdout)
    assert (who["name"], who["role"]) == ("tess", "viewer")
    (listed,) = [token for token in ask("token", "list") if token["id"] == made["id"]]
    assert (listed["scope"], listed["note"], listed["revoked_at"]) == ("viewer", "ci", None)
    assert (folder / "token").read_text().strip() not in json.dumps(listed)
    run("token", "revoke", made["id"])
    assert "revoked" in as_other(folder / "hubctl.yaml", "whoami", code=6).stderr


def test_a_token_is_shown_once_where_it_is_not_written(run: Run, ask: Ask) -> None:
    made = ask("token", "create", "--ttl", "1h")
    assert made["secret"].startswith(f"tl_{made['id']}_")
    assert made["secret"] not in run("token", "list").stdout


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
@pytest.mark.parametrize("kind", ["key", "token"])
def test_a_secret_that_others_may_read_is_refused(hub: RunningHub, tmp_path: Path, kind: str, mode: int) -> None:
    config = write_config(tmp_path, hub, hub.user)
    secret = tmp_path / "user.key"
    if kind == "token":
        secret = tmp_path / "token"
        secret.write_text("tl_0000000000000000_x\n")
        config.write_text("hub: localhost:1\nca: ca.pem\ntoken_file: token\n")
    secret.chmod(mode)
    message = as_other(config, "device", "list", code=2).stderr
    assert "chmod 600" in message and secret.name in message and f"{mode:04o}" in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("hub: h:1\nca: ca.pem\ntoken_file: token\ncert: user.pem\n", "'token_file' stands for 'cert' and 'key'"),
        ("hub: h:1\nca: ca.pem\ntoken_file: absent\n", "cannot read"),
        ("hub: h:1\nca: ca.pem\ntoken_file: token\n", "must hold one token"),
    ],
)
def test_a_broken_configuration_of_a_token_says_what_is_wrong(hub: RunningHub, tmp_path: Path, text: str, told: str) -> None:
    config = write_config(tmp_path, hub, hub.user)
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text("two words\nand lines\n")
    config.write_text(text)
    assert told in as_other(config, "device", "list", code=2).stderr
