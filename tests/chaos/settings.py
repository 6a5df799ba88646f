"""Configurations from the hub, good ones and ones that must never be kept, and what is found of them on a disk."""

from dataclasses import dataclass
from pathlib import Path

from tuf.api.metadata import TargetFile

from protos.contract.ids import digest_of
from protos.contract.twin import PackageAssignment, PackageKind
from tests.chaos.versions import Nature
from tests.conformance.hub import Hub

NAME = "site"
TEXTS = {
    Nature.GOOD: "source: {{fps: {fps}.0}}",
    Nature.FLAWED: "source: {{kind: none}}",  # it can be used, and the device does nothing with it
    Nature.WRONG: "sauce: {{fps: {fps}.0}}",
    Nature.DAMAGED: "source: {{fps: {fps}.0}}",
    Nature.DEADLY: "source: {{fps: {fps}.0}}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    number: int  # 0: the device's own
    nature: Nature
    text: bytes = b""

    def __str__(self) -> str:
        return f"{self.kind} {self.number}"

    @property
    def kind(self) -> str:
        return f"{self.nature.value}-config"

    @property
    def good(self) -> bool:
        return self.nature is Nature.GOOD

    @property
    def assignment(self) -> PackageAssignment:
        return PackageAssignment(
            kind=PackageKind.CONFIG,
            name=NAME,
            version=str(self.number),
            digest=digest_of(self.text),
            size_bytes=len(self.text),
        )


OWN = Setting(number=0, nature=Nature.GOOD)


class Settings:
    """All there are; each is released when it is asked for."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._made = [OWN]
        self._releases = 0

    def make(self, nature: Nature) -> Setting:
        number = len(self._made)
        text = f"{TEXTS[nature].format(fps=40 + number % 20)}  # number {number}\n"
        self._made.append(Setting(number=number, nature=nature, text=text.encode()))
        return self._made[-1]

    def release(self, setting: Setting) -> TargetFile:
        """For the director to name."""
        self._releases += 1
        target = self._hub.publish_package(setting.assignment, setting.text, release=self._releases)
        if setting.nature is Nature.DAMAGED:
            self._hub.blobs[setting.assignment.digest] = b"#" * len(setting.text)
        return target

    def running(self, packages: tuple[PackageAssignment, ...]) -> Setting:
        """By the word of the device."""
        found = [self._made[int(package.version)] for package in packages if package.kind is PackageKind.CONFIG]
        return found[0] if found else OWN

    def pointed(self, folder: Path) -> Setting | None:
        """What is to be started with; None: the pointer names nothing that was made."""
        try:
            name = (folder / "current").read_bytes().decode("ascii", "replace").strip()
        except OSError:
            return OWN
        return OWN if name == "none" else self.whole(folder / name)

    def whole(self, place: Path) -> Setting | None:
        try:
            text = (place / "package").read_bytes()
        except (OSError, ValueError):  # ValueError: zeros, which a write that was not synced leaves, are no name
            return None
        return next((setting for setting in self._made[1:] if setting.text == text), None)
