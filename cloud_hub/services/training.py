"""Use cases about training: specifications, jobs one at a time per model, and what makes a job by itself.

Whoever asks, a model has at most one job that is queued or running. Drift and schedules wait until the data set has enough
labels that no training has seen; until then they are pending, and what comes together makes one job.
"""

import builtins
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from cloud_hub.core import cron, pages, spec_problems
from cloud_hub.core import spec as specs
from cloud_hub.core.config import TrainingConfig
from cloud_hub.core.errors import Conflict, Invalid, NotFound, NotReady
from cloud_hub.core.job_queue import Resources
from cloud_hub.core.labels import checked_selector
from cloud_hub.core.model import DEFAULT_TENANT, Job, JobLine, JobState, Principal, TrainingStep
from cloud_hub.core.pages import FIRST, Page
from cloud_hub.services import job_queue as queue
from cloud_hub.services import spec_check, triggers
from cloud_hub.store import datasets as dataset_store
from cloud_hub.store import training as store
from cloud_hub.store import trials
from cloud_hub.store.database import Database, Tx
from edge_agent.core.clock import Clock
from protos.contract.ids import ModelName, TenantId, model_name

log = logging.getLogger(__name__)

StoredSpec = store.StoredSpec

_FINISHED = (JobState.PUBLISHED, JobState.REJECTED, JobState.FAILED)


class TrainingService:
    """Several processes may share the database: claims and triggers take effect once."""

    def __init__(self, db: Database, clock: Clock, config: TrainingConfig | None = None) -> None:
        self._db = db
        self._clock = clock
        self._config = config or TrainingConfig()

    # -- specifications

    def put_spec(self, who: Principal, yaml: str) -> StoredSpec:
        """Replace the specification of the model it names; jobs that exist keep theirs. Raises Invalid naming the key."""
        spec = specs.parse(yaml)
        if spec.triggers.cron:
            cron.check(spec.triggers.cron)
        checked_selector(spec.deploy.selector)
        stored = StoredSpec(tenant=who.tenant, model=model_name(spec.name), yaml=yaml, updated_at=self._clock.now())
        with self._db.write() as tx:
            store.put_spec(tx, stored)
        log.info("training spec put", extra={"model": stored.model, "by": who.name})
        return stored

    def get_spec(self, who: Principal, model: ModelName) -> StoredSpec:
        """Raises NotFound."""
        with self._db.read() as tx:
            return _spec(tx, who.tenant, model)

    def check_spec(self, who: Principal, yaml: str, *, dataset: bool) -> tuple[str, builtins.list[str]]:
        """The specification with every default written out ("" where it cannot be used), and all that is wrong with it.

        ``dataset``: look at the data set, too.
        """
        spec, problems = spec_problems.find(yaml)
        if spec is None:
            return "", problems
        if dataset:
            with self._db.read() as tx:
                problems += spec_check.of_dataset(tx, who, spec)
        return specs.dump(spec), problems

    # -- jobs, for users

    def run(self, who: Principal, model: ModelName, resources: Mapping[str, Any] | None = None) -> Job:
        """Queue a job now, whatever the triggers say; one that is queued already is taken over with the newest specification.

        ``resources``: keys of that section of the specification that are other for this job.

        Raises:
            Invalid: these resources cannot be asked for.
            NotFound: the model has no specification.
            NotReady: its data set does not exist.
            Conflict: one is running, on the data and the specification of its start.
        """
        with self._db.write() as tx:
            stored = _spec(tx, who.tenant, model)
            stored = replace(stored, yaml=queue.with_resources(stored.yaml, resources or {}))
            dataset = triggers.parsed(stored.yaml).data.dataset
            if dataset_store.labels_of(tx, who.tenant, dataset) is None:
                raise NotReady(f"data set {dataset!r} of model {model} does not exist: create it first")
            active = store.active_job(tx, who.tenant, model)
            if active is None:
                return triggers.queue(tx, stored, triggers.MANUAL, f"by {who.name}", self._clock.now())
            if active.state is JobState.RUNNING:
                raise Conflict(f"job {active.id} is training {model} now: wait for its end or cancel it")
            store.set_job(tx, active.id, only=[JobState.QUEUED], spec_yaml=stored.yaml)
            return _job(tx, active.id)

    def retry(self, who: Principal, id: str) -> Job:
        """A new job on the specification that an ended one had, however it ended.

        Raises:
            NotFound: there is no such job.
            NotReady: its data set does not exist any more.
            Conflict: it has not ended, or another job of its model is queued or running.
            Invalid: this hub cannot use its specification.
        """
        with self._db.write() as tx:
            job = _job(tx, id, who.tenant)
            active = store.active_job(tx, who.tenant, job.model)
            if active is not None:
                raise Conflict(f"job {active.id} of {job.model} is {active.state.name.lower()}: wait for its end or cancel it")
            dataset = triggers.parsed(job.spec_yaml).data.dataset
            if dataset_store.labels_of(tx, who.tenant, dataset) is None:
                raise NotReady(f"data set {dataset!r} of model {job.model} does not exist: create it first")
            stored = StoredSpec(tenant=who.tenant, model=job.model, yaml=job.spec_yaml, updated_at=self._clock.now())
            return triggers.queue(tx, stored, triggers.MANUAL, f"by {who.name}, as job {id} again", self._clock.now())

    def get(self, who: Principal, id: str) -> Job:
        """Raises NotFound."""
        with self._db.read() as tx:
            return _job(tx, id, who.tenant)

    def list(self, who: Principal, model: ModelName | None = None, page: Page = FIRST) -> tuple[builtins.list[Job], str]:
        """Newest first, and the token of the next page: empty at the end. Raises Invalid."""
        before = pages.number(pages.checked(page))
        with self._db.read() as tx:
            rows = store.jobs(tx, who.tenant, model, before=before, limit=page.size + 1)
        return pages.cut(rows, page)

    def cancel(self, who: Principal, id: str) -> Job:
        """A running worker learns of it by its next ``progress``. Raises NotFound, Conflict where the job has ended."""
        with self._db.write() as tx:
            job = _job(tx, id, who.tenant)
            values = {"state": int(JobState.CANCELLED), "reason": f"by {who.name}", "ended_at": self._clock.now()}
            if not store.set_job(tx, id, only=[JobState.QUEUED, JobState.RUNNING], **values):
                raise Conflict(f"job {id} has ended: {job.state.name.lower()}")
            trials.forget(tx, id)
            return _job(tx, id)

    # -- triggers

    def request(self, model: ModelName, trigger: str, detail: str, tenant: TenantId = DEFAULT_TENANT) -> str:
        """Ask for a job on behalf of drift or a schedule: the id of the one made or joined, "" where none is made now."""
        with self._db.write() as tx:
            stored = store.find_spec(tx, tenant, model)
            if stored is None:
                log.warning("no training spec, trigger ignored", extra={"model": model, "trigger": trigger})
                return ""
            return triggers.request(tx, stored, trigger, detail, self._clock.now())

    def tick(self, now: datetime | None = None) -> None:
        """Make jobs of schedules that are due, of pending triggers and of new labels."""
        now = now or self._clock.now()
        with self._db.read() as tx:
            due = [stored for stored in store.every_spec(tx) if triggers.is_due(tx, stored, now)]
        for stored in due:
            with self._db.write() as tx:
                current = store.find_spec(tx, stored.tenant, stored.model)
                if current is not None and triggers.is_due(tx, current, now):
                    triggers.serve(tx, current, now, at=self._clock.now())

    # -- jobs, for the worker

    def claim(self, machine: Resources | None = None, free: Resources | None = None) -> Job | None:
        """Start the next queued job; each start is counted before anything can go wrong. One process gets it.

        Args:
            machine: what it has for jobs; None: whatever is asked for.
            free: of that, now; None: all.
        """
        with self._db.read() as tx:
            if self._next(tx, machine, free) is None:
                return None
        with self._db.write() as tx:
            job = self._next(tx, machine, free)
            if job is None:
                return None
            started = {"started_at": job.started_at or self._clock.now(), "attempts": job.attempts + 1}
            fresh = {"stage": "", "progress": 0.0, "reason": "", "step": None}
            store.set_job(tx, job.id, only=[JobState.QUEUED], state=int(JobState.RUNNING), **started, **fresh)
            return _job(tx, job.id)

    def say_why_waiting(self, machine: Resources) -> None:
        """Tell of queued jobs that this machine, which takes jobs, can never run."""
        with self._db.read() as tx:
            unfit = {id: why for id, why in queue.unfit(tx, machine).items() if why not in _job(tx, id).reason}
        if not unfit:
            return
        with self._db.write() as tx:
            for id, why in unfit.items():
                store.set_job(tx, id, only=[JobState.QUEUED], reason=f"waits for another machine: it asks for {why}")

    def wants(self, job: Job, machine: Resources) -> Resources:
        """What a job asks for on this machine."""
        return queue.wants(job, machine)

    def progress(self, job_id: str, stage: str, fraction: float, line: str = "", step: TrainingStep | None = None) -> bool:
        """Say where a job is, and log a line unless it is empty. False: it was cancelled, stop. Raises NotFound."""
        with self._db.write() as tx:
            values = {"stage": stage, "progress": min(1.0, max(0.0, fraction)), "step": store.step_in(stage, step)}
            going = store.set_job(tx, job_id, only=[JobState.RUNNING], **values)
            if not going:
                _job(tx, job_id)
            elif line:
                queue.note(tx, job_id, line, self._clock.now())
            return going

    def finish(self, job_id: str, state: JobState, reason: str = "", version: int = 0) -> bool:
        """End a running job as published, rejected or failed. False: it had been cancelled or taken away. Raises NotFound."""
        if state not in _FINISHED:
            raise Invalid(f"a job cannot finish as {state.name.lower()}")
        values = {"state": int(state), "reason": reason, "published_version": version, "ended_at": self._clock.now()}
        values["step"] = None
        if state is JobState.PUBLISHED:
            values["progress"] = 1.0
        with self._db.write() as tx:
            ended = store.set_job(tx, job_id, only=[JobState.RUNNING], **values)
            job = _job(tx, job_id)
            if ended:
                trials.forget(tx, job_id)  # the report has their table
        log.info("job finished", extra={"job": job_id, "model": job.model, "state": job.state.name, "reason": reason})
        return ended

    def recover(self, reason: str = "", job_id: str = "", living: Collection[str] = ()) -> int:
        """Queue running jobs again, all or one: for the one that starts workers, when theirs do not live. Returns how many.

        ``living``: those of which a worker does.
        A job that was started ``max_attempts`` times is given up as FAILED.
        """
        why = reason or "the worker died with the hub"
        with self._db.write() as tx:
            jobs = [job for job in store.running(tx) if job_id in ("", job.id) and job.id not in living]
            for job in jobs:
                queue.again(tx, job, why, self._config.max_attempts, self._clock.now())
        return len(jobs)

    def release(self, job_id: str) -> bool:
        """Queue a running job again whose worker was stopped; that start does not count. False: it was not running."""
        with self._db.write() as tx:
            job = store.find_job(tx, job_id)
            if job is None or job.state is not JobState.RUNNING:
                return False
            queue.released(tx, job, self._clock.now())
        return True

    def trials(self, job_id: str, start: int) -> builtins.list[dict[str, Any]]:
        """The journal of a job's search for settings, from entry ``start`` on."""
        with self._db.read() as tx:
            return trials.read(tx, job_id, start)

    def add_trials(self, job_id: str, entries: Sequence[dict[str, Any]]) -> None:
        """Durable on return. Raises NotFound, Conflict where the job does not run any more."""
        with self._db.write() as tx:
            if (job := _job(tx, job_id)).state is not JobState.RUNNING:
                raise Conflict(f"job {job_id} is {job.state.name.lower()}: nobody needs its trials")
            trials.append(tx, job_id, entries)

    def job(self, id: str) -> Job:
        """Of any tenant. Raises NotFound."""
        with self._db.read() as tx:
            return _job(tx, id)

    def lines(self, job_id: str, after: int = 0, limit: int = 1000) -> builtins.list[JobLine]:
        """Those numbered above ``after``, oldest first."""
        with self._db.read() as tx:
            return store.lines(tx, job_id, after, limit)

    # -- inside a transaction

    def _next(self, tx: Tx, machine: Resources | None, free: Resources | None) -> Job | None:
        return queue.next_job(tx, machine, free or machine, self._clock.now())


def _spec(tx: Tx, tenant: TenantId, model: ModelName) -> StoredSpec:
    stored = store.find_spec(tx, tenant, model)
    if stored is None:
        raise NotFound(f"model {model} has no training specification: put one first")
    return stored


def _job(tx: Tx, id: str, tenant: TenantId | None = None) -> Job:
    job = store.find_job(tx, id, tenant)
    if job is None:
        raise NotFound(f"no job {id[:64]!r}")
    return job
