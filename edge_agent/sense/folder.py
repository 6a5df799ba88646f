"""A folder of images as a camera."""

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

from edge_agent.core.clock import Clock
from edge_agent.core.config import SourceConfig
from edge_agent.core.errors import BadFrame, ConfigError, SourceUnavailable
from edge_agent.core.model import Observation
from edge_agent.sense.decode import SUFFIXES, decode
from edge_agent.sense.keys import frame_key
from edge_agent.sense.pace import Pace

_log = logging.getLogger(__name__)

_ENDINGS = tuple(sorted(SUFFIXES))
_POLL_S = 0.05
_POLL_SHARE = 10  # a folder that takes long to list is listed less often: at most a tenth of the time goes into it


class FolderSource:
    """Images below a folder in the order of their relative paths: once, in a ``loop``, or for ever with new ones (``follow``).

    Files and folders whose names begin with "." are not seen, so a writer that renames into place is never read half-way. A
    file that cannot be read is skipped, counted in ``skipped`` and logged, once. ``source`` of a frame is the first folder of
    its relative path, or the configured name for files that lie in no folder.
    """

    def __init__(self, config: SourceConfig, clock: Clock) -> None:
        if not config.path:
            raise ConfigError("source.path must name a folder of images")
        if config.loop and config.follow:
            raise ConfigError("source.loop and source.follow exclude each other")
        self.skipped = 0
        self._config = config
        self._root = Path(config.path)
        self._name = config.name or self._root.absolute().name
        self._clock = clock
        self._closed = Event()
        self._bad: set[str] = set()

    def observations(self) -> Iterator[Observation]:
        pace = Pace(self._config.fps, self._clock, self._closed)
        seen: set[str] = set()
        while not self._closed.is_set():
            started = time.monotonic()
            names = self._names()
            listing_s = time.monotonic() - started
            self._bad.intersection_update(names)
            good = 0
            for frame in self._read([name for name in names if name not in seen], pace):
                yield frame
                good += 1
            if self._config.follow:
                seen = set(names)  # what was deleted may come again
                self._closed.wait(max(_POLL_S, _POLL_SHARE * listing_s))
            elif not self._config.loop:
                return
            elif good == 0 and not self._closed.is_set():
                raise SourceUnavailable(f"{self._root} holds no readable image ({', '.join(_ENDINGS)})")

    def close(self) -> None:
        self._closed.set()

    def _read(self, names: list[str], pace: Pace) -> Iterator[Observation]:
        for name in names:
            if name in self._bad:
                continue
            try:
                pixels = decode(self._root / name)
            except BadFrame as error:
                self._skip(name, error)
                continue
            if not pace.wait():
                return
            folder, slash, _ = name.partition("/")
            yield Observation(
                content=pixels,
                captured_at=self._clock.now(),
                source=folder if slash else self._name,
                name=name,
                key=frame_key(name),
            )

    def _skip(self, name: str, error: BadFrame) -> None:
        self._bad.add(name)
        self.skipped += 1
        _log.warning("image skipped", extra={"file": name, "reason": str(error)})

    def _names(self) -> list[str]:
        """Relative posix paths, sorted."""
        names: list[str] = []
        for folder, folders, files in os.walk(self._root, onerror=self._unlisted):
            folders[:] = [name for name in folders if not name.startswith(".")]
            base = Path(folder).relative_to(self._root)
            names += [
                (base / name).as_posix() for name in files if not name.startswith(".") and name.lower().endswith(_ENDINGS)
            ]
        return sorted(names)

    def _unlisted(self, error: OSError) -> None:
        """A folder that went away while it was walked is no matter; the root is."""
        if Path(error.filename or self._root) == self._root:
            raise SourceUnavailable(f"cannot list {self._root}: {error.strerror}") from error
