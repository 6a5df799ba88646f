"""A job's files for the workers of its cluster: where they lie, or piece by piece where a worker sees another disk.

Nobody holds more than a piece of them in memory. Pieces are put only once a worker has asked for them; those that Ray's object
store has no room for it keeps on the disk.
"""

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from edge_agent.core.files import write_atomic, writing_atomic

PIECE = 16 << 20  # bytes
_LOOK_S = 0.3
_MARK = "mark"

Piece = tuple[str, Any]  # of which file, and the reference to what follows; one that is empty ends it


class Pieces:
    """Those that were put so far. An actor: one call at a time."""

    def __init__(self) -> None:
        self._wanted = False
        self._pieces: list[list[Piece]] = []

    def want(self) -> None:
        self._wanted = True

    def wanted(self) -> bool:
        return self._wanted

    def add(self, piece: list[Piece]) -> None:
        """``piece``: in a list, so that Ray leaves its reference alone."""
        self._pieces.append(piece)

    def after(self, count: int) -> list[list[Piece]]:
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
    while not ray.get(pieces.wanted.remote()):
        if over.wait(_LOOK_S):
            return
    for name, path in files.items():
        with path.open("rb") as file:
            content = b"-"
            while content and not over.is_set():
                content = file.read(PIECE)
                ray.get(pieces.add.remote([(name, ray.put(content))]))
