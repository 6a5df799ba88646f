"""Disk space that nobody else can take: SQLite cannot even delete on a disk without any."""

import contextlib
import os
from pathlib import Path

RESERVE_BYTES = 1 << 20  # given up once to bring the write-ahead log into the file: as much as the log holds
LOW_BYTES = 2 << 20  # free on the disk; with less the file does not grow any more


class Room:
    """Of one spool file. Losing it costs records on a full disk, nothing else: no method raises."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reserve = path.with_name(f"{path.name}.reserve")
        self._held = False

    @property
    def low(self) -> bool:
        """Whether the disk is all but full, not counting the reserve."""
        try:
            disk = os.statvfs(self._path.parent)
        except OSError:
            return False
        return disk.f_bavail * disk.f_frsize < LOW_BYTES

    @property
    def held(self) -> bool:
        return self._held

    def hold(self, log_bytes: int) -> None:
        """Have the reserve, and ``log_bytes`` for the write-ahead log: what it does not use yet SQLite does not read."""
        if not self._held:
            log = _allocate(self._path.with_name(f"{self._path.name}-wal"), log_bytes)
            self._held = log and _allocate(self._reserve, RESERVE_BYTES)

    def give_up(self) -> None:
        """Free the reserve, for what is written next."""
        self._held = False
        with contextlib.suppress(OSError):
            self._reserve.unlink(missing_ok=True)

    def file_bytes(self) -> int:
        """Of all the spool's files."""
        return sum(_size(self._path.with_name(self._path.name + suffix)) for suffix in ("", "-wal", ".reserve"))


def _allocate(path: Path, size: int) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(descriptor, 0, size)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
