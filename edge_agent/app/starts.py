"""How often in a row the agent came to a sudden end soon after it began."""

import contextlib
from pathlib import Path

from edge_agent.core.files import write_atomic

MANY = 5  # sudden ends in a row, after which the model is suspected
FALL_BACK_FROM = 10  # from there on, what was committed last is taken back ...
FALL_BACK_EVERY = 5  # ... again after so many more, where that was not it
LASTED_S = 30.0  # a start that lives so long counts no more


class Starts:
    """A number on disk, written before anything that may take the process down. A disk that does not take it counts nothing."""

    def __init__(self, path: Path) -> None:
        """Count this start."""
        self._path = path
        self.failed = self._read()
        self._write(self.failed + 1)

    def lasted(self) -> None:
        """This one was none of them, and what was before is over."""
        self._write(0)

    def _read(self) -> int:
        try:
            return max(0, int(self._path.read_bytes()))
        except (OSError, ValueError):
            return 0

    def _write(self, count: int) -> None:
        with contextlib.suppress(OSError):
            write_atomic(self._path, str(count).encode())
