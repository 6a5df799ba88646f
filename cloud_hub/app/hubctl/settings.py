"""Which hub, and who we are to it: a small YAML file."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from cloud_hub.app.hubctl.failure import ExitCode, Failure
from edge_agent.core import config as layers
from edge_agent.core.errors import ConfigError

ENV_CONFIG = "TIDELINE_HUBCTL_CONFIG"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Paths are relative to the file they are read from."""

    hub: str  # host:port
    ca: Path
    cert: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    ca: bytes
    cert: bytes
    key: bytes = field(repr=False)


def load(path: Path | None) -> Settings:
    """From ``path``, else the file the environment names, else the user's own. Raises Failure."""
    path = path or _default()
    try:
        values = layers.layered(path, {}, prefix="")
        for name in ("hub", "ca", "cert", "key"):
            if not values.get(name):
                raise ConfigError(f"'{name}' is missing")
        settings = layers.build(Settings, values)
    except ConfigError as error:
        raise Failure(f"configuration {path}: {error}", ExitCode.USAGE) from error
    folder = path.parent
    return Settings(hub=settings.hub, ca=folder / settings.ca, cert=folder / settings.cert, key=folder / settings.key)


def credentials(settings: Settings) -> Credentials:
    """Raises Failure naming the file."""
    return Credentials(ca=_read(settings.ca), cert=_read(settings.cert), key=_read(settings.key))


def _default() -> Path:
    if os.environ.get(ENV_CONFIG):
        return Path(os.environ[ENV_CONFIG])
    path = Path.home() / ".config" / "tideline" / "hubctl.yaml"
    if not path.exists():
        raise Failure(f"no configuration: give --config FILE, set {ENV_CONFIG}, or write {path}", ExitCode.USAGE)
    return path


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}", ExitCode.USAGE) from error
