"""Power cuts that a test can have: what was not synced is lost, or half of it is, as a disk would have it.

``powercut.c`` notes what a process has made durable; ``Power.cut`` puts the folder into one of the states in which a power cut
may leave it. Nothing that POSIX does not promise is relied upon: a synced file may be without its name, a name without its
bytes, later writes may be there without earlier ones. Pages are whole or not written, as in every file system that SQLite
runs on.
"""

import ctypes
import os
import random
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("powercut.c")
PAGE_BYTES = 4096
_KEY_BYTES = 48
_ALL, _NOTHING = 1.0, 0.0


def compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc")


def build(folder: Path) -> Path:
    """The library to be preloaded. Raises CalledProcessError; there must be a ``compiler``."""
    library = folder / "powercut.so"
    command = [compiler() or "cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*command, "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


class _Entry(NamedTuple):
    kind: str  # "d" a folder, "f" a file, "l" a link
    mode: int
    key: str  # of a link: its target


@dataclass(slots=True)
class Lost:
    """What a cut took, by path: how much there was to lose says whether it proved anything."""

    names: int = 0  # that were there, or had gone, and are otherwise now
    files: list[str] = field(default_factory=list)  # with other content than before the cut


class Power:
    """Of one folder. Between ``settle`` and ``cut`` every process that writes to it runs with ``environment``."""

    def __init__(self, library: Path, tree: Path, shadow: Path) -> None:
        """``shadow``: not below ``tree``; it is made, and emptied."""
        self._library, self._tree, self._shadow = library, tree, shadow
        self._calls = ctypes.CDLL(str(library), use_errno=True)

    def environment(self, *, lies: bool = False, at: int = 0, only: tuple[str, ...] = ()) -> Mapping[str, str]:
        """``lies``: nothing is ever synced. ``at``: the process dies before that durable step; ``only`` on such paths."""
        made = {"LD_PRELOAD": str(self._library), "POWERCUT_TREE": str(self._tree), "POWERCUT_SHADOW": str(self._shadow)}
        if lies:
            made["POWERCUT_LIES"] = "1"
        if at:
            made["POWERCUT_AT"] = str(at)
        if only:
            made["POWERCUT_ONLY"] = ":".join(only)
        return made

    def settle(self) -> None:
        """All that is there now is durable. Nobody writes meanwhile."""
        shutil.rmtree(self._shadow, ignore_errors=True)
        for kind in ("files", "folders"):
            (self._shadow / kind).mkdir(parents=True)
        if self._calls.powercut_settle(os.fsencode(self._tree), os.fsencode(self._shadow)):
            raise OSError(ctypes.get_errno(), "the folder cannot be noted", str(self._tree))

    def cut(self, dice: random.Random, *, reached: float | None = None) -> Lost:
        """Every process is gone. What was not synced is lost but for a share; by the dice where ``reached`` is not given.

        Args:
            reached: 0..1, the chance of each name and page that was on its way to the disk to have come there.
        """
        share = dice.choice((_NOTHING, 0.1, 0.5, 0.9, _ALL)) if reached is None else reached
        made = self._tree.with_name(f".{self._tree.name}.after")
        shutil.rmtree(made, ignore_errors=True)
        lost = Lost()
        self._folder(self._tree, self._key(self._tree), made, _Dice(dice, share), lost)
        before = self._tree.with_name(f".{self._tree.name}.before")
        shutil.rmtree(before, ignore_errors=True)
        self._tree.rename(before)
        made.rename(self._tree)
        shutil.rmtree(before)
        self.settle()
        return lost

    def _folder(self, live: Path | None, key: str, made: Path, dice: "_Dice", lost: Lost) -> None:
        made.mkdir()
        durable, now = self._durable(key), self._now(live)
        for name in sorted(durable.keys() | now.keys()):
            entry = now.get(name) if dice.come() else durable.get(name)
            lost.names += entry != now.get(name)
            if entry is None:
                continue
            there = live / name if live is not None and now.get(name) == entry else None
            if entry.kind == "l":
                (made / name).symlink_to(entry.key)
                continue
            if entry.kind == "d":
                self._folder(there, entry.key, made / name, dice, lost)
            else:
                (made / name).write_bytes(self._content(there, entry.key, dice, lost))
            (made / name).chmod(entry.mode)

    def _content(self, live: Path | None, key: str, dice: "_Dice", lost: Lost) -> bytes:
        noted = self._shadow / "files" / key
        durable = noted.read_bytes() if noted.exists() else b""
        now = live.read_bytes() if live is not None else durable
        content = _mixed(durable, now, dice)
        if content != now:
            lost.files.append(str(live))
        return content

    def _durable(self, key: str) -> dict[str, _Entry]:
        noted = self._shadow / "folders" / key
        lines = noted.read_text().splitlines() if noted.exists() else []
        found = {}
        for kind, mode, entry_key, name in (line.split(" ", 3) for line in lines):
            found[name] = _Entry(kind, int(mode, 8), entry_key)
        return found

    def _now(self, live: Path | None) -> dict[str, _Entry]:
        if live is None:
            return {}
        with os.scandir(live) as entries:
            return {entry.name: self._entry(entry) for entry in entries}

    def _entry(self, entry: "os.DirEntry[str]") -> _Entry:
        mode = entry.stat(follow_symlinks=False).st_mode & 0o7777
        if entry.is_symlink():
            return _Entry("l", mode, str(Path(entry.path).readlink()))
        return _Entry("d" if entry.is_dir() else "f", mode, self._key(Path(entry.path)))

    def _key(self, path: Path) -> str:
        key = ctypes.create_string_buffer(_KEY_BYTES)
        if self._calls.powercut_key(os.fsencode(path), key):
            raise OSError(ctypes.get_errno(), "no such file", str(path))
        return key.value.decode()


class _Dice:
    def __init__(self, dice: random.Random, share: float) -> None:
        self._dice, self._share = dice, share

    def come(self) -> bool:
        """Whether something that was on its way has come to the disk."""
        return self._dice.random() < self._share


def _mixed(durable: bytes, now: bytes, dice: _Dice) -> bytes:
    """Each page is the durable one or the one of now, and so is the length: a page that has not come to the disk is zeros."""
    if durable == now:
        return now
    size = len(now) if dice.come() else len(durable)
    pages = []
    for start in range(0, size, PAGE_BYTES):
        end = min(start + PAGE_BYTES, size)
        source = now if dice.come() else durable
        pages.append(source[start:end].ljust(end - start, b"\0"))
    return b"".join(pages)
