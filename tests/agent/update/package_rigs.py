"""Devices whose configuration, agent or image of the board goes wrong on demand."""

import json
import zipfile
from abc import abstractmethod
from pathlib import Path

from edge_agent.core import config, launch
from edge_agent.core.launch import App
from edge_agent.update.components import firmware
from edge_agent.update.components.bundle import BundleInstaller, Checked
from edge_agent.update.components.config import ConfigInstaller
from edge_agent.update.components.firmware import FirmwareInstaller
from edge_agent.update.components.rauc_cli import Rauc
from edge_agent.update.components.trial import Trial
from edge_agent.update.fetch import Fetcher
from edge_agent.update.installer import Installer
from edge_agent.update.overlay import Overlay
from edge_agent.update.record import Component, Effect, Update
from protos.contract.ids import digest_of
from protos.contract.twin import DesiredTwin, PackageAssignment, PackageKind
from tests.agent.update.fake_rauc import FakeBoard, bundle
from tests.agent.update.rigs import CONFIG, VERSIONS, Rig


class PackageRig(Rig):
    """Of one file that is started from, or installed."""

    kind: PackageKind
    installer: Installer

    def __init__(self, folder: Path) -> None:
        self.packages = {version: self.make(folder, version) for version in VERSIONS}
        super().__init__(folder)

    @abstractmethod
    def make(self, folder: Path, version: int) -> bytes:
        """A good package."""

    def twin(self, generation: int, version: int) -> DesiredTwin:
        data = self.packages[version]
        self.blobs[digest_of(data)] = data
        package = PackageAssignment(
            kind=self.kind, name="base", version=str(version), digest=digest_of(data), size_bytes=len(data)
        )
        return DesiredTwin(generation=generation, packages=(package,))

    def running(self) -> int | None:
        running = self.installer.running()
        return int(running.version) if isinstance(running, PackageAssignment) else None

    def trial(self) -> Trial:
        return Trial(idle=lambda: "", connected=lambda: True, config=CONFIG, note=self.folder / "note")


class ShelfRig(PackageRig):
    """Two places and a pointer."""

    shelf: str  # folder

    def started_from(self) -> int | None:
        shelf = self.folder / self.shelf
        data = (shelf / (shelf / "current").read_text().strip() / "package").read_bytes()
        return next((version for version, package in self.packages.items() if package == data), None)

    def file_of(self, version: int) -> Path | None:
        for record in (self.folder / self.shelf).glob("*/package.json"):
            if json.loads(record.read_bytes())["version"] == str(version):
                return record.with_name("package")
        return None


class ConfigRig(ShelfRig):
    component, kind, shelf = Component.CONFIG, PackageKind.CONFIG, "config"

    def make(self, folder: Path, version: int) -> bytes:
        return f"source: {{fps: {version}}}\n".encode()

    def make_installer(self, fetcher: Fetcher) -> Installer:
        """The new start decides what it runs with before anything else, as the composition root does."""
        own = self.folder / "agent.yaml"
        own.write_text(f"data_dir: {self.folder}\nsource: {{kind: none}}\n")
        overlay = Overlay(self.folder)
        overlay.begin(lambda file: config.load(own, overlay=file), config.load(own))
        self.installer = _InProcess(overlay, fetcher, self.trial(), own)
        return self.installer


class _InProcess(ConfigInstaller):
    """Reads a configuration here: a process for each would take minutes, and has tests of its own."""

    def __init__(self, overlay: Overlay, fetcher: Fetcher, trial: Trial, own: Path) -> None:
        super().__init__(overlay, fetcher, trial, ())
        self._own = own

    def verify(self, update: Update) -> None:
        berth = self._overlay.shelf.slot(update.place)
        self._overlay.shelf.check(berth)
        config.load(self._own, overlay=berth.file)


class AgentRig(ShelfRig):
    """Started by its launcher, whose rules are the real ones; bundles are real, with next to nothing in them."""

    component, kind, shelf = Component.AGENT, PackageKind.AGENT, "app"

    def make(self, folder: Path, version: int) -> bytes:
        file = folder / f"{version}.zip"
        check = 'import json\nprint(json.dumps({"origin": __file__}))\n'
        with zipfile.ZipFile(file, "w") as archive:
            for name in ("edge_agent/__init__.py", "edge_agent/app/__init__.py", "edge_agent/app/cli.py"):
                archive.writestr(name, f"version = {version}\n")
            archive.writestr("edge_agent/app/check.py", check)
        return file.read_bytes()

    def make_installer(self, fetcher: Fetcher) -> Installer:
        app = App(self.folder / self.shelf)
        self.installer = BundleInstaller(
            app.folder, fetcher, self.trial(), Checked(arguments=lambda: ()), started=launch.choose(app)
        )
        return self.installer


class FirmwareRig(PackageRig):
    """A board that RAUC writes to: what is started is the boot loader's to say."""

    component, kind = Component.FIRMWARE, PackageKind.FIRMWARE

    def __init__(self, folder: Path) -> None:
        self.board = FakeBoard(folder / "board")
        self._boot_id, firmware.BOOT_ID = firmware.BOOT_ID, folder / "boot_id"
        super().__init__(folder)

    def close(self) -> None:
        super().close()
        firmware.BOOT_ID = self._boot_id

    def make(self, folder: Path, version: int) -> bytes:
        return bundle(str(version))

    def make_installer(self, fetcher: Fetcher) -> Installer:
        if self.ending is Effect.REBOOT:
            self.board.reboot()
        (self.folder / "boot_id").write_text(f"boot-{self.board.boots}\n")
        self.installer = FirmwareInstaller(
            self.folder / "firmware",
            fetcher,
            self.trial(),
            Rauc(self.board.rauc),
            settle_s=CONFIG.settle_s,
            monotonic=self.clock.monotonic,
            again=self._end,
            sleep=self.clock.advance,
        )
        return self.installer

    def started_from(self) -> int | None:
        board = self.board.load()
        return int(board["content"][next(slot for slot in board["order"] if board["left"][slot] > 0)])

    def file_of(self, version: int) -> Path | None:
        """While it is on its way."""
        return next(
            (file for file in (self.folder / "firmware").glob("*.raucb") if file.read_bytes() == self.packages[version]), None
        )
