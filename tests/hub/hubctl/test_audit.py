"""``hubctl audit`` against a whole hub, whose own guard writes the entries."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from cloud_hub.app.hubctl.cli import app
from cloud_hub.core.audit import Audited
from cloud_hub.core.model import DEFAULT_TENANT, Role
from tests.hub.hubctl.conftest import Run
from tests.hub.rpc.running import RunningHub

Ask = Callable[..., Any]

FORGERY = 'cam"\n2026-01-01T00:00:00Z ada admin deleted \u202enothing\x1b[2K\r'


def test_what_a_user_did_is_listed_with_its_result(run: Run, ask: Ask) -> None:
    run("device", "create", "audited", "--board", "camera-x86")
    run("device", "create", "audited", "--board", "camera-x86", code=4)
    found = ask("audit", "list", "--action", "CreateDevice", "--limit", "4")
    assert [entry["result"] for entry in found] == ["ALREADY_EXISTS", "BEGUN", "OK", "BEGUN"]
    assert all("audited" in entry["subject"] for entry in found)
    assert {(entry["who"], entry["role"]) for entry in found} == {("ada", "admin")}
    assert all(entry["from"] and entry["at"] for entry in found)
    assert ask("audit", "list", "--result", "ok", "--who", "ada", "--limit", "1")[0]["result"] == "OK"
    assert ask("audit", "list", "--who", "nobody") == []
    assert "no entries" in run("audit", "list", "--until", "2020-01-01").stderr


def test_no_text_forges_a_line_of_the_table(hub: RunningHub, run: Run, ask: Ask) -> None:
    call = Audited(tenant=DEFAULT_TENANT, role=Role.ADMIN, who=FORGERY, source=FORGERY, action="/x/Forged", subject=FORGERY)
    hub.services.audit.denied(call, "DENIED", FORGERY, 0)
    table = run("audit", "list", "--action", "Forged").stdout
    heading, line = table.splitlines()
    assert heading.startswith("NUMBER") and "/x/Forged" in line
    assert all(part.isprintable() for part in (heading, line))
    (entry,) = ask("audit", "list", "--action", "Forged")
    assert entry["who"].isprintable() and "\\u202e" in entry["who"]


def test_a_chain_that_holds_gives_an_anchor_that_holds_later(run: Run, ask: Ask) -> None:
    said = run("audit", "verify").stdout
    anchor = said.split()[-1]
    assert anchor.startswith(f"{said.split()[0]}:")
    run("device", "create", "later", "--board", "camera-x86")
    assert ask("audit", "verify", "--anchor", anchor)["problem"] == ""
    wrong = anchor[:-1] + ("0" if anchor[-1] != "0" else "1")
    assert "another hash" in run("audit", "verify", "--anchor", wrong, code=1).stderr
    beyond = f"100000:{anchor.partition(':')[2]}"
    assert "entry 100000 was noted earlier" in run("audit", "verify", "--anchor", beyond, code=1).stderr
    assert json.loads(run("--output", "json", "audit", "verify", "--anchor", beyond, code=1).stdout)["problem"].startswith(
        "cut"
    )
    run("audit", "verify", "--anchor", "nonsense", code=2)


def test_an_exported_file_is_verified_without_a_hub(run: Run, ask: Ask, tmp_path: Path) -> None:
    run("device", "create", "exported", "--board", "camera-x86")
    file = tmp_path / "audit.jsonl"
    told = ask("audit", "export", "--out", str(file))
    lines = file.read_text(encoding="ascii").splitlines()
    assert told["entries"] == len(lines) and told["problem"] == ""
    assert file.stat().st_mode & 0o777 == 0o600
    assert offline("--file", str(file)) == (0, "")
    assert offline("--file", str(file), "--anchor", told["anchor"]) == (0, "")
    assert "exists" in run("audit", "export", "--out", str(file), code=4).stderr

    half = tmp_path / "half.jsonl"
    half.write_text("".join(line + "\n" for line in lines[2:]))
    assert offline("--file", str(half)) == (0, "")
    second = json.loads(lines[1])
    assert offline("--file", str(half), "--anchor", f"2:{second['hash']}") == (0, "")
    assert "was not made after" in offline("--file", str(half), "--anchor", f"2:{'0' * 64}")[1]
    assert "cannot show" in offline("--file", str(half), "--anchor", f"1:{'0' * 64}")[1]


@pytest.mark.parametrize("after", [0, 3])
def test_an_export_goes_on_after_what_there_is(run: Run, ask: Ask, tmp_path: Path, after: int) -> None:
    run("device", "create", f"after-{after}", "--board", "camera-x86")
    run("device", "create", f"after-{after}-too", "--board", "camera-x86")
    file = tmp_path / "rest.jsonl"
    told = ask("audit", "export", "--out", str(file), "--after", str(after))
    numbers = [json.loads(line)["number"] for line in file.read_text().splitlines()]
    assert numbers == list(range(after + 1, after + 1 + told["entries"]))


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda lines: [*lines[:1], *lines[2:]], "missing: entry 2"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "missing: entry 2"),
        (lambda lines: [lines[0].replace('"ada"', '"eve"'), *lines[1:]], "altered: entry 1"),
        (lambda lines: [lines[0], "{}", *lines[1:]], "line 2: not an entry"),
        (lambda lines: [lines[0], "\x00\xff", *lines[1:]], "line 2: not an entry"),
        (lambda lines: [lines[0], "[" * 1_000_000, *lines[1:]], "line 2: not an entry"),
    ],
)
def test_a_file_that_was_touched_does_not_hold(
    run: Run, tmp_path: Path, spoil: Callable[[list[str]], list[str]], problem: str
) -> None:
    run("device", "create", f"touched-{tmp_path.name[-1]}", "--board", "camera-x86")
    run("audit", "export", "--out", str(tmp_path / "whole.jsonl"))
    lines = (tmp_path / "whole.jsonl").read_text().splitlines()
    (tmp_path / "spoilt.jsonl").write_text("\n".join(spoil(lines)) + "\n", encoding="latin-1")
    code, said = offline("--file", str(tmp_path / "spoilt.jsonl"))
    assert code == 1 and problem in said


def test_what_was_done_to_the_database_is_found_and_exported_all_the_same(hub: RunningHub, run: Run, tmp_path: Path) -> None:
    run("device", "create", "last", "--board", "camera-x86")
    with hub.db.write() as tx:
        tx.execute(text("DROP TRIGGER audit_refuses_update"))
        tx.execute(text("UPDATE audit SET who = 'eve' WHERE number = 2"))
    try:
        assert "altered: entry 2" in run("audit", "verify", code=1).stderr
        assert "altered: entry 2" in run("audit", "export", "--out", str(tmp_path / "a.jsonl"), code=1).stderr
        lines = (tmp_path / "a.jsonl").read_text().splitlines()
        assert [json.loads(line)["number"] for line in lines] == list(range(1, len(lines) + 1)) and len(lines) > 3
    finally:
        with hub.db.write() as tx:
            tx.execute(text("UPDATE audit SET who = 'ada' WHERE number = 2"))


def offline(*words: str) -> tuple[int, str]:
    """Exit code and what was said of it, where no hub is configured."""
    result = CliRunner().invoke(app, ["--config", "/nowhere.yaml", "audit", "verify", *words])
    assert "Traceback" not in result.stderr
    return result.exit_code, result.stderr


def test_an_empty_export_shows_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").touch()
    assert "audit.jsonl is empty" in run("audit", "verify", "--file", str(tmp_path / "audit.jsonl"), code=1).stderr
