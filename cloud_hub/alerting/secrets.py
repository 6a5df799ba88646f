"""Secrets of sinks: from files only, read at every use so that they can be changed while the hub runs."""

import logging
from pathlib import Path

from cloud_hub.core.errors import Invalid
from cloud_hub.core.notices import SinkDown

log = logging.getLogger(__name__)

MAX_BYTES = 4096


class Secret:
    """Never shown: neither by ``repr`` nor in an error."""

    def __init__(self, path: Path) -> None:
        """Raises Invalid where it cannot be read; warns where others than its owner may read it."""
        self._path = path
        try:
            mode = path.stat().st_mode
            self._read()
        except OSError as error:
            raise Invalid(f"secret_file {path} cannot be read: {error.strerror}") from error
        if mode & 0o077:
            log.warning("others may read a secret: chmod 600", extra={"file": str(path), "mode": f"{mode & 0o777:o}"})

    def read(self) -> bytes:
        """Without the line's end. Raises SinkDown."""
        try:
            return self._read()
        except OSError as error:
            raise SinkDown(f"secret_file {self._path} cannot be read: {error.strerror}") from error

    def _read(self) -> bytes:
        with self._path.open("rb") as file:
            return file.read(MAX_BYTES).strip(b"\r\n")

    def __repr__(self) -> str:
        return f"Secret({str(self._path)!r})"
