"""A worker process from outside: begun, killed, buried. Nothing heavy is imported here, so that the first can begin early."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

_PASSED_ON = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "TMPDIR")
_LAST_WORDS = 300  # characters kept of what it printed
_BURIED_S = 5.0  # what a killed process may take to be gone


class Process:
    """Blank: it waits for its one order on ``socket``, and dies with the thread that made it, which so must live as long.

    It has a minimal environment, a session of its own, no standard input, and what it prints goes into a pipe that does not
    grow. ``kill`` and ``wait`` are for any thread. Raises OSError where the machine has no room for one more process.
    """

    def __init__(self, module: str = "edge_agent.infer.worker", *, spare: bool = False) -> None:
        """``spare``: the device can do without: it runs when nobody else wants to, and goes first where memory runs out."""
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._words, printed = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._lock = threading.Lock()  # over the two descriptors
        command = [sys.executable, "-P", "-B", "-s", "-m", module, str(theirs.fileno()), str(os.getpid())]
        command += ["spare"] if spare else []
        try:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                cwd="/",
                env=_environment(),
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
            )
        except BaseException:
            self._close()
            raise
        finally:
            theirs.close()
            os.close(printed)

    @property
    def pid(self) -> int:
        return self._child.pid

    def peak_bytes(self) -> int:
        """The most memory it has had in RAM so far; 0 where the kernel does not tell, or it has ended."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) << 10
        return 0

    def kill(self, *, after_s: float = 0.0) -> str:
        """End it, if it does not end by itself within ``after_s``; on return it is gone. Returns how it ended."""
        if after_s:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(after_s)
        self._child.kill()
        try:
            self._child.wait(_BURIED_S)
        except subprocess.TimeoutExpired:  # it hangs in the kernel: whoever waits for it buries it later
            return "the worker cannot be killed"
        return self._ended()

    def wait(self) -> str:
        """Until it has ended; returns how."""
        self._child.wait()
        return self._ended()

    def close(self) -> None:
        """Kill it and let go of everything; more than once is harmless."""
        self.kill()
        self._close()

    def _ended(self) -> str:
        status = self._child.returncode
        if status >= 0:
            return f"the worker ended with status {status}: {self._last_words()}"
        if -status == signal.SIGSYS:
            return "the runtime did what only an attack does: a forbidden system call (SIGSYS)"
        return f"the runtime died with signal {-status} ({_signal_name(-status)})"

    def _last_words(self) -> str:
        with self._lock:
            try:
                printed = os.read(self._words, 1 << 16)
            except OSError:
                printed = b""
        text = printed.decode("utf-8", "replace").strip()[-_LAST_WORDS:]
        return "".join(letter if letter.isprintable() else " " for letter in text) or "no output"

    def _close(self) -> None:
        with self._lock:
            self.socket.close()
            if self._words >= 0:
                os.close(self._words)
                self._words = -1


@contextlib.contextmanager
def begun_early() -> Iterator[Process | None]:
    """One that imports while the agent does; None where there is no room for it yet. It ends with the block, used or not."""
    blank: Process | None = None
    with contextlib.suppress(OSError):
        blank = Process()
    try:
        yield blank
    finally:
        if blank is not None:
            blank.close()


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return kept | {"ORT_DISABLE_TELEMETRY": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
