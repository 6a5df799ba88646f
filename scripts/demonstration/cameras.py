"""What the cameras see: pictures written into the folders the agents watch, under names only the demo knows the truth of."""

import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.sense.keys import frame_key
from scripts.demonstration.scene import Picture, png


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One picture shown to one camera."""

    device: str
    phase: str
    label: str
    key: int  # as the device's telemetry names it
    name: str


@dataclass(slots=True)
class Cameras:
    """Feeds every camera the pictures of the current phase, over and over, until told otherwise."""

    folders: dict[str, Path]
    fps: float
    shown: list[Shown] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def show(self, phase: str, pictures: Sequence[Picture]) -> None:
        """Every camera starts at another place in ``pictures``."""
        self.pause()
        self._stop.clear()
        self._thread = threading.Thread(target=self._feed, args=(phase, pictures), daemon=True)
        self._thread.start()

    def pause(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()

    def count(self, phase: str) -> int:
        return sum(1 for shown in self.shown if shown.phase == phase)

    def _feed(self, phase: str, pictures: Sequence[Picture]) -> None:
        encoded = [(png(picture.image), picture) for picture in pictures]
        step = len(encoded) // len(self.folders)
        for turn in itertools.count():
            for place, (device, folder) in enumerate(self.folders.items()):
                data, picture = encoded[(turn + place * step) % len(encoded)]
                name = f"{picture.source}/{device}-{len(self.shown):07d}-{phase}.png"  # the folder is the sample's source
                folder.joinpath(picture.source).mkdir(exist_ok=True)
                hidden = folder / f".{device}.png"
                hidden.write_bytes(data)
                self.shown.append(Shown(device=device, phase=phase, label=picture.label, key=frame_key(name), name=name))
                hidden.rename(folder / name)
            if self._stop.wait(1 / self.fps):
                return
