"""The agent itself as a component: what is refused before it is started, what a new start brings, what is gone back to."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.core import launch
from edge_agent.core.clock import SystemClock
from edge_agent.core.config import UpdateConfig
from edge_agent.core.errors import BadPackage, Corrupt
from edge_agent.core.launch import MAX_STARTS, NONE, App, Start
from edge_agent.update.components.bundle import BundleInstaller, Checked
from edge_agent.update.components.trial import Trial
from edge_agent.update.probation import Ruling
from edge_agent.update.record import Component, Effect, Update
from edge_agent.update.shelf import Shelf
from protos.contract.ids import digest_of
from protos.contract.twin import PackageAssignment, PackageKind
from protos.contract.update import UpdateState
from tests.agent.update.package_parts import Fetches, Permits

REPOSITORY = Path(__file__).resolve().parents[3]
CONFIG = UpdateConfig(settle_s=60.0, reach_timeout_s=600.0)
CHECK = """
import json, sys
print(json.dumps({"origin": __file__, "arguments": sys.argv[1:]}))
"""


def bundle(folder: Path, name: str, *, check: str = CHECK, without: str = "") -> bytes:
    file = folder / f"{name}.zip"
    contents = {
        "edge_agent/__init__.py": "",
        "edge_agent/app/__init__.py": "",
        "edge_agent/app/cli.py": f"print({name!r})",
        "edge_agent/app/check.py": check,
    }
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in contents.items():
            if path != without:
                archive.writestr(path, text)
    return file.read_bytes()


def bomb(folder: Path) -> bytes:
    """A few kilobytes that say they hold a terabyte."""
    data = bytearray(bundle(folder, "bomb"))
    entry = data.rindex(b"PK\x01\x02")  # of the last file, in the directory at the end
    data[entry + 24 : entry + 28] = (0xFFFFFFF0).to_bytes(4, "little")
    return bytes(data)


class Board:
    """A device that is started by its launcher, again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.app = folder / "app", App(folder / "app")
        self.files: dict[str, bytes] = {}
        self.made = folder
        self.generation = 0
        self.arguments: tuple[str, ...] = ()
        self.trial = Trial(idle=lambda: "", connected=lambda: True, config=CONFIG, note=folder / "note")
        self.restart()

    def restart(self) -> Start:
        self.started = launch.choose(self.app)
        self.installer = BundleInstaller(
            self.folder,
            Fetches(self.files).as_fetcher(),
            self.trial,
            Checked(arguments=lambda: self.arguments, timeout_s=20.0),
            started=self.started,
        )
        return self.started

    def update(self, data: bytes, version: str = "1") -> Update:
        """On its way, as the engine has it before it is fetched."""
        self.generation += 1
        digest = digest_of(data)
        self.files[digest] = data
        it = PackageAssignment(
            kind=PackageKind.AGENT, name="agent", version=version, digest=digest, size_bytes=len(data), rollout_id="r"
        )
        update = Update(
            component=Component.AGENT,
            generation=self.generation,
            assignment=it,
            rollout_id="r",
            state=UpdateState.FETCHING,
            at=SystemClock().now(),
        )
        return self.placed(update)

    def placed(self, update: Update) -> Update:
        return replace(update, place=self.installer.place(update))

    def fetched(self, data: bytes, version: str = "1") -> Update:
        update = self.update(data, version)
        self.installer.prepare(update)
        self.installer.fetch(update, Permits(), lambda: False)
        return update

    def commit(self, data: bytes, version: str = "1") -> Update:
        """Through all of it."""
        update = self.fetched(data, version)
        self.installer.verify(update)
        assert self.installer.activate(update) is Effect.RESTART
        assert self.restart().place == update.place
        assert self.installer.boot(update, suspect=False) == ""
        assert self.installer.activate(update) is Effect.NOW
        self.installer.commit(update)
        return update


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_a_new_agent_runs_after_a_new_start_and_is_committed(board: Board, tmp_path: Path) -> None:
    assert board.installer.running() is None and board.installer.found() is None
    update = board.commit(bundle(tmp_path, "one"))
    assert board.installer.running() == update.assignment
    found = board.installer.found()
    assert found is not None and (found.assignment, found.good, found.place) == (update.assignment, True, update.place)
    for _ in range(MAX_STARTS + 2):  # committed: it is counted no more
        assert board.restart().place == update.place
        assert board.installer.boot(None, suspect=False) == ""
    assert board.installer.present(update) == update.place


def test_the_place_of_the_agent_that_runs_is_never_filled(board: Board, tmp_path: Path) -> None:
    first = board.commit(bundle(tmp_path, "one"))
    second = board.fetched(bundle(tmp_path, "two"), "2")
    assert {first.place, second.place} == {"a", "b"}
    assert board.installer.activate(second) is Effect.RESTART
    third = board.update(bundle(tmp_path, "three"), "3")
    assert third.place == second.place, "the first still runs, and is what is gone back to"


def test_one_that_the_launcher_gave_up_is_told_with_its_reason(board: Board, tmp_path: Path) -> None:
    first = board.commit(bundle(tmp_path, "one"))
    second = board.fetched(bundle(tmp_path, "two"), "2")
    board.installer.activate(second)
    for _ in range(MAX_STARTS):
        assert board.restart().place == second.place
    assert board.restart().place == first.place
    assert "in 3 starts" in board.installer.boot(second, suspect=False)
    assert board.installer.roll_back(second) is Effect.NOW
    assert board.installer.running() == first.assignment and not board.app.fallen.exists()
    assert board.restart().place == first.place


def test_a_bundle_that_was_given_up_may_be_tried_again_by_a_newer_generation(board: Board, tmp_path: Path) -> None:
    data = bundle(tmp_path, "two")
    second = board.fetched(data, "2")
    board.installer.activate(second)
    for _ in range(MAX_STARTS + 1):
        board.restart()
    assert board.installer.boot(second, suspect=False)
    board.installer.roll_back(second)
    again = board.commit(data, "2")
    assert board.installer.running() == again.assignment


def test_one_that_was_good_once_is_on_trial_again_and_counted(board: Board, tmp_path: Path) -> None:
    data = bundle(tmp_path, "one")
    board.commit(data)
    second = board.commit(bundle(tmp_path, "two"), "2")
    again = board.fetched(data)
    assert board.installer.activate(again) is Effect.RESTART
    assert [board.restart().place for _ in range(MAX_STARTS + 1)] == [again.place] * MAX_STARTS + [second.place]


def test_rolling_back_needs_a_new_start_where_the_new_agent_runs(board: Board, tmp_path: Path) -> None:
    first = board.commit(bundle(tmp_path, "one"))
    second = board.fetched(bundle(tmp_path, "two"), "2")
    board.installer.activate(second)
    board.restart()
    assert board.installer.activate(second) is Effect.NOW
    for _ in range(2):  # a crash in between: again
        assert board.installer.roll_back(second) is Effect.RESTART
    assert board.restart().place == first.place
    assert board.installer.roll_back(second) is Effect.NOW


def test_rolling_back_before_the_new_start_needs_none(board: Board, tmp_path: Path) -> None:
    second = board.fetched(bundle(tmp_path, "two"), "2")
    board.installer.activate(second)
    assert board.installer.roll_back(second) is Effect.NOW
    assert board.restart().place == NONE


@pytest.mark.parametrize("file", ["package", "package.json"])
def test_what_was_committed_is_fetched_again_where_it_was_damaged(board: Board, tmp_path: Path, file: str) -> None:
    first = board.commit(bundle(tmp_path, "one"))
    second = board.commit(bundle(tmp_path, "two"), "2")
    board.app.bundle(second.place).with_name(file).write_bytes(b"rot")
    assert board.restart().place == first.place
    assert "not those that were installed" in board.installer.boot(None, suspect=False)
    assert [board.installer.damaged() for _ in range(2)] == [True, False]
    assert board.installer.running() == first.assignment


def test_one_that_was_committed_can_be_given_up_for_the_agent_of_the_board(board: Board, tmp_path: Path) -> None:
    board.commit(bundle(tmp_path, "one"))
    assert board.installer.fall_back("it fails") is Effect.RESTART
    assert board.restart().place == NONE and board.installer.fall_back("there is nothing below") is None


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda folder: b"PK no zip at all", "no bundle"),
        (lambda folder: bundle(folder, "x", without="edge_agent/app/check.py"), "check.py is missing"),
        (lambda folder: bomb(folder), "MiB of files"),
        (lambda folder: bundle(folder, "x", check="import a_module_that_no_board_has"), "a_module_that_no_board_has"),
        (lambda folder: bundle(folder, "x", check="raise SystemExit(7)"), "ended with 7"),
        (lambda folder: bundle(folder, "x", check="import time; time.sleep(3600)"), "longer than"),
        (lambda folder: bundle(folder, "x", check="import os; os.kill(os.getpid(), 11)"), "ended with -11"),
        (lambda folder: bundle(folder, "x", check="print('fine')"), "does not say what it checked"),
        (lambda folder: bundle(folder, "x", check='print(\'{"origin": "/usr/lib/x"}\')'), "instead of the bundle"),
    ],
    ids=["no zip", "no check", "bomb", "import", "status", "hangs", "crashes", "no word", "another"],
)
def test_what_cannot_be_an_agent_here_is_refused_before_it_is_started(
    board: Board, tmp_path: Path, made: Callable[[Path], bytes], why: str
) -> None:
    board.installer._checked = Checked(arguments=tuple, timeout_s=2.0 if "longer" in why else 20.0)
    update = board.fetched(made(tmp_path))
    with pytest.raises(BadPackage, match=why):
        board.installer.verify(update)
    assert board.restart().place == NONE


def test_the_check_is_given_the_configuration_of_the_device(board: Board, tmp_path: Path) -> None:
    board.arguments = ("--config", "/etc/my agent.yaml")
    board.restart()
    wants = "import sys\nassert sys.argv[1:] == ['--config', '/etc/my agent.yaml'], sys.argv\n"
    board.installer.verify(board.fetched(bundle(tmp_path, "one", check=wants + CHECK)))


def test_a_bundle_that_changed_after_it_was_verified_does_not_become_active(board: Board, tmp_path: Path) -> None:
    update = board.fetched(bundle(tmp_path, "one"))
    board.installer.verify(update)
    board.app.bundle(update.place).write_bytes(b"other bytes")
    for act in (board.installer.check, board.installer.activate):
        with pytest.raises(Corrupt):
            act(update)
    assert board.restart().place == NONE


def test_without_the_launcher_no_bundle_is_taken(tmp_path: Path) -> None:
    board = Board(tmp_path)
    update = board.update(bundle(tmp_path, "one"))
    alone = BundleInstaller(board.folder, Fetches({}).as_fetcher(), board.trial, Checked(arguments=tuple), started=None)
    with pytest.raises(BadPackage, match="edge-agent-launcher"):
        alone.place(update)
    assert alone.running() is None


# -- a crash between any two writes ----------------------------------------------------------------------------------------


def test_whatever_moment_it_is_cut_short_a_whole_agent_is_started(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = board.commit(bundle(tmp_path, "one"))
    second = board.fetched(bundle(tmp_path, "two"), "2")
    board.installer.verify(second)

    class Cut(Exception): ...

    for at in range(1, 30):
        left = at

        def crash(*_: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Cut

        with monkeypatch.context() as patched:
            for name in ("write_atomic", "sync_folder"):
                real = getattr(sys.modules["edge_agent.update.places"], name)
                after = lambda *given, real=real: (crash(), real(*given))  # noqa: E731
                patched.setattr(f"edge_agent.update.places.{name}", after)
            try:
                board.installer.activate(second)
                board.installer.roll_back(second)
            except Cut:
                pass
        started = board.restart()
        assert started.place in (first.place, second.place)
        assert (
            board.app.damage(started.place) == ""
            and Shelf(board.folder, PackageKind.AGENT).record(board.installer._shelf.slot(first.place)).good
        )  # type: ignore[union-attr]
        board.installer.roll_back(second)
        assert board.restart().place == first.place
        if left > 0:
            break
    else:
        raise AssertionError("it was never let through")
    assert at > 3


# -- the trial -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("elapsed_s", "before", "idle", "connected", "ruling"),
    [
        (59.0, "", "", True, Ruling.WAIT),
        (60.0, "", "", True, Ruling.COMMIT),
        (60.0, "", "nothing is seen", True, Ruling.WAIT),
        (360.0, "", "nothing is seen", True, Ruling.ROLL_BACK),
        (60.0, "the camera is off", "nothing is seen", True, Ruling.COMMIT),
        (599.0, "", "", False, Ruling.WAIT),
        (600.0, "", "", False, Ruling.ROLL_BACK),
        (600.0, "the camera is off", "", False, Ruling.ROLL_BACK),
        (601.0, "", "", True, Ruling.COMMIT),
    ],
)
def test_a_new_agent_must_do_the_work_of_the_one_before_and_reach_the_hub(
    tmp_path: Path, elapsed_s: float, before: str, idle: str, connected: bool, ruling: Ruling
) -> None:
    now = before
    trial = Trial(idle=lambda: now, connected=lambda: connected, config=CONFIG, note=tmp_path / "note")
    trial.begin()
    now = idle
    assert trial.judge(elapsed_s).ruling is ruling


def test_where_nothing_is_known_of_the_one_before_the_work_must_be_done(tmp_path: Path) -> None:
    trial = Trial(idle=lambda: "nothing is seen", connected=lambda: True, config=CONFIG, note=tmp_path / "note")
    assert trial.judge(1e6).ruling is Ruling.ROLL_BACK


# -- the real thing --------------------------------------------------------------------------------------------------------


def test_the_tree_as_a_bundle_is_an_agent_that_says_its_version(board: Board, tmp_path: Path) -> None:
    made = []
    for name in ("one.zip", "two.zip"):
        command = [sys.executable, str(REPOSITORY / "scripts" / "build_bundle"), "--version", "7.8.9", str(tmp_path / name)]
        subprocess.run(command, check=True, timeout=60)
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1], "the same tree gives the same bytes"
    update = board.commit(made[0], "7.8.9")
    program, env = launch.command(board.app, board.started, ["version"], {})
    done = subprocess.run(program, env=env, capture_output=True, text=True, timeout=60, check=True, cwd="/")
    assert done.stdout.strip() == "7.8.9"
    assert board.installer.running() == update.assignment
