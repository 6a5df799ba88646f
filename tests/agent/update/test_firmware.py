"""An image of the board: installed by RAUC, started on trial, given up by the boot loader where it does not start."""

from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.core.clock import SystemClock
from edge_agent.core.config import UpdateConfig
from edge_agent.core.errors import BadPackage, Corrupt
from edge_agent.update.components import firmware
from edge_agent.update.components.firmware import FirmwareInstaller
from edge_agent.update.components.rauc_cli import Rauc
from edge_agent.update.components.trial import Trial
from edge_agent.update.record import Component, Effect, Update
from protos.contract.ids import digest_of
from protos.contract.twin import PackageAssignment, PackageKind
from protos.contract.update import UpdateState
from tests.agent.clocks import ManualClock
from tests.agent.update.fake_rauc import ATTEMPTS, FakeBoard, bundle
from tests.agent.update.package_parts import Fetches, Permits

SETTLE_S = 60.0


class Device:
    """An agent on that board, in whichever image is booted; its folder is on no slot."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.boot_id = folder / "boot_id"
        monkeypatch.setattr(firmware, "BOOT_ID", self.boot_id)
        self.board = FakeBoard(folder / "board")
        self.folder = folder / "firmware"
        self.files: dict[str, bytes] = {}
        self.clock = ManualClock()
        self.generation = 0
        self.asked: list[Effect] = []
        self.pauses: list[float] = []
        self.restart()

    def restart(self) -> None:
        self.boot_id.write_text(f"boot-{self.board.boots}\n")
        self.installer = FirmwareInstaller(
            self.folder,
            Fetches(self.files).as_fetcher(),
            Trial(idle=lambda: "", connected=lambda: True, config=UpdateConfig(), note=self.folder / "note"),
            Rauc(self.board.rauc),
            settle_s=SETTLE_S,
            monotonic=self.clock.monotonic,
            again=self.asked.append,
            sleep=self.pauses.append,
        )

    def reboot(self, *dead: str) -> str:
        slot = self.board.reboot(*dead)
        self.restart()
        return slot

    def fetched(self, data: bytes, version: str) -> Update:
        self.generation += 1
        digest = digest_of(data)
        self.files[digest] = data
        it = PackageAssignment(
            kind=PackageKind.FIRMWARE, name="base", version=version, digest=digest, size_bytes=len(data), rollout_id="r"
        )
        update = Update(
            component=Component.FIRMWARE,
            generation=self.generation,
            assignment=it,
            rollout_id="r",
            state=UpdateState.FETCHING,
            at=SystemClock().now(),
        )
        update = replace(update, place=self.installer.place(update))
        self.installer.prepare(update)
        self.installer.fetch(update, Permits(), lambda: False)
        return update

    def installed(self, version: str) -> Update:
        """Written, and waiting for a new start of the board."""
        update = self.fetched(bundle(version), version)
        self.installer.verify(update)
        assert self.installer.activate(update) is Effect.REBOOT
        return update

    def committed(self, version: str) -> Update:
        update = self.installed(version)
        self.reboot()
        assert self.installer.boot(update, suspect=False) == ""
        assert self.installer.activate(update) is Effect.NOW
        self.installer.commit(update)
        return update

    @property
    def content(self) -> str:
        """Of the slot that is booted."""
        board = self.board.load()
        return str(board["content"][board["booted"]])


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(tmp_path, monkeypatch)


def test_a_new_image_runs_after_a_new_start_of_the_board_and_is_marked_good_after_its_trial(device: Device) -> None:
    assert device.installer.running() is None
    update = device.installed("2.0")
    assert device.installer.running() is None and device.content == "factory"
    assert device.reboot() == "rootfs.1"
    assert device.installer.boot(update, suspect=False) == ""
    assert device.installer.activate(update) is Effect.NOW
    assert device.installer.running() == update.assignment
    assert device.board.load()["left"]["rootfs.1"] == ATTEMPTS - 1, "not yet"
    device.installer.commit(update)
    assert device.board.load()["left"]["rootfs.1"] == ATTEMPTS
    found = device.installer.found()
    assert found is not None and found.good and found.assignment == update.assignment
    assert list(device.folder.glob("*.raucb")) == [], "it is on the slot now"
    assert device.installer.present(update)


def test_an_image_that_does_not_start_is_gone_back_from_by_the_boot_loader_and_told(device: Device) -> None:
    first = device.committed("2.0")
    second = device.installed("3.0")
    assert device.reboot("3.0") == "rootfs.1" and device.content == "2.0"
    assert "did not start" in device.installer.boot(second, suspect=False)
    assert device.installer.roll_back(second) is Effect.NOW
    assert device.installer.running() == first.assignment
    assert device.board.load()["order"][0] == "rootfs.1"


def test_an_image_without_an_agent_that_commits_it_is_given_up_too(device: Device) -> None:
    update = device.installed("2.0")
    starts = [device.reboot() for _ in range(ATTEMPTS + 1)]
    assert starts == ["rootfs.1"] * ATTEMPTS + ["rootfs.0"]
    assert "did not start" in device.installer.boot(update, suspect=False)


def test_rolling_back_starts_the_board_from_the_image_before_it(device: Device) -> None:
    update = device.installed("2.0")
    device.reboot()
    device.installer.activate(update)
    for _ in range(2):  # a crash in between: again
        assert device.installer.roll_back(update) is Effect.REBOOT
    assert device.reboot() == "rootfs.0" and device.content == "factory"
    assert device.installer.roll_back(update) is Effect.NOW
    assert device.board.load()["left"]["rootfs.1"] == 0


def test_called_off_before_the_new_start_the_board_stays_where_it_is(device: Device) -> None:
    update = device.installed("2.0")
    assert device.installer.roll_back(update) is Effect.NOW
    assert device.reboot() == "rootfs.0"


def test_a_new_start_of_the_agent_alone_changes_nothing(device: Device) -> None:
    update = device.installed("2.0")
    device.restart()
    assert device.installer.boot(update, suspect=False) == ""
    assert device.installer.activate(update) is Effect.REBOOT
    assert device.board.load()["calls"].count(f"install {device.installer._bundle(update)}") == 1, "it is not written twice"


def test_a_power_cut_while_it_is_written_writes_it_again(device: Device) -> None:
    update = device.fetched(bundle("2.0"), "2.0")
    device.board.set(breaks="install")
    with pytest.raises(BadPackage, match="it broke"):
        device.installer.activate(update)
    device.board.set(breaks="")
    device.reboot()
    assert device.installer.boot(update, suspect=False) == ""
    assert device.installer.activate(update) is Effect.REBOOT
    assert device.reboot() == "rootfs.1"


def test_a_power_cut_just_after_it_was_written_is_its_first_start(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    update = device.fetched(bundle("2.0"), "2.0")
    real, calls = firmware.firmware_record.store, 0

    def cut(*given: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        real(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(firmware.firmware_record, "store", cut)
        with pytest.raises(KeyboardInterrupt):
            device.installer.activate(update)
    device.reboot()
    assert device.installer.boot(update, suspect=False) == ""
    assert device.installer.activate(update) is Effect.NOW and device.installer.running() == update.assignment


def test_where_the_boards_configuration_leaves_it_to_us_the_new_slot_is_made_the_next(device: Device) -> None:
    device.board.set(activate_installed=False)
    device.installed("2.0")
    assert "status mark-active other" in device.board.load()["calls"]
    assert device.reboot() == "rootfs.1"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"signed by nobody", "signature verification failed"),
        (bundle("2.0", compatible="toaster"), "'toaster'"),
    ],
    ids=["signature", "board"],
)
def test_an_image_that_is_not_for_this_board_is_refused_before_anything_is_written(
    device: Device, data: bytes, why: str
) -> None:
    update = device.fetched(data, "2.0")
    with pytest.raises(BadPackage, match=why):
        device.installer.verify(update)
    assert not any(call.startswith("install") for call in device.board.load()["calls"])


def test_an_image_that_was_damaged_on_disk_is_not_installed(device: Device) -> None:
    update = device.fetched(bundle("2.0"), "2.0")
    device.installer.verify(update)
    device.installer._bundle(update).write_bytes(b"rot")
    for act in (device.installer.check, device.installer.activate):
        with pytest.raises(Corrupt):
            act(update)


def test_a_good_image_is_marked_at_every_start_once_that_has_lasted(device: Device) -> None:
    device.committed("2.0")
    device.reboot()
    assert device.board.load()["left"]["rootfs.1"] == ATTEMPTS - 1
    assert device.installer.tend() == SETTLE_S
    device.clock.advance(SETTLE_S)
    device.installer.tend()
    assert device.board.load()["left"]["rootfs.1"] == ATTEMPTS
    marks = device.board.load()["calls"].count("status mark-good")
    device.installer.tend()
    assert device.board.load()["calls"].count("status mark-good") == marks, "once"


def test_an_image_that_has_not_passed_is_not_marked_in_passing(device: Device) -> None:
    device.installed("2.0")
    device.reboot()
    device.clock.advance(2 * SETTLE_S)
    device.installer.tend()
    assert "status mark-good" not in device.board.load()["calls"]


def test_an_image_that_was_taken_back_is_not_marked_where_somebody_boots_it_by_hand(device: Device) -> None:
    update = device.installed("2.0")
    device.reboot()
    device.installer.activate(update)
    device.installer.roll_back(update)
    device.reboot()
    device.installer.boot(None, suspect=False)
    device.board.set(order=["rootfs.1", "rootfs.0"], left={"rootfs.0": ATTEMPTS, "rootfs.1": ATTEMPTS})
    assert device.reboot() == "rootfs.1"
    device.clock.advance(2 * SETTLE_S)
    device.installer.tend()
    assert "status mark-good" not in device.board.load()["calls"]


def test_the_image_that_the_board_came_with_is_marked_too(device: Device) -> None:
    device.clock.advance(SETTLE_S)
    device.installer.tend()
    assert "status mark-good" in device.board.load()["calls"]


def test_a_rauc_that_is_not_up_yet_costs_a_new_image_nothing(device: Device) -> None:
    update = device.installed("2.0")
    device.reboot()
    device.board.set(breaks="status")
    assert device.installer.boot(update, suspect=False) == ""
    with pytest.raises(OSError, match="it broke"):
        device.installer.activate(update)
    device.board.set(breaks="")
    assert device.installer.activate(update) is Effect.NOW


def test_one_that_answers_nothing_is_not_asked_all_the_time(device: Device) -> None:
    device.board.set(breaks="status", calls=[])
    for _ in range(50):
        assert device.installer.running() is None
    assert len(device.board.load()["calls"]) == 1
    device.board.set(breaks="")
    device.clock.advance(SETTLE_S)
    device.installer.tend()
    assert "status mark-good" in device.board.load()["calls"]


def test_a_board_that_was_not_started_anew_after_the_image_was_taken_back_is_so_later(device: Device) -> None:
    update = device.installed("2.0")
    device.reboot()
    device.installer.activate(update)
    assert device.installer.roll_back(update) is Effect.REBOOT
    device.restart()  # the agent alone: it was killed before it could ask
    assert device.installer.boot(None, suspect=False) == "" and device.asked == []
    device.clock.advance(SETTLE_S)
    device.installer.tend()
    assert device.asked == [Effect.REBOOT]
    assert device.reboot() == "rootfs.0"
    device.installer.boot(None, suspect=False)
    device.clock.advance(SETTLE_S)
    device.installer.tend()
    assert device.asked == [Effect.REBOOT], "once"


def test_a_board_whose_image_before_does_not_start_any_more_is_not_started_anew_for_ever(device: Device) -> None:
    update = device.installed("2.0")
    device.reboot()
    device.installer.activate(update)
    assert device.installer.roll_back(update) is Effect.REBOOT
    device.board.set(left={"rootfs.0": 1, "rootfs.1": ATTEMPTS})  # a boot loader without any slot left begins to count again
    assert device.reboot("factory") == "rootfs.1"
    assert device.installer.boot(None, suspect=False) == ""
    device.clock.advance(SETTLE_S)
    device.installer.tend()
    assert device.asked == [] and "status mark-good" not in device.board.load()["calls"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"slots": 1, "attempt": 2}', "[" * 100_000])
def test_a_damaged_record_is_a_board_of_which_nothing_is_known(device: Device, content: str) -> None:
    device.committed("2.0")
    (device.folder / "firmware.json").write_text(content)
    device.restart()
    assert device.installer.running() is None and device.installer.found() is None
    update = device.installed("3.0")
    device.reboot()
    assert device.installer.activate(update) is Effect.NOW


def test_a_board_without_rauc_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(tmp_path, monkeypatch)
    update = device.fetched(bundle("2.0"), "2.0")
    device.board.rauc.unlink()
    with pytest.raises(BadPackage, match="cannot be asked"):
        device.installer.verify(update)
