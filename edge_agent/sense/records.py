"""A file or a socket of lines as a source of texts, rows or windows."""

import logging
from collections.abc import Iterator
from pathlib import Path
from threading import Event

from edge_agent.core.clock import Clock
from edge_agent.core.config import SourceConfig
from edge_agent.core.errors import BadFrame, ConfigError, SourceUnavailable
from edge_agent.core.model import Observation
from edge_agent.sense.feeds import SOCKET, FileFeed, SocketFeed
from edge_agent.sense.keys import frame_key
from edge_agent.sense.pace import Pace
from edge_agent.sense.series import Series
from edge_agent.sense.shapes import Rows, Shape, Texts

_log = logging.getLogger(__name__)

_TOLD_EVERY = 100  # lines that are skipped: a broken sensor writes many a second


class RecordSource:
    """Kinds ``table``, ``lines`` and ``series``. A line that cannot be used is skipped and counted in ``skipped``.

    An observation is named by ``source.name_column``, or as "file#line"; its time is that of ``source.time_column``, or now.
    """

    def __init__(self, config: SourceConfig, clock: Clock) -> None:
        """Raises ConfigError."""
        _check(config)
        self.skipped = 0
        self._config, self._clock = config, clock
        self._path = Path(config.path.removeprefix(SOCKET))
        self._source = config.name or self._path.stem
        self._closed = Event()

    def observations(self) -> Iterator[Observation]:
        pace = Pace(self._config.fps, self._clock, self._closed)
        while not self._closed.is_set():
            good = 0
            for seen in self._read(pace):
                yield seen
                good += 1
            if not self._config.loop:
                return
            if good == 0 and not self._closed.is_set():
                raise SourceUnavailable(f"{self._path} holds nothing that can be used")

    def close(self) -> None:
        self._closed.set()

    def _read(self, pace: Pace) -> Iterator[Observation]:
        shape = self._shape()
        feed = self._feed()
        for line in feed.lines():
            try:
                for content, at, name in shape.of(line):
                    if not pace.wait():
                        return
                    name = name or f"{self._path.name}#{line.number}"
                    yield Observation(
                        content=content,
                        captured_at=at or self._clock.now(),
                        source=self._source,
                        name=name,
                        key=frame_key(name),
                    )
            except BadFrame as error:
                self._skip(line.number, str(error))

    def _shape(self) -> Shape:
        match self._config.kind:
            case "lines":
                return Texts()
            case "series":
                return Series(self._config)
        return Rows(self._config)

    def _feed(self) -> FileFeed | SocketFeed:
        if self._config.path.startswith(SOCKET):
            return SocketFeed(self._path, self._closed, self._skip)
        return FileFeed(self._path, self._closed, self._skip, follow=self._config.follow, fresh=self._config.fresh)

    def _skip(self, number: int, reason: str) -> None:
        self.skipped += 1
        if self.skipped % _TOLD_EVERY == 1:
            _log.warning("line skipped", extra={"file": str(self._path), "line": number, "reason": reason})


def _check(config: SourceConfig) -> None:
    kind, series = config.kind, config.series
    if not config.path:
        raise ConfigError(f"source.path must name a file of lines, or '{SOCKET}' and a socket, for source.kind '{kind}'")
    if config.loop and config.follow:
        raise ConfigError("source.loop and source.follow exclude each other")
    if config.path.startswith(SOCKET) and (config.loop or config.follow):
        raise ConfigError("source.loop and source.follow are for files: a socket is followed as it is")
    if config.fresh and not config.follow:
        raise ConfigError("source.fresh needs source.follow")
    if config.format not in ("", "csv", "jsonl"):
        raise ConfigError(f"source.format must be 'csv' or 'jsonl', got '{config.format}'")
    if kind == "lines" and (config.format or config.time_column or config.name_column):
        raise ConfigError("source.format, source.time_column and source.name_column are for tables and series")
    if kind == "series":
        if series.steps < 1:
            raise ConfigError("source.series.steps must say how many readings a window has")
        if series.step_s and not config.time_column:
            raise ConfigError("source.series.step_s needs source.time_column")
