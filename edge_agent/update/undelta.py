"""Decode a delta in a process of its own: what it does wrong, or takes too much of, ends there and costs nothing but the delta.

Run as a module it is that process, bounded by the kernel in memory, time and what it may write.
"""

import contextlib
import mmap
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_agent.core import delta as decoder
from edge_agent.core.errors import Corrupt, LinkDown
from protos.contract.sources import BlobSource, Encoding

_PASSED_ON = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG")
_LEAST_S = 60.0
_SLOWEST_BYTES_PER_S = 50_000  # of what it makes: decoding, on a slow core and a slow card
_MEMORY_SLACK_BYTES = 16 << 20  # of Python and its allocators, beside what decoding is bounded to
_LAST_WORDS = 300  # characters


class Undelta:
    """One at a time; ``kill`` is for any thread."""

    def __init__(self, called_off: Callable[[], bool] = lambda: False) -> None:
        """``called_off``: a ``kill`` came before there was anything to end."""
        self._called_off = called_off
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._killed = False

    def run(self, source: BlobSource, base: Path, delta: Path, out: Path, size_bytes: int, max_bytes: int) -> None:
        """Write ``size_bytes`` to ``out``, a new file, taking ``max_bytes`` of memory at most; the caller checks what they are.

        Raises:
            Corrupt: it cannot be decoded here.
            LinkDown: it was called off by ``kill``.
        """
        out.unlink(missing_ok=True)  # a decoder that a crash of the agent left behind still writes to the old one
        limits = (source.encoding, size_bytes, max_bytes, int(_LEAST_S + size_bytes / _SLOWEST_BYTES_PER_S))
        command = [
            sys.executable,
            "-P",
            "-B",
            "-s",
            "-m",
            __name__,
            *map(str, (base, delta, out)),
            *(str(int(n)) for n in limits),
        ]
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd="/",
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise Corrupt(f"no process to decode the delta in: {error}") from error
        with self._lock:
            self._child, self._killed = child, False
        if self._called_off():
            self.kill()
        try:
            _, words = child.communicate(timeout=limits[3])
        except subprocess.TimeoutExpired:
            raise Corrupt(f"the delta was not decoded in {limits[3]} s") from None
        finally:
            with self._lock:
                self._child = None
            child.kill()
            child.communicate()
        if self._killed:
            raise LinkDown("decoding was called off")
        if child.returncode != 0:
            said = words.decode("utf-8", "replace").strip().splitlines() or [f"status {child.returncode}"]
            raise Corrupt(f"the delta cannot be decoded: {said[-1][-_LAST_WORDS:]}")

    def kill(self) -> None:
        """End a ``run`` under way."""
        with self._lock:
            if self._child is not None:
                self._killed = True
                self._child.kill()


def main(arguments: list[str]) -> None:
    base, delta, out = map(Path, arguments[:3])
    encoding, size_bytes, max_bytes, seconds = map(int, arguments[3:])
    _limit(max_bytes, size_bytes, seconds)
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file, _mapped(base) as old, _mapped(delta) as change:
        for piece in decoder.decode(Encoding(encoding), old, change, size_bytes, max_bytes - decoder.OVERHEAD_BYTES):
            file.write(piece)


def _limit(max_bytes: int, size_bytes: int, seconds: int) -> None:
    for what, most in (
        (resource.RLIMIT_DATA, _data_bytes() + max_bytes + _MEMORY_SLACK_BYTES),
        (resource.RLIMIT_FSIZE, size_bytes),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        resource.setrlimit(what, (most, most))


def _data_bytes() -> int:
    """What the kernel counts against RLIMIT_DATA already."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) << 10
    return 0


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    """Its pages are the kernel's to drop: they do not count as memory that decoding takes."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages, memoryview(pages) as view:
        yield view


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return kept | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


if __name__ == "__main__":
    main(sys.argv[1:])
