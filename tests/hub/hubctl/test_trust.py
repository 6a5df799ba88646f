"""The ceremony as its holders run it: keys at different places, passphrases, roots that travel."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cloud_hub.app.hubctl.cli import app
from cloud_hub.app.hubctl.failure import ExitCode
from cloud_hub.store import targets, trust
from tests.hub.hubctl.conftest import write_config
from tests.hub.rpc.running import RunningHub

Run = Callable[..., Result]


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[RunningHub]:
    """A hub that has no root yet."""
    running = RunningHub(tmp_path / "hub")
    with running.db.write() as tx:
        for table in (trust.tuf_metadata, trust.tuf_heads, targets.tuf_targets, targets.tuf_releases):
            tx.execute(table.delete())
    yield running
    running.close()


@pytest.fixture
def hubctl(bare: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    config = write_config(tmp_path / "config", bare, bare.user)
    monkeypatch.chdir(tmp_path)

    def invoke(*words: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, ["--config", str(config), *words])
        assert result.exit_code == code, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
        assert "Traceback" not in result.stderr
        return result

    return invoke


def roles(run: Run) -> dict[tuple[str, str], dict[str, Any]]:
    document = json.loads(run("--output", "json", "trust", "status").stdout)
    return {(one["repository"], one["role"]): one for one in document["roles"]}


def test_init_makes_three_keys_and_the_hub_can_sign(hubctl: Run, bare: RunningHub, tmp_path: Path) -> None:
    assert "no root yet" in hubctl("trust", "status").stderr
    result = hubctl("trust", "init", "--keys", "safe")
    files = sorted((tmp_path / "safe").iterdir())
    assert len(files) == 3 and all(file.name in result.stderr for file in files) and "USB" in result.stderr
    status = roles(hubctl)
    assert status["image", "root"]["threshold"] == 2 and len(status["image", "root"]["key_ids"]) == 3
    assert 364 < status["director", "root"]["days_left"] <= 365 and status["director", "targets"]["days_left"] is None
    assert status["image", "root"]["key_ids"] == status["director", "root"]["key_ids"]
    bare.publish("signs")
    assert "3 targets signed, 0 waiting" in hubctl("trust", "status").stderr


def test_init_never_takes_the_place_of_roots_or_of_files(hubctl: Run, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    assert "not empty" in hubctl("trust", "init", "--keys", "full", code=ExitCode.REFUSED).stderr
    hubctl("trust", "init", "--keys", "safe")
    assert "rotate" in hubctl("trust", "init", "--keys", "other", code=ExitCode.REFUSED).stderr
    assert not (tmp_path / "other").exists()


def test_the_next_roots_need_two_holders_wherever_they_are(hubctl: Run, tmp_path: Path) -> None:
    hubctl("trust", "init", "--keys", "safe")
    files = sorted((tmp_path / "safe").iterdir())
    for number, file in enumerate(files):
        (tmp_path / f"holder-{number}").mkdir()
        file.rename(tmp_path / f"holder-{number}" / file.name)
    before = roles(hubctl)
    first = hubctl("trust", "rotate", "--keys", "holder-0", "--online", "timestamp", "--online", "director")
    assert "1 more signature is needed" in first.stdout and "timestamp is signed by" in first.stderr
    assert "1 more" not in hubctl("trust", "put", "roots-2.json", code=ExitCode.REFUSED).stdout
    assert "no key in holder-0" in hubctl("trust", "sign", "roots-2.json", "--keys", "holder-0", code=ExitCode.REFUSED).stderr
    assert roles(hubctl) == {key: {**one, "days_left": roles(hubctl)[key]["days_left"]} for key, one in before.items()}
    second = hubctl("trust", "sign", "roots-2.json", "--keys", "holder-2")
    assert "every signature is there" in second.stdout and "image root 2" in second.stderr
    assert "roots 2 are in force" in hubctl("trust", "put", "roots-2.json").stdout
    after = roles(hubctl)
    changed = {key for key in before if before[key]["key_ids"] != after[key]["key_ids"]}
    assert changed == {("image", "timestamp"), ("director", "targets")}
    hubctl("trust", "put", "roots-2.json", code=ExitCode.REFUSED)


def test_a_stolen_root_key_is_replaced_by_the_other_two(hubctl: Run, tmp_path: Path) -> None:
    hubctl("trust", "init", "--keys", "safe")
    stolen = roles(hubctl)["image", "root"]["key_ids"][1]
    (tmp_path / "safe" / f"root-{stolen[:16]}.pem").unlink()
    result = hubctl("trust", "rotate", "--keys", "safe", "--replace", stolen[:16])
    assert f"root key {stolen[:16]} goes" in result.stderr and "comes" in result.stderr
    now = roles(hubctl)
    for repository in ("image", "director"):
        assert stolen not in now[repository, "root"]["key_ids"] and now[repository, "root"]["version"] == 2
    assert len(list((tmp_path / "safe").iterdir())) == 3
    assert "beginning" in hubctl("trust", "rotate", "--keys", "safe", "--replace", "zz", code=ExitCode.REFUSED).stderr


def test_all_online_keys_are_replaced_with_one_word(hubctl: Run) -> None:
    hubctl("trust", "init", "--keys", "safe")
    before = roles(hubctl)
    hubctl("trust", "rotate", "--keys", "safe", "--online", "all")
    after = roles(hubctl)
    assert {key for key in before if before[key]["key_ids"] == after[key]["key_ids"]} == {
        ("image", "root"),
        ("director", "root"),
    }


def test_root_keys_under_a_passphrase_are_of_no_use_without_it(
    hubctl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDELINE_ROOT_PASSPHRASE", "right-horse")
    hubctl("trust", "init", "--keys", "safe")
    assert all(b"ENCRYPTED" in file.read_bytes() for file in (tmp_path / "safe").iterdir())
    monkeypatch.setenv("TIDELINE_ROOT_PASSPHRASE", "wrong-horse")
    wrong = hubctl("trust", "rotate", "--keys", "safe", code=ExitCode.REFUSED)
    assert "passphrase" in wrong.stderr and "wrong-horse" not in wrong.stderr
    monkeypatch.delenv("TIDELINE_ROOT_PASSPHRASE")
    assert "TIDELINE_ROOT_PASSPHRASE" in hubctl("trust", "rotate", "--keys", "safe", code=ExitCode.REFUSED).stderr
    monkeypatch.setenv("TIDELINE_ROOT_PASSPHRASE", "right-horse")
    hubctl("trust", "rotate", "--keys", "safe")


def test_what_cannot_be_used_is_told_in_one_line(hubctl: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "hubctl trust init" in hubctl("trust", "rotate", "--keys", "empty", code=ExitCode.REFUSED).stderr
    hubctl("trust", "init", "--keys", "safe")
    assert "no root key" in hubctl("trust", "rotate", "--keys", "empty", code=ExitCode.REFUSED).stderr
    (tmp_path / "odd.json").write_text("{}")
    for command in (("put",), ("sign", "--keys", "safe")):
        assert "odd.json" in hubctl("trust", command[0], "odd.json", *command[1:], code=ExitCode.REFUSED).stderr
    (tmp_path / "roots-2.json").write_text("mine")
    for file in sorted((tmp_path / "safe").iterdir())[1:]:
        file.unlink()
    assert "there already" in hubctl("trust", "rotate", "--keys", "safe", code=ExitCode.REFUSED).stderr
    assert (tmp_path / "roots-2.json").read_text() == "mine"
