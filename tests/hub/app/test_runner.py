"""Job processes: started, watched, ended. Shell scripts stand in for training; the real worker is in tests/hub/pipeline."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloud_hub.app import runner as runner_module
from cloud_hub.app.runner import JobRunner
from cloud_hub.core.config import TrainingConfig
from cloud_hub.core.errors import Unavailable
from cloud_hub.core.job_queue import Resources
from cloud_hub.core.model import Job, JobState
from cloud_hub.services.training import TrainingService
from protos.contract.ids import ModelName
from tests.e2e.system import wait_for
from tests.hub.fleet_parts import ADMIN
from tests.hub.services.test_training import Trainer, spec
from tests.hub.telemetry_parts import DIGITS

Start = Callable[..., JobRunner]


@pytest.fixture
def trainer(tmp_path: Path, migrated_file: Path) -> Iterator[Trainer]:
    shutil.copy(migrated_file, tmp_path / "hub.db")
    made = Trainer(tmp_path, f"sqlite:///{tmp_path / 'hub.db'}")
    made.put(spec())
    yield made
    made.db.close()


@pytest.fixture
def start(trainer: Trainer) -> Iterator[Start]:
    """``start(script)``: a runner whose workers run a shell script; ``$2`` is the job's id."""
    runners: list[JobRunner] = []

    def begin(
        script: str = "",
        *,
        worker: tuple[str, ...] = (),
        training: TrainingService | None = None,
        room: Resources | None = None,
        **values: float,
    ) -> JobRunner:
        config = TrainingConfig(**{"poll_s": 0.05, **values})  # type: ignore[arg-type]
        worker = worker or ("sh", "-c", f"cd {trainer.folder}; {script}", "worker")
        made = JobRunner(
            training or trainer.training, config, config_path=None, data_dir=trainer.folder, worker=worker, room=room
        )
        runners.append(made)
        made.start()
        return made

    yield begin
    for made in runners:
        made.stop()


def gone(pid: int) -> bool:
    """Ended, whether or not anybody has looked."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def job_of(trainer: Trainer) -> Job:
    return trainer.training.job(trainer.training.run(ADMIN, DIGITS).id)


def ends(trainer: Trainer, job: Job) -> Job:
    wait_for(lambda: trainer.training.job(job.id).state not in (JobState.QUEUED, JobState.RUNNING), "the end of the job")
    return trainer.training.job(job.id)


def pids(trainer: Trainer) -> list[int]:
    """Of a worker that sleeps in a process of its own, as ``SLEEPER`` does."""
    path = trainer.folder / "pids"
    wait_for(lambda: path.exists() and len(path.read_text().split()) >= 2, "the worker")
    return [int(pid) for pid in path.read_text().split()]


SLEEPER = "sleep 300 & echo $$ $! > pids.new; mv pids.new pids; wait"


def test_a_worker_that_fails_is_tried_again_and_then_given_up_with_the_reason(trainer: Trainer, start: Start) -> None:
    job = job_of(trainer)
    start("echo out of luck >&2; exit 7")
    ended = ends(trainer, job)
    assert ended.state is JobState.FAILED
    assert ended.reason == f"given up after 2 attempts: the worker ended with code 7; see {job.id}.log"
    assert (trainer.folder / "jobs" / f"{job.id}.log").read_text() == "out of luck\n" * 2


def test_a_worker_that_is_killed_says_by_which_signal(trainer: Trainer, start: Start) -> None:
    job = job_of(trainer)
    start("kill -9 $$")
    assert "code -9 (killed, as Linux does where memory ends: lower data.max_bytes" in ends(trainer, job).reason


def test_a_worker_that_cannot_be_started_is_given_up(trainer: Trainer, start: Start) -> None:
    job = job_of(trainer)
    start(worker=("/no/such/program",))
    assert ends(trainer, job).reason.startswith("given up after 2 attempts")


def test_a_worker_that_ends_its_job_has_the_last_word(trainer: Trainer, start: Start) -> None:
    job = job_of(trainer)
    start("while [ ! -e done ]; do sleep 0.02; done")
    wait_for(lambda: trainer.training.job(job.id).state is JobState.RUNNING, "the start")
    scratch = trainer.folder / "work" / job.id
    scratch.mkdir(parents=True)
    trainer.training.finish(job.id, JobState.REJECTED, "not better")
    (trainer.folder / "done").touch()
    wait_for(lambda: not scratch.exists(), "a clean desk")
    assert (trainer.training.job(job.id).state, trainer.training.job(job.id).reason) == (JobState.REJECTED, "not better")


def test_cancelling_ends_the_worker_and_all_it_started(trainer: Trainer, start: Start) -> None:
    job = job_of(trainer)
    start(SLEEPER)
    running = pids(trainer)
    trainer.training.cancel(ADMIN, job.id)
    wait_for(lambda: all(map(gone, running)), "their end")
    assert trainer.training.job(job.id).state is JobState.CANCELLED


def test_a_worker_that_will_not_listen_is_killed(trainer: Trainer, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "_STOP_GRACE_S", 0.2)
    job = job_of(trainer)
    start(f"trap '' TERM; {SLEEPER}; while :; do sleep 1; done")
    running = pids(trainer)
    trainer.training.cancel(ADMIN, job.id)
    wait_for(lambda: all(map(gone, running)), "their end")


def test_what_a_worker_leaves_running_ends_with_it(trainer: Trainer, start: Start) -> None:
    job = job_of(trainer)
    start("sleep 300 & echo $$ $! > pids; exit 1", max_attempts=1)
    ends(trainer, job)
    wait_for(lambda: all(map(gone, pids(trainer))), "their end")


def test_stopping_ends_the_worker_and_leaves_the_job_to_the_next_start(trainer: Trainer, start: Start) -> None:
    job = job_of(trainer)
    for _ in range(3):  # more often than a job may be attempted
        runner = start(SLEEPER)
        running = pids(trainer)
        runner.stop()
        assert all(map(gone, running))
        assert trainer.training.job(job.id).state is JobState.QUEUED
        (trainer.folder / "pids").unlink()
    start("exit 5", max_attempts=1)
    assert ends(trainer, job).state is JobState.FAILED


def test_a_worker_that_takes_too_long_is_ended(trainer: Trainer, start: Start) -> None:
    job = job_of(trainer)
    start(SLEEPER, timeout_s=0.3)
    ended = ends(trainer, job)
    assert ended.state is JobState.FAILED
    assert "the worker ran longer than" in ended.reason
    assert all(map(gone, pids(trainer)))


def test_the_job_of_a_hub_that_was_killed_is_taken_up_again(trainer: Trainer, start: Start) -> None:
    job = job_of(trainer)
    assert trainer.training.claim() is not None
    start(SLEEPER)
    pids(trainer)
    assert (trainer.training.job(job.id).state, trainer.training.job(job.id).attempts) == (JobState.RUNNING, 2)
    assert [line.text for line in trainer.training.lines(job.id)] == ["attempt 1 of 2 ended: the worker died with the hub"]


def test_one_job_runs_at_a_time(trainer: Trainer, start: Start) -> None:
    for name in ("digits", "other"):
        trainer.put(spec().replace("name: digits", f"name: {name}"))
    first, second = job_of(trainer), trainer.training.run(ADMIN, ModelName("other"))
    start("mkdir busy || exit 9; sleep 0.3; rmdir busy; exit 1")
    assert [ends(trainer, job).reason.rpartition("code ")[2][0] for job in (first, second)] == ["1", "1"]


class Flaky(TrainingService):
    """Its database is away once, while a worker runs."""

    failures = 1

    def job(self, id: str) -> Job:
        if self.failures:
            self.failures -= 1
            raise OSError("the database is away")
        return super().job(id)


def test_a_database_that_is_away_for_a_moment_leaves_no_worker_without_a_watch(trainer: Trainer, start: Start) -> None:
    job = job_of(trainer)
    flaky = Flaky(trainer.db, trainer.clock, TrainingConfig(max_attempts=2))
    start(SLEEPER, training=flaky)
    running = pids(trainer)
    wait_for(lambda: flaky.failures == 0, "the database to be away")
    trainer.training.cancel(ADMIN, job.id)
    wait_for(lambda: all(map(gone, running)), "the watch to go on")
    assert trainer.training.job(job.id).attempts == 1


class Severed(TrainingService):
    """Its database takes the first claim, and goes away before it can say so."""

    severed = False

    def claim(self, machine: Resources | None = None, free: Resources | None = None) -> Job | None:
        job = super().claim(machine, free)
        if not self.severed and job is not None:
            self.severed = True
            raise Unavailable("the server closed the connection")
        return job


def test_a_job_that_was_claimed_without_anybody_knowing_is_taken_up(trainer: Trainer, start: Start) -> None:
    job = job_of(trainer)
    start("exit 7", training=Severed(trainer.db, trainer.clock, TrainingConfig(max_attempts=2)))
    assert ends(trainer, job).reason.startswith("given up after 2 attempts")
    assert "the database went away" in trainer.training.lines(job.id)[0].text


def test_jobs_share_a_machine_and_get_what_they_asked_for(trainer: Trainer, start: Start) -> None:
    names = [ModelName(name) for name in ("one", "two", "three")]
    for name in names:
        trainer.put(spec().replace("name: digits", f"name: {name}") + "\nresources: {cpus: 2}\n")
    jobs = [trainer.training.run(ADMIN, name) for name in names]
    script = "echo $CLOUD_HUB__TRAINING__THREADS > threads.$2; while [ ! -e done ]; do sleep 0.02; done; exit 1"
    start(script, room=Resources(cpus=5, memory_mb=1000), max_attempts=1)
    states = lambda: [trainer.training.job(job.id).state for job in jobs]  # noqa: E731
    wait_for(lambda: states().count(JobState.RUNNING) == 2, "two of them")
    wait_for(lambda: len(list(trainer.folder.glob("threads.*"))) == 2, "their word")
    assert {path.read_text() for path in trainer.folder.glob("threads.*")} == {"2\n"}
    assert states().count(JobState.QUEUED) == 1
    (trainer.folder / "done").touch()
    assert all(ends(trainer, job).state is JobState.FAILED for job in jobs)


def test_a_job_for_another_machine_says_so_and_lets_others_pass(trainer: Trainer, start: Start) -> None:
    trainer.put(spec().replace("name: digits", "name: huge") + "\nresources: {gpus: 3}\n")
    huge, small = trainer.training.run(ADMIN, ModelName("huge")), job_of(trainer)
    start("exit 1", room=Resources(cpus=2, memory_mb=1000), max_attempts=1)
    ends(trainer, small)
    wait_for(lambda: trainer.training.job(huge.id).reason != "", "the reason")
    waiting = trainer.training.job(huge.id)
    assert (waiting.state, waiting.attempts) == (JobState.QUEUED, 0)
    assert waiting.reason == "waits for another machine: it asks for 3 GPUs, this machine has 0"


def test_a_worker_whose_hub_is_gone_already_does_not_begin(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cloud_hub.app.worker", "--job", "any", "--parent", str(os.getpid() + 1)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"CLOUD_HUB__DATA_DIR": str(tmp_path / "d")}
    )
    assert done.returncode == 3
    assert not (tmp_path / "d").exists()
