"""Agents and images of the board through the real engine: journal, trust, launcher and boot loader together."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.core import launch
from edge_agent.core.backoff import Backoff
from edge_agent.core.config import UpdateConfig
from edge_agent.core.errors import LinkDown, Refused
from edge_agent.core.launch import App
from edge_agent.core.model import Happening
from edge_agent.core.ports import Hub
from edge_agent.update.components import firmware
from edge_agent.update.components.bundle import BundleInstaller, Checked
from edge_agent.update.components.firmware import FirmwareInstaller
from edge_agent.update.components.rauc_cli import Rauc
from edge_agent.update.components.trial import Trial
from edge_agent.update.engine import UpdateEngine
from edge_agent.update.fetch import Fetcher
from edge_agent.update.installer import Installer
from edge_agent.update.journal import Journal
from edge_agent.update.record import Component, Effect
from edge_agent.update.surroundings import Surroundings
from edge_agent.update.trust import Trust
from protos.contract.ids import Digest, digest_of
from protos.contract.manifest import Blob
from protos.contract.sources import BlobSource
from protos.contract.twin import DesiredTwin, PackageAssignment, PackageKind
from protos.contract.update import UpdateState as S
from tests.agent.update.fake_rauc import FakeBoard
from tests.agent.update.fake_rauc import bundle as image
from tests.agent.update.test_bundle import bundle
from tests.agent.update.test_package_trust import Site, target

CONFIG = UpdateConfig(settle_s=60.0, reach_timeout_s=600.0, disk_reserve_bytes=1, max_attempts=3)
AGENT, FIRMWARE = PackageKind.AGENT, PackageKind.FIRMWARE


class Served(Site):
    """A hub whose blobs can be had."""

    def locate(self, digest: Digest, have: Sequence[Digest], max_decode_bytes: int) -> Sequence[BlobSource]:
        raise Refused("no sources here")

    def download(self, blob: Blob, path: Path, **_: object) -> None:
        if not self.up:
            raise LinkDown("offline")
        path.write_bytes(self.blobs[blob.digest])

    def close(self) -> None: ...


class Board:
    """Started by its boot loader and its launcher, with one engine in whatever agent they start."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.hub = Served(folder)
        self.hub.up, self.hub.blobs = True, {}  # type: ignore[attr-defined]
        self.board, self.boot_id = FakeBoard(folder / "board"), folder / "boot_id"
        monkeypatch.setattr(firmware, "BOOT_ID", self.boot_id)
        self.app = App(folder / "app")
        self.dead: set[str] = set()  # bundles that do not get as far as an engine, by digest; images, by version
        self.connected = True
        self.idle = ""
        self.told: list[Happening] = []
        self.effects: list[Effect] = []
        self.start()

    def start(self) -> None:
        """As the service manager does it, until something lasts."""
        self.boot_id.write_text(f"boot-{self.board.boots}")
        while (started := launch.choose(self.app)).digest in self.dead:
            pass
        self.effect = Effect.NOW
        clock = self.hub.clock
        trial = Trial(
            idle=lambda: self.idle, connected=lambda: self.connected, config=CONFIG, note=self.folder / "trial-before"
        )
        installers: list[Installer] = [
            BundleInstaller(self.app.folder, self.fetcher(), trial, Checked(arguments=tuple, timeout_s=20.0), started=started),
            FirmwareInstaller(
                self.folder / "firmware",
                self.fetcher(),
                trial,
                Rauc(self.board.rauc),
                settle_s=CONFIG.settle_s,
                monotonic=clock.monotonic,
                again=self.again,
                sleep=clock.advance,
            ),
        ]
        found = [each for installer in installers if (each := installer.found()) is not None]
        self.journal = Journal(self.folder / "updates.sqlite", found, clock)
        trust = Trust(self.folder / "trust", self.journal.floors, clock)
        around = Surroundings(
            anchor=lambda: self.hub.anchor,
            verifier=lambda: trust,
            online=lambda: self.hub.up,  # type: ignore[attr-defined]
            clock=clock,
            changed=lambda: None,
            tell=self.told.append,
            backoff=lambda: Backoff(0.5, 60.0, lambda: 1.0),
            again=self.again,
        )
        self.engine = UpdateEngine(installers, self.journal, CONFIG, around)
        self.engine.boot()

    def fetcher(self) -> Fetcher:
        return Fetcher(self._connect, unrunnable=lambda _: "", free_bytes=lambda _: 1 << 40, reserve_bytes=1)

    def _connect(self) -> Hub:
        hub: Hub = self.hub  # type: ignore[assignment]
        return hub

    def again(self, effect: Effect) -> None:
        self.effect = effect
        self.effects.append(effect)

    def restart(self, effect: Effect = Effect.RESTART) -> None:
        self.journal.close()
        if effect is Effect.REBOOT:
            self.board.reboot(*self.dead)
        self.start()

    def publish(self, kind: PackageKind, data: bytes, version: str, release: int) -> PackageAssignment:
        it = PackageAssignment(kind=kind, name="base", version=version, digest=digest_of(data), size_bytes=len(data))
        self.hub.publish(target(it, data, release=release, board="camera-x86" if kind is FIRMWARE else ""))
        self.hub.blobs[it.digest] = data  # type: ignore[attr-defined]
        return it

    def desire(self, *packages: PackageAssignment) -> None:
        self.hub.generation += 1
        self.engine.offer(DesiredTwin(generation=self.hub.generation, packages=packages))

    def settle(self) -> None:
        """Until all updates have ended, through every new start that they ask for."""
        for _ in range(5000):
            pause = self.engine.step()
            if self.effect is not Effect.NOW:
                self.restart(self.effect)
                continue
            open_ = [one for one in Component if (newest := self.journal.newest(one)) is not None and not newest.done]
            if not open_ and pause > 0:
                return
            self.hub.clock.advance(min(max(pause, 0.01), 5.0))
        raise AssertionError(f"not settled: {self.journal.newest(Component.AGENT)}, {self.journal.newest(Component.FIRMWARE)}")

    def state(self, component: Component) -> tuple[S, str]:
        update = self.journal.newest(component)
        assert update is not None
        return update.state, update.reason

    @property
    def runs(self) -> set[tuple[PackageKind, str]]:
        return {(each.kind, each.version) for each in self.engine.standing.packages}


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    return Board(tmp_path, monkeypatch)


def test_an_agent_and_an_image_are_installed_one_after_the_other_each_with_its_new_start(board: Board, tmp_path: Path) -> None:
    agent, base = board.publish(AGENT, bundle(tmp_path, "one"), "1", 1), board.publish(FIRMWARE, image("2.0"), "2.0", 1)
    board.desire(agent, base)
    board.settle()
    assert board.runs == {(AGENT, "1"), (FIRMWARE, "2.0")}
    assert board.state(Component.AGENT)[0] is board.state(Component.FIRMWARE)[0] is S.COMMITTED
    assert sorted(effect.value for effect in board.effects) == ["reboot", "restart"]
    reported = board.engine.standing.package_updates
    assert {(one.package.kind, one.state) for one in reported} == {(AGENT, S.COMMITTED), (FIRMWARE, S.COMMITTED)}


def test_an_agent_that_never_gets_to_its_engine_is_taken_back_offline_and_the_reason_reported(
    board: Board, tmp_path: Path
) -> None:
    board.desire(board.publish(AGENT, bundle(tmp_path, "one"), "1", 1))
    board.settle()
    new = board.publish(AGENT, bundle(tmp_path, "two"), "2", 2)
    board.dead.add(new.digest)
    board.desire(new)
    for _ in range(5000):
        board.engine.step()
        if board.effect is Effect.RESTART:
            board.hub.up = board.connected = False  # type: ignore[attr-defined]
            break
        board.hub.clock.advance(0.5)
    board.settle()
    state, reason = board.state(Component.AGENT)
    assert state is S.ROLLED_BACK and "in 3 starts" in reason
    assert board.runs == {(AGENT, "1")}


def test_an_image_that_does_not_boot_is_taken_back_and_the_reason_reported(board: Board) -> None:
    board.dead.add("2.0")
    board.desire(board.publish(FIRMWARE, image("2.0"), "2.0", 1))
    board.settle()
    state, reason = board.state(Component.FIRMWARE)
    assert state is S.ROLLED_BACK and "did not start" in reason and board.runs == set()


@pytest.mark.parametrize("kind", [AGENT, FIRMWARE])
def test_one_that_runs_but_does_not_reach_the_hub_is_taken_back(board: Board, tmp_path: Path, kind: PackageKind) -> None:
    board.connected = False
    data = bundle(tmp_path, "one") if kind is AGENT else image("2.0")
    board.desire(board.publish(kind, data, "1", 1))
    board.settle()
    state, reason = board.state(Component[kind.name])
    assert state is S.ROLLED_BACK and "did not reach the hub" in reason and board.runs == set()
    assert len(board.effects) == 2, "there and back"


@pytest.mark.parametrize("kind", [AGENT, FIRMWARE])
def test_one_on_trial_is_called_off_by_a_twin_that_no_longer_names_it(board: Board, tmp_path: Path, kind: PackageKind) -> None:
    board.connected = False
    data = bundle(tmp_path, "one") if kind is AGENT else image("2.0")
    board.desire(board.publish(kind, data, "1", 1))
    component = Component[kind.name]
    for _ in range(5000):
        board.engine.step()
        if board.effect is not Effect.NOW:
            board.restart(board.effect)
            break
        board.hub.clock.advance(0.5)
    assert board.state(component)[0] is S.TRIAL and board.runs == {(kind, "1")}
    board.desire()
    board.settle()
    state, reason = board.state(component)
    assert state is S.ROLLED_BACK and "called off by generation" in reason and board.runs == set()


def test_an_agent_goes_back_to_an_older_version_under_a_new_release_and_not_under_the_old_one(
    board: Board, tmp_path: Path
) -> None:
    one, two = bundle(tmp_path, "one"), bundle(tmp_path, "two")
    first = board.publish(AGENT, one, "1", 1)
    board.desire(first)
    board.settle()
    board.desire(board.publish(AGENT, two, "2", 2))
    board.settle()
    board.desire(first)
    board.settle()
    state, reason = board.state(Component.AGENT)
    assert state is S.FAILED and "ReleaseRollback" in reason and board.runs == {(AGENT, "2")}
    board.hub.ordered.clear()
    board.desire(replace(board.publish(AGENT, one, "1", 3), rollout_id="the next one"))
    board.settle()
    assert board.runs == {(AGENT, "1")}


def test_a_journal_that_was_lost_is_begun_again_from_what_runs(board: Board, tmp_path: Path) -> None:
    board.desire(board.publish(AGENT, bundle(tmp_path, "one"), "1", 1))
    board.settle()
    (tmp_path / "updates.sqlite").unlink()
    board.restart()
    assert board.state(Component.AGENT) == (S.COMMITTED, "") and board.runs == {(AGENT, "1")}


def test_a_committed_bundle_that_rots_is_fetched_again(board: Board, tmp_path: Path) -> None:
    board.desire(board.publish(AGENT, bundle(tmp_path, "one"), "1", 1))
    board.settle()
    new = board.publish(AGENT, bundle(tmp_path, "two"), "2", 2)
    board.desire(new)
    board.settle()
    place = board.journal.newest(Component.AGENT).place  # type: ignore[union-attr]
    board.app.bundle(place).write_bytes(b"rot")
    board.restart()
    assert board.runs == {(AGENT, "1")}
    board.desire(new)
    board.settle()
    assert board.runs == {(AGENT, "2")}
