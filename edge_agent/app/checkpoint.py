"""Open windows on disk, so that a restart goes on where the agent was."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.core.files import write_atomic

log = logging.getLogger(__name__)

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What was found at the start."""

    streams: Mapping[str, Any] = field(default_factory=dict)  # by name: what was given to ``save``
    clean: bool = True  # nothing has been seen since it was written; True too where there was nothing to find
    damage: str = ""  # why the file could not be used; it is set aside


class Checkpoint:
    """One file: the digest of what follows, and the states as JSON."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Saved:
        """Never raises: a file that cannot be used is set aside, and said so."""
        try:
            digest, _, body = self._path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return Saved()
        except OSError as error:
            return self._damaged(f"it cannot be read: {error.strerror}")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            return self._damaged("its digest differs")
        values = json.loads(body)
        if values["version"] != VERSION:
            return self._damaged(f"it is of version {values['version']}")
        return Saved(streams=values["streams"], clean=values["clean"])

    def save(self, streams: Mapping[str, Any], *, clean: bool) -> None:
        """``clean``: nothing will be seen after it. Raises OSError."""
        values = {"version": VERSION, "clean": clean, "streams": streams}
        body = json.dumps(values, separators=(",", ":"), allow_nan=False).encode()
        write_atomic(self._path, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)

    def _damaged(self, why: str) -> Saved:
        aside = self._path.with_name(f"{self._path.name}.damaged")
        log.error("open windows cannot be read", extra={"path": str(self._path), "aside": str(aside), "error": why})
        try:
            self._path.replace(aside)
        except OSError as error:
            log.error("damaged file not set aside", extra={"path": str(self._path), "error": str(error)})
        return Saved(clean=False, damage=why)
