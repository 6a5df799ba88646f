"""Runs training jobs, as many at a time as the machine has room for, each in its own process."""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from cloud_hub.app import machine
from cloud_hub.core.config import TrainingConfig
from cloud_hub.core.errors import Unavailable
from cloud_hub.core.job_queue import Resources
from cloud_hub.core.model import JOB_ENDED, Job, JobState
from cloud_hub.services.training import TrainingService

log = logging.getLogger(__name__)

_STOP_GRACE_S = 5.0  # a job loses at most one epoch by being killed
_LOOK_S = 0.2

WORKER = (sys.executable, "-m", "cloud_hub.app.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    job: Job
    process: "subprocess.Popen[bytes]"
    takes: Resources
    gpus: tuple[str, ...]
    deadline: float  # monotonic


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
        room: Resources | None = None,
    ) -> None:
        """``worker`` is a command that takes ``--job``, ``--parent``, ``--config`` and, where there is one, the ``--epoch`` in
        which it may write, and works in ``data_dir/work/ID``. ``room``: of the machine, for jobs; None: all it has."""
        self._training = training
        self._config = config
        self._config_path = config_path
        self._logs = data_dir / "jobs"
        self._scratch = data_dir / "work"
        self._worker = worker
        self._epoch = epoch
        self._room = room or machine.resources()
        self._gpus = machine.gpus()[: self._room.gpus]
        self._running: list[_Running] = []
        self._unsettled: dict[str, str] = {}  # job -> why it may be running although no worker works on it
        self._left = "the worker died with the hub"  # why jobs may be running that nobody knows of; "": there are none
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="job-runner", daemon=True)

    def start(self) -> None:
        self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._thread.start()

    def stop(self) -> None:
        """The running jobs' processes are ended; the jobs go on at the next start, and this does not count as an attempt."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            pause = self._config.poll_s
            try:
                self._settle_all()
                self._look()
                if self._claim():
                    continue
            except Unavailable as error:
                log.warning("job runner waits", extra={"reason": str(error)})
            except Exception:  # outermost edge of the thread
                log.exception("job runner failed")
            self._stopping.wait(min(pause, _LOOK_S) if self._running else pause)
        for one in self._running:
            _end(one.process)
            with contextlib.suppress(Unavailable):  # its job is taken up by the next start all the same
                self._training.release(one.job.id)
                self._sweep(one.job.id)

    @property
    def _free(self) -> Resources:
        free = self._room
        for one in self._running:
            free = free.without(one.takes)
        return free

    def _claim(self) -> bool:
        """Start the next job that there is room for; False where there is none."""
        try:
            job = self._training.claim(self._room, self._free)
        except Unavailable:
            self._left = "the database went away when the job began"  # perhaps it began: a commit's answer can be lost
            raise
        if job is None:
            if not self._running:
                self._training.say_why_waiting(self._room)
            return False
        self._unsettled[job.id] = "the worker was lost"
        takes = self._training.wants(job, self._room)
        taken = {gpu for one in self._running for gpu in one.gpus}
        gpus = tuple([gpu for gpu in self._gpus if gpu not in taken][: takes.gpus])
        process = self._begin(job, takes, gpus)
        deadline = time.monotonic() + self._config.timeout_s
        self._running.append(_Running(job=job, process=process, takes=takes, gpus=gpus, deadline=deadline))
        del self._unsettled[job.id]
        log.info("job started", extra={"job": job.id, "model": job.model, "pid": process.pid, "cpus": takes.cpus, "gpus": gpus})
        return True

    def _begin(self, job: Job, takes: Resources, gpus: tuple[str, ...]) -> "subprocess.Popen[bytes]":
        command = [*self._worker, "--job", job.id, "--parent", str(os.getpid())]
        if self._config_path is not None:
            command += ["--config", str(self._config_path)]
        if self._epoch is not None:
            command += ["--epoch", str(self._epoch)]
        environment = dict(os.environ)
        if not self._config.threads or takes.cpus < self._config.threads:
            environment["CLOUD_HUB__TRAINING__THREADS"] = str(takes.cpus)
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        with (self._logs / f"{job.id}.log").open("ab") as output:
            return subprocess.Popen(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True, env=environment
            )

    def _look(self) -> None:
        """At each worker: whether it has ended, or must."""
        for one in list(self._running):
            reason = self._why_end(one)
            if one.process.poll() is None and not reason:
                continue
            self._running.remove(one)
            _end(one.process)
            log.info("job process ended", extra={"job": one.job.id, "code": one.process.returncode})
            self._unsettled[one.job.id] = reason or _died(one)
        self._settle_all()

    def _why_end(self, one: _Running) -> str:
        if one.process.poll() is not None:
            return ""
        if time.monotonic() > one.deadline:
            return f"the worker ran longer than {self._config.timeout_s:.0f} s"
        return "cancelled" if self._training.job(one.job.id).state in JOB_ENDED else ""

    def _settle_all(self) -> None:
        """What is still to be written down about workers that are no more."""
        if self._left:
            self._training.recover(self._left, living={one.job.id for one in self._running} | self._unsettled.keys())
            self._left = ""
        for id, reason in list(self._unsettled.items()):
            if self._training.job(id).state is JobState.RUNNING:
                self._training.recover(reason, job_id=id)
            self._sweep(id)
            del self._unsettled[id]

    def _sweep(self, id: str) -> None:
        if self._training.job(id).state in JOB_ENDED:
            shutil.rmtree(self._scratch / id, ignore_errors=True)  # a worker that was killed could not


def _died(one: _Running) -> str:
    killed = " (killed, as Linux does where memory ends: lower data.max_bytes, or say resources.memory_mb)"
    code = one.process.returncode
    return f"the worker ended with code {code}{killed if code == -signal.SIGKILL else ''}; see {one.job.id}.log"


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a worker and whatever it started; one that has ended leaves nothing behind either."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
