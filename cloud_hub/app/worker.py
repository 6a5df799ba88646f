"""One training job in a process of its own: ``python -m cloud_hub.app.worker --config hub.yaml --job ID``.

A crash leaves the job running in the database and its work on disk: it is queued again and goes on after its last epoch.
"""

import argparse
import ctypes
import fcntl
import logging
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from cloud_hub.app import champion, job_data, logs, machine, setup
from cloud_hub.app.job_data import JobData
from cloud_hub.core import config as configuration
from cloud_hub.core import spec as specs
from cloud_hub.core import spec_notes, tasks
from cloud_hub.core.config import HubConfig
from cloud_hub.core.errors import Conflict, Exhausted, HubError, Invalid, NotReady
from cloud_hub.core.model import JOB_ENDED, Job, JobState, ModelVersion, Principal, Role, TrainingStep
from cloud_hub.core.spec import TrainingSpec
from cloud_hub.pipeline.progress import Cancelled
from cloud_hub.services.dataset_versions import VersionService
from cloud_hub.services.fleet import FleetService
from cloud_hub.services.packages import PackageService
from cloud_hub.services.registry import PublishedVersion, RegistryService
from cloud_hub.services.reports import ReportService
from cloud_hub.services.rollouts import RolloutService
from cloud_hub.services.training import TrainingService
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database
from edge_agent.core import phone_home
from edge_agent.core.clock import SystemClock
from edge_agent.core.errors import AgentError
from protos.contract.ids import model_name

if TYPE_CHECKING:  # importing it loads torch: the environment must be set first
    from cloud_hub.pipeline.clean import RawSample
    from cloud_hub.pipeline.journal import Journal
    from cloud_hub.pipeline.retrain import Published

log = logging.getLogger(__name__)

EXIT_DONE, EXIT_REFUSED, EXIT_CANCELLED = 0, 1, 3
_PR_SET_PDEATHSIG = 1  # prctl(2)
OUT_OF_MEMORY = "out of memory: lower data.max_bytes, data.max_samples or train.batch_size, or say resources.memory_mb"
_NO_MEMORY = re.compile("out of memory|can't allocate memory", re.IGNORECASE)
_NICE = 10  # the hub must stay responsive beside a job
_LOCK_WAIT_S = 60.0  # for a worker of a dead hub to notice and leave


class Worker:
    """What a job touches outside the pipeline: samples in, progress and a version out."""

    def __init__(self, config: HubConfig, database: Database, job: Job) -> None:
        clock = self._clock = SystemClock()
        self._database = database
        self._artifacts = ArtifactStore(config.data_dir / "artifacts")
        self._registry = RegistryService(database, self._artifacts, clock)
        self._fleet = FleetService(database, clock)
        self._rollouts = RolloutService(
            database, self._registry, self._fleet, clock, PackageService(database, self._artifacts, clock)
        )
        self._training = TrainingService(database, clock, config.training)
        self._reports = ReportService(database, self._artifacts)
        self._config, self._job = config, job
        self._who = Principal(role=Role.ADMIN, name=f"job {job.id}", tenant=job.tenant)
        self._parent = os.getppid()

    def run(self, folder: Path) -> None:
        """To the end of the job: published, rejected or failed, each with its reason in the database.

        Raises:
            Cancelled: by a user, or with the hub.
            Exhausted: the database was busy; the job is still running for the database.
        """
        try:
            spec = specs.parse(self._job.spec_yaml)
            version = self._registry.published_by(self._who, self._job.id)  # by an attempt that ended before it could say so
            if version is None:
                version = self._train(spec, folder)
            if version is not None:
                self._deploy(spec, version)
                self._training.finish(self._job.id, JobState.PUBLISHED, version=version.version)
        except Exhausted:
            raise  # the database was busy: that is no verdict on the job, which is queued again
        except (HubError, AgentError) as error:
            self._fail(str(error))
        except (MemoryError, RuntimeError) as error:  # torch has no one error for it
            if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
                raise
            self._fail(f"{OUT_OF_MEMORY} ({str(error)[:200] or 'no more to be had'})")

    def _fail(self, reason: str) -> None:
        log.warning("job failed", extra={"job": self._job.id, "reason": reason})
        self._training.finish(self._job.id, JobState.FAILED, reason)

    def _train(self, spec: TrainingSpec, folder: Path) -> ModelVersion | None:
        """None where the gate said no."""
        from cloud_hub.pipeline.retrain import Rejected, retrain

        versions = VersionService(self._database, self._artifacts, self._clock)
        data = JobData(versions, self._artifacts, job_data.as_begun(spec, folder), self._job.tenant, by=self._who.name)
        job_data.begin(spec, data.version, folder)
        self._tell("data", 0.0, f"data set {spec.data.dataset} version {data.version.number}, {data.version.digest}")
        for note in spec_notes.idle(spec):
            self._tell("data", 0.0, note)
        spec = self._within_memory(spec)
        trigger = f"{self._job.trigger}: {self._job.trigger_detail}"
        result = retrain(
            spec,
            data.labels,
            data.samples(),
            folder=folder,
            reserve=lambda: self._registry.reserve(model_name(spec.name), tenant=self._job.tenant),
            champion=champion.find(self._registry, self._artifacts, self._who, spec),
            unlabelled=data.unlabelled(),
            old=self._old(spec, versions),
            devices=self._fleet.groups(self._who, data.devices()),
            about={"dataset": data.lineage(), "job": self._job.id, "trigger": trigger},
            journal=self._journal(),
            ray_address=self._config.training.ray_address,
            progress=self._tell,
        )
        self._reports.put(self._job.id, result.written.page, result.written.document)
        if isinstance(result, Rejected):
            self._tell("verify", 1.0, f"rejected: {result.reason}")
            self._training.finish(self._job.id, JobState.REJECTED, result.reason)
            return None
        return self._publish(result)

    def _within_memory(self, spec: TrainingSpec) -> TrainingSpec:
        memory_mb = spec.resources.memory_mb or machine.resources().memory_mb
        held = job_data.within(spec, memory_mb)
        if held != spec:
            self._tell("data", 0.0, f"with {memory_mb} MB of memory data.max_bytes is {held.data.max_bytes}")
        return held

    def _journal(self) -> "Journal":
        from cloud_hub.pipeline.journal import Journal

        id = self._job.id

        def add(entries: Sequence[dict[str, Any]]) -> None:
            try:
                self._training.add_trials(id, entries)
            except Conflict as gone:
                raise Cancelled(str(gone)) from gone

        return Journal(partial(self._training.trials, id), add)

    def _old(self, spec: TrainingSpec, versions: VersionService) -> "Iterable[RawSample]":
        """Samples of the data set that ``train.replay`` names."""
        again = spec.train.replay
        if not again.dataset:
            return ()
        of = replace(spec, data=replace(spec.data, dataset=again.dataset, version=again.version))
        return JobData(versions, self._artifacts, of, self._job.tenant, by=self._who.name).samples()

    def _publish(self, result: "Published") -> ModelVersion:
        package = result.package
        for blob in package.blobs.values():
            self._artifacts.put(blob)
        version = self._registry.publish(
            PublishedVersion(
                name=package.name,
                version=package.version,
                task=package.task,
                variants=package.variants,
                baseline=package.baseline,
                report=result.report,
                job_id=self._job.id,
                tenant=self._job.tenant,
            )
        )
        self._tell("publish", 1.0, f"published as {version.name} version {version.version}")
        return version

    def _deploy(self, spec: TrainingSpec, version: ModelVersion) -> None:
        """Once per version: a job that died after it must not start a second rollout."""
        deploy = spec.deploy
        if not deploy.auto or self._rollouts.began(self._who, version.name, version.version):
            return
        try:
            rollout = self._rollouts.launch(self._who, deploy.plan(version.name, version.version))
        except (NotReady, Invalid) as error:  # the version is published all the same
            self._tell("publish", 1.0, f"no rollout: {error}")
        else:
            self._tell("publish", 1.0, f"rollout {rollout.id} to {len(rollout.devices)} devices started")

    def _tell(self, stage: str, fraction: float, line: str, step: TrainingStep | None = None) -> None:
        if line:
            log.info("progress", extra={"job": self._job.id, "stage": stage, "line": line})
        if os.getppid() != self._parent:
            raise Cancelled("the hub that started this job is gone")
        if not self._training.progress(self._job.id, stage, fraction, line, step):
            raise Cancelled("the job was cancelled")


def run(config: HubConfig, job_id: str, *, epoch: int | None = None) -> int:
    """Raises NotFound, Conflict where the job is not running, Fenced where the hub that started it no longer leads."""
    _use_threads(config.training.threads)
    tasks.register(config.training.task_files)
    database = setup.open_database(config, epoch=epoch)
    try:
        training = TrainingService(database, SystemClock(), config.training)
        job = training.job(job_id)
        if job.state is not JobState.RUNNING:
            raise Conflict(f"job {job_id} is {job.state.name.lower()}, not running: claim it first")
        folder = config.data_dir / "work" / job_id
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with _alone(folder):
                Worker(config, database, job).run(folder)
        except Cancelled as stop:
            log.info("stopped", extra={"job": job_id, "reason": str(stop)})
            return EXIT_CANCELLED
        finally:
            if training.job(job_id).state in JOB_ENDED:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        database.close()
    return EXIT_DONE


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """A worker whose hub died may live for a moment more: never two in one folder. Raises Conflict."""
    with (folder / "lock").open("w") as file:
        deadline = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise Conflict(f"another worker is still in {folder}: end it first") from error
                time.sleep(0.2)
        yield


def _use_threads(threads: int) -> None:
    """Before torch is imported. Idle OpenMP threads must sleep: spinning ones take the cores from the hub."""
    count = str(threads or len(os.sched_getaffinity(0)))
    os.environ.update(OMP_NUM_THREADS=count, OMP_WAIT_POLICY="PASSIVE")
    phone_home.forbid()


def _die_with(parent: int) -> None:
    """A worker must not outlive its hub: the next one starts another for the same job. Raises Cancelled: it is too late."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL):
        log.warning("not tied to the hub's life", extra={"errno": ctypes.get_errno()})
    if os.getppid() != parent:  # it died before we asked
        raise Cancelled("the hub that started this job is gone")


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    raise Cancelled(f"signal {signum}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="cloud_hub.app.worker", description=__doc__)
    parser.add_argument("--config", type=Path, help="hub.yaml; CLOUD_HUB__SECTION__KEY overrides it")
    parser.add_argument("--job", required=True)
    parser.add_argument("--parent", type=int, help="pid of the hub: the worker ends with it")
    parser.add_argument("--epoch", type=int, help="of the term in which the hub leads: the worker writes in no other")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    os.nice(_NICE)
    try:
        if arguments.parent is not None:
            _die_with(arguments.parent)
        config = configuration.load(arguments.config)
        logs.configure(config.log_level)
        logging.captureWarnings(True)
        sys.exit(run(config, arguments.job, epoch=arguments.epoch))
    except Cancelled:
        sys.exit(EXIT_CANCELLED)
    except (HubError, AgentError) as error:
        print(f"worker: {error}", file=sys.stderr)
        sys.exit(EXIT_REFUSED)


if __name__ == "__main__":
    main()
