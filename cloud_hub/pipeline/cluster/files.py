"""A job's files for the workers of its cluster: where they lie, or piece by piece where a worker sees another disk.

Nobody holds more than a piece of them in memory. Pieces are put only once a worker has asked for them; those that Ray's object
store has no room for it keeps on the disk.
"""

import fcntl
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from edge_agent.core.files import write_atomic, writing_atomic

PIECE = 16 << 20  # bytes
_LOOK_S = 0.3
_MARK = "mark"
_ROOM = "tideline-worker-"
_FRESH_S = 60.0  # between its making and its lock a folder looks as if it were left

Piece = tuple[str, Any]  # of which file, and the reference to what follows; one that is empty ends it


class Pieces:
    """Those that were put so far. An actor: one call at a time."""

    def __init__(self) -> None:
        self._wanted = False
        self._pieces: list[list[Piece]] = []
        self._lost = ""

    def want(self) -> None:
        self._wanted = True

    def wanted(self) -> bool:
        return self._wanted

    def add(self, piece: list[Piece]) -> None:
        """``piece``: in a list, so that Ray leaves its reference alone."""
        self._pieces.append(piece)

    def lose(self, reason: str) -> None:
        """No more will come."""
        self._lost = reason

    def after(self, count: int) -> list[list[Piece]]:
        """Raises OSError: there will never be one."""
        if self._lost and count >= len(self._pieces):
            raise OSError(self._lost)
        return self._pieces[count : count + 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a worker is told."""

    folder: str  # of the job, on its machine
    mark: str  # in it: another folder of that name is not ours
    names: tuple[str, ...]
    pieces: Any

    def take(self, into: Path) -> bool:
        """Put the files there, each by its name; True where they lie on a disk that this worker sees.

        Raises what Ray raises where the job is gone.
        """
        for name in self.names:
            (into / name).parent.mkdir(parents=True, exist_ok=True)
        here = Path(self.folder)
        try:
            near = (here / _MARK).read_text() == self.mark
        except OSError:
            near = False
        if near:
            for name in self.names:
                (into / name).symlink_to(here / name)
        else:
            self._fetch(into)
        return near

    def _fetch(self, into: Path) -> None:
        ray.get(self.pieces.want.remote())
        count = 0
        for name in self.names:
            with writing_atomic(into / name) as write:
                while True:
                    of, content = self._next(count)
                    count += 1
                    if of != name:
                        raise ValueError(f"a piece of {of!r} came where {name!r} was expected")
                    if not content:
                        break
                    write(content)

    def _next(self, count: int) -> tuple[str, bytes]:
        waiting = threading.Event()
        while not (found := ray.get(self.pieces.after.remote(count))):
            waiting.wait(_LOOK_S)
        ((name, reference),) = found[0]
        return name, ray.get(reference)


@contextmanager
def offered(folder: Path, files: Mapping[str, Path]) -> Iterator[Offer]:
    """For as long as the block lasts. ``files``: by their path in the folder; they must stay as they are."""
    mark = secrets.token_hex(16)
    write_atomic(folder / _MARK, mark.encode())
    pieces = ray.remote(num_cpus=0)(Pieces).remote()
    over = threading.Event()
    thread = threading.Thread(target=_serve, args=(pieces, files, over), name="ray-files", daemon=True)
    thread.start()
    try:
        yield Offer(folder=str(folder.resolve()), mark=mark, names=tuple(files), pieces=pieces)
    finally:
        over.set()
        thread.join()
        (folder / _MARK).unlink(missing_ok=True)


def _serve(pieces: Any, files: Mapping[str, Path], over: threading.Event) -> None:
    try:
        _put(pieces, files, over)
    except Exception as error:  # noqa: BLE001  # whatever it is, workers must not wait for what will never come
        with suppress(Exception):  # they are gone
            ray.get(pieces.lose.remote(f"the job cannot hand over its files: {error}"))


def _put(pieces: Any, files: Mapping[str, Path], over: threading.Event) -> None:
    while not ray.get(pieces.wanted.remote()):
        if over.wait(_LOOK_S):
            return
    for name, path in files.items():
        with path.open("rb") as file:
            content = b"-"
            while content and not over.is_set():
                content = file.read(PIECE)
                ray.get(pieces.add.remote([(name, ray.put(content))]))


# -- a worker -------------------------------------------------------------------------------------------------------------


@contextmanager
def room() -> Iterator[Path]:
    """A folder of this process for as long as the block lasts. Those of workers that were killed go first: each may be as large
    as a job's data."""
    for left in Path(tempfile.gettempdir()).glob(f"{_ROOM}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _FRESH_S:
                with _held(left):
                    shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_ROOM) as made, _held(Path(made)):
        yield Path(made)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Raises OSError: another process holds it, it is another user's, or gone."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_uid != os.getuid():
            raise PermissionError(f"{folder} is another user's")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
