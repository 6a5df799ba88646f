"""A board with two slots, a boot loader that counts starts, and RAUC's command line in front of them.

The forms of the command line and of its JSON are those of RAUC's manual ("Using RAUC"): ``info`` and ``status`` with
``--output-format=json``, ``install``, ``status mark-good|mark-bad|mark-active [booted|other|SLOT]``.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ATTEMPTS = 3
OTHER = {"rootfs.0": "rootfs.1", "rootfs.1": "rootfs.0"}
BUNDLE = b"RAUC bundle\n"  # how a bundle begins that this RAUC believes; the rest is JSON


@dataclass
class FakeBoard:
    """``rauc`` is the executable; everything else is what the board and its boot loader do."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rauc = self.folder / "rauc"
        here = str(Path(__file__).parent)
        lines = ("import sys", f"sys.path.insert(0, {here!r})", "import fake_rauc", f"fake_rauc.main({str(self.folder)!r})")
        self.rauc.write_text("\n".join((f"#!{sys.executable} -IS", *lines)))
        self.rauc.chmod(0o755)
        self.boots = 0
        self.save(
            {
                "compatible": "tideline-camera",
                "booted": "rootfs.0",
                "order": ["rootfs.0", "rootfs.1"],
                "left": {"rootfs.0": ATTEMPTS, "rootfs.1": 0},
                "content": {"rootfs.0": "factory", "rootfs.1": ""},
                "activate_installed": True,
                "breaks": "",  # which command ends with an error
                "calls": [],
            }
        )

    def load(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads((self.folder / "board.json").read_text())
        return values

    def save(self, values: dict[str, Any]) -> None:
        (self.folder / "board.json").write_text(json.dumps(values))

    def set(self, **values: object) -> None:
        self.save({**self.load(), **values})

    def reboot(self, *dead: str) -> str:
        """The slot that comes up; one with an image in ``dead`` spends its starts and never does."""
        self.boots += 1
        board = self.load()
        while True:
            slot = next(slot for slot in board["order"] if board["left"][slot] > 0)
            board["left"][slot] -= 1
            if board["content"][slot] not in dead:
                break
        board["booted"] = slot
        self.save(board)
        return str(slot)


def bundle(version: str, *, compatible: str = "tideline-camera") -> bytes:
    return BUNDLE + json.dumps({"compatible": compatible, "version": version}).encode()


def main(folder: str) -> None:
    """As ``rauc``."""
    path = Path(folder) / "board.json"
    board = json.loads(path.read_text())
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    board["calls"].append(" ".join(words))
    path.write_text(json.dumps(board))
    if board["breaks"] and " ".join(words).startswith(board["breaks"]):
        sys.exit("rauc: de.pengutronix.rauc: it broke")
    match words:
        case ["info", file]:
            sys.stdout.write(json.dumps(_read(Path(file))))
        case ["install", file]:
            _install(board, _read(Path(file)))
        case ["status"]:
            sys.stdout.write(json.dumps(_status(board)))
        case ["status", mark, slot]:
            _mark(board, mark, slot)
        case ["status", mark]:
            _mark(board, mark, "booted")
        case _:
            sys.exit(f"rauc: unknown command {words}")
    path.write_text(json.dumps(board))


def _read(file: Path) -> dict[str, Any]:
    data = file.read_bytes()
    if not data.startswith(BUNDLE):
        sys.exit("rauc: signature verification failed: Verify error: self-signed certificate")
    values: dict[str, Any] = json.loads(data[len(BUNDLE) :])
    return values


def _install(board: dict[str, Any], image: dict[str, Any]) -> None:
    if image["compatible"] != board["compatible"]:
        sys.exit("rauc: Compatible mismatch")
    slot = OTHER[board["booted"]]
    board["content"][slot], board["left"][slot] = image["version"], 0
    if board["activate_installed"]:
        _mark(board, "mark-active", slot)


def _mark(board: dict[str, Any], mark: str, slot: str) -> None:
    slot = {"booted": board["booted"], "other": OTHER[board["booted"]]}.get(slot, slot)
    match mark:
        case "mark-good":
            board["left"][slot] = ATTEMPTS
        case "mark-bad":
            board["left"][slot] = 0
        case "mark-active":
            board["order"], board["left"][slot] = [slot, OTHER[slot]], ATTEMPTS


def _status(board: dict[str, Any]) -> dict[str, Any]:
    slots = [
        {
            slot: {
                "class": "rootfs",
                "device": f"/dev/mmcblk0p{2 + number}",
                "type": "ext4",
                "bootname": "AB"[number],
                "state": "booted" if slot == board["booted"] else "inactive",
                "parent": None,
                "mountpoint": "/" if slot == board["booted"] else None,
                "boot_status": "good" if board["left"][slot] else "bad",
                "slot_status": {"bundle": {"compatible": board["compatible"], "version": board["content"][slot]}},
            }
        }
        for number, slot in enumerate(sorted(OTHER))
    ]
    primary = next((slot for slot in board["order"] if board["left"][slot] > 0), None)
    booted = "AB"[sorted(OTHER).index(board["booted"])]
    return {"compatible": board["compatible"], "variant": "", "booted": booted, "boot_primary": primary, "slots": slots}
