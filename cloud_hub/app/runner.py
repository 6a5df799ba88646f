"""Runs training jobs, one at a time, each in its own process."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from cloud_hub.core.config import TrainingConfig
from cloud_hub.core.model import JOB_ENDED, Job, JobState
from cloud_hub.services.training import TrainingService

log = logging.getLogger(__name__)

_STOP_GRACE_S = 10.0


class JobRunner:
    """Claims queued jobs and runs ``python -m cloud_hub.app.worker`` for each.

    A worker that dies without ending its job leaves it to ``TrainingService.recover``, which queues it again or gives it up.
    """

    def __init__(self, training: TrainingService, config: TrainingConfig, *, config_path: Path | None, logs: Path) -> None:
        self._training = training
        self._config = config
        self._config_path = config_path
        self._logs = logs
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="job-runner", daemon=True)

    def start(self) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        self._training.recover()
        self._thread.start()

    def stop(self) -> None:
        """The running job's process is ended; its job is queued again at the next start."""
        self._stopping.set()
        self._thread.join(_STOP_GRACE_S + 5)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                job = self._training.claim()
                if job is None:
                    self._stopping.wait(self._config.poll_s)
                else:
                    self._work(job)
            except Exception:  # noqa: BLE001  # outermost edge of the thread: a database that is away must not end it
                log.exception("job runner failed")
                self._stopping.wait(self._config.poll_s)

    def _work(self, job: Job) -> None:
        command = [sys.executable, "-m", "cloud_hub.app.worker", "--job", job.id]
        if self._config_path is not None:
            command += ["--config", str(self._config_path)]
        with (self._logs / f"{job.id}.log").open("ab") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True)
            log.info("job started", extra={"job": job.id, "model": job.model, "pid": process.pid})
            reason = self._watch(job, process)
        if self._stopping.is_set():
            return  # recover() finds it at the next start
        if self._training.job(job.id).state is JobState.RUNNING:
            self._training.recover(reason or f"the worker ended with code {process.returncode}; see {job.id}.log")
        log.info("job ended", extra={"job": job.id, "code": process.returncode})

    def _watch(self, job: Job, process: subprocess.Popen[bytes]) -> str:
        deadline = time.monotonic() + self._config.timeout_s
        while process.poll() is None:
            if self._stopping.wait(0.2):
                _end(process)
            elif self._training.job(job.id).state in JOB_ENDED:  # cancelled
                _end(process, grace_s=_STOP_GRACE_S)
            elif time.monotonic() > deadline:
                _end(process)
                return f"the worker ran longer than {self._config.timeout_s:.0f} s"
        return ""


def _end(process: subprocess.Popen[bytes], *, grace_s: float = _STOP_GRACE_S) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
