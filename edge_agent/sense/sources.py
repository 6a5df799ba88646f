"""From a configuration to a source."""

from collections.abc import Iterator
from threading import Event

from edge_agent.core.clock import Clock
from edge_agent.core.config import LINE_KINDS, SourceConfig
from edge_agent.core.errors import ConfigError
from edge_agent.core.model import Observation
from edge_agent.core.ports import Source
from edge_agent.sense.camera import CameraSource
from edge_agent.sense.folder import FolderSource
from edge_agent.sense.records import RecordSource

_LINE_KINDS = ", ".join(f"'{kind}'" for kind in LINE_KINDS)


class NoSource:
    """A device that watches nothing: nothing comes, and ``observations`` ends when it is closed."""

    def __init__(self) -> None:
        self._closed = Event()

    def observations(self) -> Iterator[Observation]:
        self._closed.wait()
        yield from ()

    def close(self) -> None:
        self._closed.set()


def open_source(config: SourceConfig, clock: Clock) -> Source:
    """Nothing is opened before ``frames`` is called. Raises ConfigError."""
    if config.fps < 0:
        raise ConfigError(f"source.fps must be 0 (no limit) or more, got {config.fps:g}")
    match config.kind:
        case "folder":
            return FolderSource(config, clock)
        case "camera":
            return CameraSource(config, clock)
        case "none":
            return NoSource()
    if config.kind in LINE_KINDS:
        return RecordSource(config, clock)
    raise ConfigError(f"source.kind must be one of 'folder', 'camera', {_LINE_KINDS} and 'none', got '{config.kind}'")
