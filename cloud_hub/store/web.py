"""Where devices find blobs over HTTP: a web server that shows the hub's folder, or copies in a folder or an object store."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import fsspec

from cloud_hub.core.config import ArtifactsConfig
from cloud_hub.core.errors import Invalid
from edge_agent.core.files import writing_atomic

_PIECE_BYTES = 1 << 20
_READABLE = 0o644  # whatever user the web server is


class Web(Protocol):
    """Blobs by their path below the artifact folder. Thread-safe."""

    @property
    def takes_copies(self) -> bool:
        """Whether only what was ``put`` is there; else everything is at once."""

    def put(self, path: str) -> None:
        """On return the blob's copy is there whole. Whatever the storage raises comes through."""

    def url(self, path: str) -> str:
        """For one GET with Range, now or soon."""


class Shown:
    """A web server shows the artifact folder itself."""

    takes_copies = False

    def __init__(self, base: str) -> None:
        self._base = base

    def put(self, path: str) -> None:
        raise NotImplementedError("a folder that is shown has no copies")

    def url(self, path: str) -> str:
        return f"{self._base}{path}"


class Copies:
    """Copies by fsspec; their URL is below ``base``, or signed by the object store for a while."""

    takes_copies = True

    def __init__(self, folder: Path, target: str, options: Mapping[str, Any], *, base: str, signed_s: int) -> None:
        """Raises Invalid where fsspec cannot use ``target``."""
        self._folder, self._base, self._signed_s = folder, base, signed_s
        try:
            self._files, root = fsspec.core.url_to_fs(target, **{"use_listings_cache": False, **options})
        except (ImportError, ValueError, TypeError) as error:
            raise Invalid(f"artifacts.copies {target!r} cannot be used: {error}") from error
        self._root = root.rstrip("/")

    def put(self, path: str) -> None:
        self._files.put_file(str(self._folder / path), f"{self._root}/{path}")

    def url(self, path: str) -> str:
        if self._base:
            return f"{self._base}{path}"
        return str(self._files.sign(f"{self._root}/{path}", expiration=self._signed_s))


class FolderCopies:
    """Copies in a folder that a web server may read, whatever user it is."""

    takes_copies = True

    def __init__(self, folder: Path, target: Path, *, base: str) -> None:
        self._folder, self._target, self._base = folder, target, base

    def put(self, path: str) -> None:
        target = self._target / path
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        with (self._folder / path).open("rb") as file, writing_atomic(target, mode=_READABLE) as write:
            while piece := file.read(_PIECE_BYTES):
                write(piece)

    def url(self, path: str) -> str:
        return f"{self._base}{path}"


def open_web(config: ArtifactsConfig, folder: Path) -> Web | None:
    """As ``artifacts.url`` and ``artifacts.copies`` say; ``folder``: of the artifacts. Connects to nothing.

    Raises Invalid.
    """
    base = config.url and config.url.rstrip("/") + "/"
    if base and (urlsplit(base).scheme not in ("http", "https") or not urlsplit(base).hostname):
        raise Invalid(f"artifacts.url must begin with https:// or http:// and a host, got {config.url!r}")
    if not config.copies:
        return Shown(base) if base else None
    local = config.copies.removeprefix("file://")
    if "://" in local:
        return Copies(folder, local, config.storage_options, base=base, signed_s=config.signed_s)
    if not base:
        raise Invalid("artifacts.copies names a folder: artifacts.url must say where a web server shows it")
    return FolderCopies(folder, Path(local), base=base)
