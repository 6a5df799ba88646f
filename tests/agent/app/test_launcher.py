"""The launcher as a service manager runs it: real processes, bundles that cannot start, and no network."""

import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from edge_agent.core import launch
from edge_agent.core.launch import ENV_APP, ENV_DIGEST, ENV_PLACE, MAX_STARTS, NONE, App, Start
from edge_agent.update.places import PlaceRecord
from edge_agent.update.shelf import Shelf
from protos.contract.ids import digest_of
from protos.contract.twin import PackageAssignment, PackageKind

SAYS_WHO = """
import json, os, sys
print(json.dumps({"bundle": %r, "arguments": sys.argv[1:], "place": os.environ["TIDELINE_APP_PLACE"]}), flush=True)
"""
CANNOT_IMPORT = "import a_module_that_no_board_has\n"
HANGS = SAYS_WHO + "import time\nwhile True: time.sleep(3600)\n"
KILLS_ITSELF = "import os\nos.kill(os.getpid(), 9)\n"


@dataclass
class Board:
    folder: Path

    def __post_init__(self) -> None:
        self.app = App(self.folder)
        self.shelf = Shelf(self.folder, PackageKind.AGENT)

    def put(self, place: str, name: str, cli: str, *, good: bool, generation: int = 1) -> PackageAssignment:
        """A bundle as the installer leaves it, not yet pointed at."""
        berth, made = self.shelf.slot(place), io.BytesIO()
        with zipfile.ZipFile(made, "w") as bundle:
            bundle.writestr("edge_agent/__init__.py", "")
            bundle.writestr("edge_agent/app/__init__.py", "")
            bundle.writestr("edge_agent/app/cli.py", cli.replace("%r", repr(name)))
        data = made.getvalue()
        it = PackageAssignment(kind=PackageKind.AGENT, name="agent", version=name, digest=digest_of(data), size_bytes=len(data))
        self.shelf.prepare(berth, PlaceRecord(assignment=it, generation=generation, good=good))
        berth.file.write_bytes(data)
        self.shelf.mark(berth, good=good)
        return it

    def point(self, place: str) -> None:
        self.shelf.activate(self.shelf.slot(place))

    def begin(self, *arguments: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-P", "-m", "edge_agent.app.launcher", "--app", str(self.folder), *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/")

    def start(self, *arguments: str) -> str:
        """Once, to its end: the name of the bundle that ran, or what the board's own agent printed; empty: it failed."""
        out, self.said = self.begin(*arguments).communicate(timeout=60)
        if not out:
            return ""
        return str(json.loads(out)["bundle"]) if out.startswith(b"{") else out.decode().strip()


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "app")


def test_without_a_bundle_the_agent_of_the_board_is_started(board: Board) -> None:
    assert board.start("version") == version("tideline")


def test_a_committed_bundle_is_started_with_the_same_arguments_in_the_same_process(board: Board) -> None:
    board.put("a", "one", SAYS_WHO, good=True)
    board.point("a")
    process = board.begin("run", "--config", "x y.yaml")
    out, _ = process.communicate(timeout=60)
    assert json.loads(out) == {"bundle": "one", "arguments": ["run", "--config", "x y.yaml"], "place": "a"}


@pytest.mark.parametrize("broken", [CANNOT_IMPORT, KILLS_ITSELF, "this is no Python"], ids=["import", "killed", "syntax"])
def test_a_bundle_on_trial_that_does_not_start_is_given_up_by_itself(board: Board, broken: str) -> None:
    board.put("a", "old", SAYS_WHO, good=True)
    new = board.put("b", "new", broken, good=False, generation=2)
    board.point("b")
    for _ in range(MAX_STARTS):
        assert board.start("run") == ""
    assert board.start("run") == "old", board.said
    assert launch.read(board.app.fallen) == {"digest": new.digest, "reason": "it did not get through its trial in 3 starts"}
    assert board.start("run") == "old" and not launch.read(board.app.starts).get("count", 0) > MAX_STARTS


def test_one_that_hangs_has_spent_its_start_when_the_service_manager_kills_it(board: Board) -> None:
    board.put("a", "old", SAYS_WHO, good=True)
    board.put("b", "new", HANGS, good=False, generation=2)
    board.point("b")
    for _ in range(MAX_STARTS):
        process = board.begin("run")
        assert process.stdout is not None and b'"new"' in process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert board.start("run") == "old"


def test_with_no_bundle_to_go_back_to_it_is_the_agent_of_the_board(board: Board) -> None:
    board.put("a", "never-good", SAYS_WHO, good=False)
    board.put("b", "new", CANNOT_IMPORT, good=False, generation=2)
    board.point("b")
    for _ in range(MAX_STARTS):
        board.start("version")
    assert board.start("version") == version("tideline")
    assert board.shelf.current() is None


def test_a_bundle_that_is_no_more_what_was_installed_is_not_started_even_once(board: Board) -> None:
    board.put("a", "old", SAYS_WHO, good=True)
    new = board.put("b", "new", SAYS_WHO, good=True, generation=2)
    board.point("b")
    file = board.app.bundle("b")
    file.write_bytes(file.read_bytes()[:-1])
    assert board.start("run") == "old"
    assert launch.read(board.app.fallen)["digest"] == new.digest
    assert "not those that were installed" in board.said.decode()


def test_a_damaged_bundle_is_nothing_to_go_back_to(board: Board) -> None:
    board.put("a", "old", SAYS_WHO, good=True)
    board.app.bundle("a").write_bytes(b"")
    board.put("b", "new", CANNOT_IMPORT, good=False, generation=2)
    board.point("b")
    assert [launch.choose(board.app).place for _ in range(MAX_STARTS + 1)] == ["b"] * MAX_STARTS + [NONE]


def test_a_start_that_cannot_be_counted_is_not_made(board: Board) -> None:
    board.put("a", "old", SAYS_WHO, good=True)
    board.put("b", "new", SAYS_WHO, good=False, generation=2)
    board.point("b")
    board.app.starts.mkdir()  # as a full disk refuses it
    assert board.start("run") == "old"


def test_where_not_even_that_can_be_written_down_every_start_decides_the_same_again(board: Board) -> None:
    old = board.put("a", "old", SAYS_WHO, good=True)
    board.put("b", "new", SAYS_WHO, good=False, generation=2)
    board.point("b")
    for path in (board.app.starts, board.app.fallen):
        path.mkdir()
    for _ in range(2):
        assert launch.choose(board.app) == Start(place="a", digest=old.digest)
        assert board.shelf.current() == board.shelf.slot("b")


@pytest.mark.parametrize("text", ["", "c", "\0", "a/../b", "ä" * 1000])
def test_a_damaged_pointer_means_the_newest_good_bundle(board: Board, text: str) -> None:
    board.put("a", "older", SAYS_WHO, good=True, generation=1)
    board.put("b", "newer", SAYS_WHO, good=True, generation=2)
    (board.folder / "current").write_text(text)
    assert launch.choose(board.app).place == "b"


@pytest.mark.parametrize("file", ["a/package.json", "b/package.json", "starts.json", "fallen.json", "current"])
@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"good": 1}', "[" * 100_000, '{"count": -1}', '{"digest": {}}'])
def test_whatever_a_file_holds_something_is_started(board: Board, file: str, content: str) -> None:
    board.put("a", "old", SAYS_WHO, good=True)
    board.put("b", "new", SAYS_WHO, good=False, generation=2)
    board.point("b")
    (board.folder / file).write_text(content)
    seen = [launch.choose(board.app) for _ in range(MAX_STARTS + 1)]
    assert seen[-1].place in ("a", NONE) and all(one.place in ("a", "b", NONE) for one in seen)


def test_a_bundle_goes_before_what_is_installed_and_before_a_path_that_was_given(board: Board) -> None:
    program, env = launch.command(board.app, Start(place="a", digest="d"), ["run"], {"PYTHONPATH": "/x", "HOME": "/h"})
    assert program[-4:] == ["-P", "-m", "edge_agent.app.cli", "run"]
    path = f"{board.app.bundle('a')}{os.pathsep}/x"
    told = {ENV_APP: str(board.folder), ENV_PLACE: "a", ENV_DIGEST: "d"}
    assert env == {"HOME": "/h", "PYTHONPATH": path, **told}
    assert launch.started(env) == Start(place="a", digest="d")
    assert launch.started({}) is None and launch.started({ENV_PLACE: "c"}) is None


def test_an_earlier_trial_of_another_bundle_costs_this_one_nothing(board: Board) -> None:
    board.put("a", "first", CANNOT_IMPORT, good=False)
    board.point("a")
    for _ in range(MAX_STARTS + 1):
        launch.choose(board.app)
    board.put("b", "second", SAYS_WHO, good=False, generation=2)
    board.point("b")
    assert [launch.choose(board.app).place for _ in range(MAX_STARTS)] == ["b"] * MAX_STARTS


def test_wrong_usage_is_said(board: Board) -> None:
    command = [sys.executable, "-P", "-m", "edge_agent.app.launcher", "run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "usage" in done.stderr
