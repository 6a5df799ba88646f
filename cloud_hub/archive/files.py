"""Where the archive's files are: a folder, or an object store that fsspec knows."""

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import fsspec

from cloud_hub.core.config import TelemetryConfig
from cloud_hub.core.errors import Invalid, NotFound
from edge_agent.core.files import sync_folder, write_atomic

MAX_FILE_BYTES = 1 << 30


class Files(Protocol):
    """Whole files by their path below one root, each written once. Thread-safe. Where the storage fails its own error comes."""

    @property
    def root(self) -> str:
        """What DuckDB puts before a path; ends with a slash."""

    @property
    def fsspec(self) -> Any:
        """The file system that DuckDB must use for ``root``; None for its own."""

    def put(self, path: str, data: bytes) -> None:
        """On return the file survives a power cut; before that nobody sees any of it. Raises Invalid above MAX_FILE_BYTES."""

    def get(self, path: str) -> bytes:
        """Raises NotFound."""

    def list(self, folder: str) -> Iterator[str]:
        """Paths of all files below ``folder``, those of unfinished puts too where they can be seen."""

    def delete(self, path: str) -> None:
        """It need not be there."""


class LocalFiles:
    """Temp + fsync + rename + fsync of the folder."""

    fsspec = None

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        _make_folder(self._root)

    @property
    def root(self) -> str:
        return f"{self._root}/"

    def put(self, path: str, data: bytes) -> None:
        _check_size(path, data)
        target = self._root / path
        _make_folder(target.parent)
        write_atomic(target, data, mode=0o640)

    def get(self, path: str) -> bytes:
        try:
            return (self._root / path).read_bytes()
        except FileNotFoundError as error:
            raise _missing(path) from error

    def list(self, folder: str) -> Iterator[str]:
        for found in (self._root / folder).rglob("*"):
            if found.is_file():
                yield found.relative_to(self._root).as_posix()

    def delete(self, path: str) -> None:
        (self._root / path).unlink(missing_ok=True)


class ObjectFiles:
    """One PUT per file: object stores show an object whole or not at all."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        """Raises Invalid where fsspec cannot use the URL."""
        try:
            self.fsspec, root = fsspec.core.url_to_fs(url, **{"use_listings_cache": False, **options})
        except (ImportError, ValueError, TypeError) as error:
            raise Invalid(f"telemetry.archive_url {url!r} cannot be used: {error}") from error
        self._root = root.rstrip("/")

    @property
    def root(self) -> str:
        return f"{self.fsspec.unstrip_protocol(self._root)}/"

    def put(self, path: str, data: bytes) -> None:
        _check_size(path, data)
        self.fsspec.pipe_file(self._at(path), data)

    def get(self, path: str) -> bytes:
        try:
            return bytes(self.fsspec.cat_file(self._at(path)))
        except FileNotFoundError as error:
            raise _missing(path) from error

    def list(self, folder: str) -> Iterator[str]:
        try:
            found = self.fsspec.find(self._at(folder))
        except FileNotFoundError:
            return
        for path in found:
            yield path.removeprefix(self._root + "/")

    def delete(self, path: str) -> None:
        try:
            self.fsspec.rm_file(self._at(path))
        except FileNotFoundError:
            return

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"


def open_files(config: TelemetryConfig, data_dir: Path) -> Files:
    """As ``telemetry.archive_url`` says. Connects to nothing. Raises Invalid."""
    url = config.archive_url or str(data_dir / "telemetry")
    if "://" not in url:
        return LocalFiles(Path(url))
    if url.startswith("file://"):
        return LocalFiles(Path(url.removeprefix("file://")))
    return ObjectFiles(url, config.storage_options)


def new_name(now_ms: int) -> str:
    """Of a file: when it was begun, and something nobody else has."""
    return f"{now_ms:012x}-{secrets.token_hex(8)}.parquet"


def begun_ms(path: str) -> int | None:
    """When the file of that name was begun, a put that was cut short included; None: not a name of ours."""
    name, dot, _ = path.rpartition("/")[2].removeprefix(".").partition(".parquet")
    begun, dash, salt = name.partition("-")
    try:
        return int(begun, 16) if dot and dash and len(begun) == 12 and len(salt) == 16 else None
    except ValueError:
        return None


def _make_folder(folder: Path) -> None:
    """With its parents, durably: a file in a folder that a power cut takes away is gone too."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    for made in missing:
        sync_folder(made.parent)


def _check_size(path: str, data: bytes) -> None:
    if len(data) > MAX_FILE_BYTES:
        raise Invalid(
            f"archive file {path} would have {len(data)} bytes, more than {MAX_FILE_BYTES}: set telemetry.file_readings lower"
        )


def _missing(path: str) -> NotFound:
    return NotFound(f"the archive has no file {path}: restore it from a backup of the same day as the database")
