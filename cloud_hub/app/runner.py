"""Runs training jobs, one at a time, each in its own process."""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from cloud_hub.core.config import TrainingConfig
from cloud_hub.core.errors import Unavailable
from cloud_hub.core.model import JOB_ENDED, Job, JobState
from cloud_hub.services.training import TrainingService

log = logging.getLogger(__name__)

_STOP_GRACE_S = 5.0  # a job loses at most one epoch by being killed
_LOOK_S = 0.2

WORKER = (sys.executable, "-m", "cloud_hub.app.worker")


class JobRunner:
    """Claims queued jobs and runs ``python -m cloud_hub.app.worker`` for each.

    A worker that dies without ending its job leaves it to ``TrainingService.recover``, which queues it again or gives it up.
    No worker outlives its runner: not a stop, and not the kill of this process (``worker`` asks the kernel for that).
    """

    def __init__(
        self,
        training: TrainingService,
        config: TrainingConfig,
        *,
        config_path: Path | None,
        data_dir: Path,
        worker: tuple[str, ...] = WORKER,
        epoch: int | None = None,
    ) -> None:
        """``worker`` is a command that takes ``--job``, ``--parent``, ``--config`` and, where there is one, the ``--epoch`` in
        which it may write, and works in ``data_dir/work/ID``."""
        self._training = training
        self._config = config
        self._config_path = config_path
        self._logs = data_dir / "jobs"
        self._scratch = data_dir / "work"
        self._worker = worker
        self._epoch = epoch
        self._unsettled = "the worker died with the hub"  # why a job may be running that no worker works on
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="job-runner", daemon=True)

    def start(self) -> None:
        self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._thread.start()

    def stop(self) -> None:
        """The running job's process is ended; its job goes on at the next start, and this does not count as an attempt."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._unsettled:
                    self._training.recover(self._unsettled)
                    self._unsettled = ""
                job = self._training.claim()
                if job is None:
                    self._stopping.wait(self._config.poll_s)
                else:
                    self._work(job)
            except Unavailable as error:
                log.warning("job runner waits", extra={"reason": str(error)})
                self._stopping.wait(self._config.poll_s)
            except Exception:  # outermost edge of the thread
                log.exception("job runner failed")
                self._stopping.wait(self._config.poll_s)

    def _work(self, job: Job) -> None:
        self._unsettled = "the worker was lost"
        command = [*self._worker, "--job", job.id, "--parent", str(os.getpid())]
        if self._config_path is not None:
            command += ["--config", str(self._config_path)]
        if self._epoch is not None:
            command += ["--epoch", str(self._epoch)]
        with (self._logs / f"{job.id}.log").open("ab") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True)
        log.info("job started", extra={"job": job.id, "model": job.model, "pid": process.pid})
        try:
            reason = self._watch(job, process)
        finally:
            _end(process)
        log.info("job process ended", extra={"job": job.id, "code": process.returncode})
        self._settle(job, reason or f"the worker ended with code {process.returncode}; see {job.id}.log")

    def _settle(self, job: Job, reason: str) -> None:
        if self._stopping.is_set():
            self._training.release(job.id)
        elif self._training.job(job.id).state is JobState.RUNNING:
            self._training.recover(reason)
        if self._training.job(job.id).state in JOB_ENDED:
            shutil.rmtree(self._scratch / job.id, ignore_errors=True)  # a worker that was killed could not
        self._unsettled = ""

    def _watch(self, job: Job, process: subprocess.Popen[bytes]) -> str:
        """Until it ends or must end; why, where that is not its own doing."""
        deadline = time.monotonic() + self._config.timeout_s
        while process.poll() is None:
            if self._stopping.wait(_LOOK_S):
                return "the hub stops"
            if self._training.job(job.id).state in JOB_ENDED:
                return "cancelled"
            if time.monotonic() > deadline:
                return f"the worker ran longer than {self._config.timeout_s:.0f} s"
        return ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a worker and whatever it started; one that has ended leaves nothing behind either."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
