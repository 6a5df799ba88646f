"""A model that runs in a worker process, whatever becomes of the process."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.backoff import Backoff
from edge_agent.core.errors import BadModel, InferenceError
from edge_agent.infer.life import Died, Life, Limits
from edge_agent.infer.process import Process
from edge_agent.infer.runtimes import read_verified
from protos.contract.manifest import Manifest

log = logging.getLogger(__name__)

TRIES = 2  # to start at first; what dies twice is the model's fault, what dies once may be the machine's
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 30.0  # before a worker that died is started again
HEALTHY_S = 60.0  # a worker that lived so long has made up for those before it
_GRACE_S = 1.0  # for the inference under way when it is closed


class RemoteRuntime:
    """``ports.Runtime`` in a process that is started again, with growing pauses, when it dies, hangs or breaks the rules.

    The file is read and checked against the manifest at every start. One thread of ours starts the worker, waits for its end
    and buries it. ``run`` is for one thread, everything else for any.

    Args:
        blank: a process that was begun earlier, for the first start.
        begin: makes the others.
        lost: told after each worker that was lost why, and how many there were by now; it must not block.
    Raises:
        BadModel: the file is not the manifest's, its runtime refuses it, it takes another tensor than the manifest makes, or
            its worker died ``TRIES`` times. Where the machine had no room for a worker there is no error: it is tried again.
    """

    def __init__(
        self,
        manifest: Manifest,
        path: Path,
        *,
        threads: int = 1,
        runtime: str | None = None,
        limits: Limits | None = None,
        blank: Process | None = None,
        begin: Callable[[], Process] = Process,
        pauses: Backoff | None = None,
        lost: Callable[[str, int], None] = lambda reason, crashes: None,
    ) -> None:
        self._manifest, self._path, self._threads, self._runtime = manifest, path, threads, runtime
        self._limits, self._blank, self._begin = limits or Limits(), blank, begin
        self._lost, self._pauses = lost, pauses or Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._life: Life | None = None  # ready
        self._process: Process | None = None  # ready or not
        self._inner_ms: float | None = None
        self._busy = threading.Lock()
        self._settled, self._closing = threading.Event(), threading.Event()
        self._refusal = ""  # why no worker will ever be started; the error itself would hold on to half of all there is
        self.crashes = 0  # workers lost
        self.last_crash = ""
        self._thread = threading.Thread(target=self._tend, name="worker", daemon=True)
        self._thread.start()
        self._settled.wait()
        if self._refusal:
            self._thread.join()
            raise BadModel(self._refusal)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self._manifest.input.shape

    @property
    def inner_ms(self) -> float | None:
        return self._inner_ms

    @property
    def pid(self) -> int | None:
        """None: no worker just now."""
        life = self._life
        return life.pid if life is not None else None

    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._busy:
            life = self._life
            if life is None:
                raise InferenceError(f"the worker is started again: {self.last_crash}" if self.last_crash else "it is closed")
            logits = life.run(tensor)
            self._inner_ms = life.inner_ms
            return logits

    def close(self) -> None:
        """End the worker, after the inference under way if that does not take long."""
        self._closing.set()
        finished = self._busy.acquire(timeout=_GRACE_S)
        try:
            if (process := self._process) is not None:
                process.kill()
        finally:
            if finished:
                self._busy.release()
        self._thread.join()

    def _tend(self) -> None:
        while not self._closing.is_set():
            started = time.monotonic()
            try:
                ended = self._live()
            except Exception as error:  # the thread's outermost edge: without it no worker would be started any more
                log.exception("worker not tended")
                ended = f"{type(error).__name__}: {error}"
                self._settled.set()
            if self._closing.is_set() or self._refusal:
                break
            self.crashes += 1
            self.last_crash = ended
            if time.monotonic() - started > HEALTHY_S:
                self._pauses.reset()
            pause = self._pauses.next()
            log.error("worker lost", extra={"error": ended, "crashes": self.crashes, "pause_s": round(pause, 2)})
            try:
                self._lost(ended, self.crashes)
            except Exception:  # it cannot be told, and goes on all the same
                log.exception("loss of a worker not told")
            self._closing.wait(pause)
        if self._blank is not None:
            self._blank.close()
        self._settled.set()

    def _live(self) -> str:
        """One worker from its start to its end; returns how it ended. At first a refusal is the end of all."""
        try:
            life = self._start()
        except (Died, BadModel) as error:
            if not self._settled.is_set() and (isinstance(error, BadModel) or self.crashes + 1 >= TRIES):
                self._refusal = str(error) if isinstance(error, BadModel) else f"{self._path.name}: {error}"
            return str(error)
        except (OSError, MemoryError) as error:
            self._settled.set()
            return f"no room for a worker: {getattr(error, 'strerror', None) or 'out of memory'}"
        self._life = life
        self._settled.set()
        ended = life.wait()
        with self._busy:  # an inference that was under way ends at once, now that nobody answers
            self._life = self._process = None
            life.close()
        return ended

    def _start(self) -> Life:
        model = read_verified(self._manifest.artifact, self._path)
        self._process, self._blank = self._blank or self._begin(), None
        if self._closing.is_set():  # nobody else would kill it
            self._process.kill()
        return Life(self._process, self._manifest, model, threads=self._threads, runtime=self._runtime, limits=self._limits)
