"""Which hub, and who we are to it: a small YAML file."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cloud_hub.app.hubctl.failure import ExitCode, Failure
from edge_agent.core import layers
from edge_agent.core.errors import ConfigError

ENV_CONFIG = "TIDELINE_HUBCTL_CONFIG"

_MAX_TOKEN_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Paths are relative to the file they are read from. Either ``cert`` and ``key``, or ``token_file``."""

    hub: str  # host:port; of a token: the port for tokens
    ca: Path
    cert: Path | None = None
    key: Path | None = None
    token_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    ca: bytes
    cert: bytes = b""
    key: bytes = field(default=b"", repr=False)
    token: str = field(default="", repr=False)  # empty: the certificate says who we are


def load(path: Path | None) -> Settings:
    """From ``path``, else the file the environment names, else the user's own. Raises Failure."""
    path = path or _default()
    try:
        values = layers.read(path)
        for name in ("hub", "ca", *(() if values.get("token_file") else ("cert", "key"))):
            if not values.get(name):
                raise ConfigError(f"'{name}' is missing")
        if values.get("token_file") and (values.get("cert") or values.get("key")):
            raise ConfigError("'token_file' stands for 'cert' and 'key': leave those out")
        settings = layers.build(Settings, values)
    except ConfigError as error:
        raise Failure(f"configuration {path}: {error}", ExitCode.USAGE) from error
    folder = path.parent
    return Settings(
        hub=settings.hub,
        ca=folder / settings.ca,
        cert=folder / settings.cert if settings.cert else None,
        key=folder / settings.key if settings.key else None,
        token_file=folder / settings.token_file if settings.token_file else None,
    )


def credentials(settings: Settings) -> Credentials:
    """Raises Failure naming the file."""
    ca = _read(settings.ca)
    if settings.token_file is not None:
        return Credentials(ca=ca, token=_token(settings.token_file))
    if settings.cert is None or settings.key is None:
        raise Failure("the configuration names neither a token_file nor cert and key", ExitCode.USAGE)
    return Credentials(ca=ca, cert=_read(settings.cert), key=_secret(settings.key))


def _default() -> Path:
    if os.environ.get(ENV_CONFIG):
        return Path(os.environ[ENV_CONFIG])
    path = Path.home() / ".config" / "tideline" / "hubctl.yaml"
    if not path.exists():
        raise Failure(f"no configuration: give --config FILE, set {ENV_CONFIG}, or write {path}", ExitCode.USAGE)
    return path


def _token(path: Path) -> str:
    data = _secret(path)
    token = data.strip()
    if not token or len(data) > _MAX_TOKEN_BYTES or not token.isascii() or b"\n" in token or not token.decode().isprintable():
        raise Failure(f"{path} must hold one token and nothing else", ExitCode.USAGE)
    return token.decode()


def _secret(path: Path) -> bytes:
    """What nobody else may read: whoever can is the user to the hub."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise Failure(f"others may use {path} (mode {mode:04o}): run `chmod 600 {path}`", ExitCode.USAGE)
            return file.read()
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}", ExitCode.USAGE) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}", ExitCode.USAGE) from error
