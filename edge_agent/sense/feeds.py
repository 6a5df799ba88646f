"""Lines of text: of a file, once or as it grows, or of a Unix socket."""

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import BinaryIO, NamedTuple

from edge_agent.core.errors import SourceUnavailable

MAX_LINE_BYTES = 1 << 20  # a longer one is skipped: what writes it may never end it
SOCKET = "unix:"  # before the path of a socket
_CHUNK_BYTES = 64 << 10
_POLL_S = 0.1
_BOM = b"\xef\xbb\xbf"

Skip = Callable[[int, str], None]  # (number of the line, why)


class Line(NamedTuple):
    number: int  # from 1
    text: str  # without its end; bytes that are not UTF-8 are replaced
    first: bool  # of the file, or of the connection


class FileFeed:
    """A file once, or with ``follow`` for ever: what is appended later, and the file that takes its place.

    While a file is followed, a line counts once its end is written; a rest without one is skipped when another file comes.
    A file that was cut short is begun again; where it has grown beyond what was read before anyone looked, nobody can tell.
    """

    def __init__(self, path: Path, closed: Event, skip: Skip, *, follow: bool = False, fresh: bool = False) -> None:
        """``fresh``: of what is there already, take the first line only, which may be a header."""
        self._path, self._closed, self._skip = path, closed, skip
        self._follow, self._fresh = follow, fresh

    def lines(self) -> Iterator[Line]:
        """Raises SourceUnavailable."""
        while not self._closed.is_set():
            try:
                with self._path.open("rb") as file:
                    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                        raise SourceUnavailable(f"{self._path} is not a regular file")  # a named pipe would wait for ever
                    yield from self._read(file)
            except OSError as error:
                raise SourceUnavailable(f"cannot read {self._path}: {error.strerror}") from error
            if not self._follow:
                return
            self._fresh = False

    def _read(self, file: BinaryIO) -> Iterator[Line]:
        cut = _Cutter(self._skip)
        old = os.fstat(file.fileno()).st_size if self._fresh else 0
        while not self._closed.is_set():
            data = file.read(_CHUNK_BYTES)
            if data:
                for line in cut.add(data):
                    if line.first or cut.begun_at >= old:
                        yield line
            elif not self._follow:
                yield from cut.end()
                return
            elif self._replaced(file):
                cut.drop()
                return
            else:
                self._closed.wait(_POLL_S)

    def _replaced(self, file: BinaryIO) -> bool:
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False  # between the two names of a rotation: wait
        return now.st_ino != os.fstat(file.fileno()).st_ino or now.st_size < file.tell()


class SocketFeed:
    """What a process that listens on a Unix socket tells whoever connects. It has gone when the connection ends."""

    def __init__(self, path: Path, closed: Event, skip: Skip) -> None:
        self._path, self._closed, self._skip = path, closed, skip

    def lines(self) -> Iterator[Line]:
        """Raises SourceUnavailable."""
        cut = _Cutter(self._skip)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_POLL_S)
            try:
                connection.connect(str(self._path))
                while not self._closed.is_set():
                    try:
                        data = connection.recv(_CHUNK_BYTES)
                    except TimeoutError:
                        continue
                    if not data:
                        cut.drop()
                        raise SourceUnavailable(f"{self._path} has closed the connection")
                    yield from cut.add(data)
            except OSError as error:
                raise SourceUnavailable(f"cannot read {self._path}: {error.strerror or error}") from error


class _Cutter:
    """Bytes as they come -> lines."""

    def __init__(self, skip: Skip) -> None:
        self._skip = skip
        self._rest = bytearray()
        self._too_long = False
        self._number = 0
        self._at = self.begun_at = 0  # bytes before the next line, and before the one that was told last

    def add(self, data: bytes) -> Iterator[Line]:
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._rest += data[start:end]
            start = end + 1
            yield from self._told(ends=1)
        self._rest += data[start:]
        if len(self._rest) > MAX_LINE_BYTES:
            self._at += len(self._rest)
            self._rest.clear()
            self._too_long = True

    def end(self) -> Iterator[Line]:
        """The last line of a whole file needs no end."""
        if self._rest or self._too_long:
            yield from self._told(ends=0)

    def drop(self) -> None:
        if self._rest or self._too_long:
            self._skip(self._number + 1, "it was not written to its end")

    def _told(self, ends: int) -> Iterator[Line]:
        line, too_long = bytes(self._rest), self._too_long or len(self._rest) > MAX_LINE_BYTES
        self._rest.clear()
        self._too_long = False
        self._number += 1
        self.begun_at, self._at = self._at, self._at + len(line) + ends
        if too_long:
            self._skip(self._number, f"it has more than {MAX_LINE_BYTES} bytes")
            return
        if self._number == 1:
            line = line.removeprefix(_BOM)
        yield Line(self._number, line.removesuffix(b"\r").decode("utf-8", "replace"), self._number == 1)
