"""How often in a row the agent came to a sudden end soon after it began, and who ended its last run."""

import contextlib
from pathlib import Path

from edge_agent.core.boot import BOOT_ID
from edge_agent.core.files import write_atomic

MANY = 5  # sudden ends in a row, after which the model is suspected
FALL_BACK_FROM = 10  # from there on, what was committed last is taken back ...
FALL_BACK_EVERY = 5  # ... again after so many more, where that was not it
LASTED_S = 30.0  # a start that lives so long counts no more
_IN_ORDER = "ended"  # in place of a boot: the agent was asked to end, and did


class Starts:
    """A number and a boot on disk, written before anything that may take the process down. A disk that does not take them
    counts nothing."""

    def __init__(self, path: Path, *, boot_id: Path = BOOT_ID) -> None:
        """Count this start."""
        self._path, self._boot = path, _text(boot_id)
        self.failed, before = self._read()
        # by the power, or in order; not known, as where an older agent left no boot: the run itself is to blame
        self.cut = bool(before) and bool(self._boot) and before != self._boot
        self._write(self.failed + 1, self._boot)

    def lasted(self) -> None:
        """This one was none of them, and what was before is over."""
        self._write(0, self._boot)

    def ended(self) -> None:
        """In order: whatever this run was at was not what ended it."""
        self._write(0, _IN_ORDER)

    def _read(self) -> tuple[int, str]:
        count, _, boot = _text(self._path).partition(" ")
        try:
            return max(0, int(count)), boot
        except ValueError:
            return 0, ""

    def _write(self, count: int, boot: str) -> None:
        with contextlib.suppress(OSError):
            write_atomic(self._path, f"{count} {boot}".encode())


def _text(path: Path) -> str:
    """Empty where it cannot be read."""
    try:
        return path.read_bytes().decode("ascii", "replace").strip()
    except OSError:
        return ""
