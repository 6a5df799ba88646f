"""Files that survive a power cut: temp + fsync + rename + fsync of the folder."""

import contextlib
import fcntl
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

_SUFFIX = ".tmp"


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """On return ``path`` holds all of ``data`` durably; after a crash it holds the old content or the new, never a mix.

    Several threads and processes may write one path at once: the last one wins whole. What a killed writer leaves is taken
    over by the next writer of the path, or removed by ``sweep``.
    """
    with writing_atomic(path, mode=mode) as write:
        write(data)


@contextlib.contextmanager
def writing_atomic(path: Path, *, mode: int = 0o600) -> Iterator[Callable[[bytes], None]]:
    """``write_atomic`` for what comes piece by piece: what is written inside is in ``path`` once the block has ended, or was
    never there where it raised.
    """
    with _own_temporary(path, mode) as (temporary, descriptor):

        def write(data: bytes) -> None:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]

        try:
            yield write
            os.fsync(descriptor)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    sync_folder(path.parent)


def sweep(folder: Path) -> None:
    """Remove what killed writers left in ``folder``; temporaries of writers at work stay."""
    for temporary in folder.glob(f".*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if _take(descriptor, temporary):
                    temporary.unlink()
            finally:
                os.close(descriptor)


def make_folder(folder: Path, *, mode: int = 0o700) -> None:
    """Make ``folder`` and what it lies in, where they are not there yet; their names survive a power cut on return.

    A file in a new folder is lost with the folder's name, however well the file itself was synced.
    """
    made = [folder, *folder.parents]
    made = made[: next((i for i, each in enumerate(made) if each.exists()), len(made))]
    folder.mkdir(parents=True, exist_ok=True, mode=mode)
    for each in made:
        sync_folder(each.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and unlinks in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _own_temporary(path: Path, mode: int) -> Iterator[tuple[Path, int]]:
    """An empty file beside ``path`` that nobody else writes: the first number whose lock is free. A lock ends with its
    holder, so a leftover is used again instead of piling up."""
    for number in itertools.count():
        temporary = path.with_name(f".{path.name}.{number}{_SUFFIX}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            if _take(descriptor, temporary):
                os.ftruncate(descriptor, 0)
                yield temporary, descriptor
                return
        finally:
            os.close(descriptor)


def _take(descriptor: int, temporary: Path) -> bool:
    """Lock it; False where somebody else has it, or has renamed it to its target since it was opened."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        there = temporary.stat(follow_symlinks=False)
    except (BlockingIOError, FileNotFoundError):
        return False
    held = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)
