"""Use cases about training: specifications, jobs one at a time per model, and what makes a job by itself.

Whoever asks, a model has at most one job that is queued or running. Drift and schedules wait until the data set has enough
labels that no training has seen; until then they are pending, and what comes together makes one job.
"""

import builtins
import logging
from dataclasses import dataclass
from datetime import datetime

from cloud_hub.core import cron, pages
from cloud_hub.core import spec as specs
from cloud_hub.core.config import TrainingConfig
from cloud_hub.core.errors import Conflict, Invalid, NotFound, NotReady
from cloud_hub.core.labels import checked_selector
from cloud_hub.core.model import DEFAULT_TENANT, Job, JobLine, JobState, Principal, Sample
from cloud_hub.core.pages import FIRST, Page
from cloud_hub.core.spec import TrainingSpec
from cloud_hub.services import triggers
from cloud_hub.store import datasets as dataset_store
from cloud_hub.store import episodes
from cloud_hub.store import training as store
from cloud_hub.store.database import Database, Tx
from edge_agent.core.clock import Clock
from protos.contract.ids import ModelName, TenantId, model_name

log = logging.getLogger(__name__)

MANUAL, DRIFT, CRON, LABELS = "manual", "drift", "cron", "labels"
MAX_LINES = 10_000  # kept of a job
MAX_LINE = 2000  # characters

_FINISHED = (JobState.PUBLISHED, JobState.REJECTED, JobState.FAILED)
_FIRST = {DRIFT: 0, CRON: 1}  # whose name a job carries that several asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSpec:
    model: ModelName
    yaml: str
    updated_at: datetime


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
        stored = store.StoredSpec(tenant=who.tenant, model=model_name(spec.name), yaml=yaml, updated_at=self._clock.now())
        with self._db.write() as tx:
            store.put_spec(tx, stored)
        log.info("training spec put", extra={"model": stored.model, "by": who.name})
        return StoredSpec(model=stored.model, yaml=yaml, updated_at=stored.updated_at)

    def get_spec(self, who: Principal, model: ModelName) -> StoredSpec:
        """Raises NotFound."""
        with self._db.read() as tx:
            stored = _spec(tx, who.tenant, model)
        return StoredSpec(model=stored.model, yaml=stored.yaml, updated_at=stored.updated_at)

    # -- jobs, for users

    def run(self, who: Principal, model: ModelName) -> Job:
        """Queue a job now, whatever the triggers say; one that is queued already is taken over with the newest specification.

        Raises:
            NotFound: the model has no specification.
            NotReady: its data set does not exist.
            Conflict: one is running, on the data and the specification of its start.
        """
        with self._db.write() as tx:
            stored = _spec(tx, who.tenant, model)
            dataset = triggers.parsed(stored.yaml).data.dataset
            if dataset_store.labels_of(tx, who.tenant, dataset) is None:
                raise NotReady(f"data set {dataset!r} of model {model} does not exist: create it first")
            active = store.active_job(tx, who.tenant, model)
            if active is None:
                return self._queue(tx, stored, MANUAL, f"by {who.name}")
            if active.state is JobState.RUNNING:
                raise Conflict(f"job {active.id} is training {model} now: wait for its end or cancel it")
            store.set_job(tx, active.id, only=[JobState.QUEUED], spec_yaml=stored.yaml)
            return _job(tx, active.id)

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
            return _job(tx, id)

    # -- triggers

    def request(self, model: ModelName, trigger: str, detail: str, tenant: TenantId = DEFAULT_TENANT) -> str:
        """Ask for a job on behalf of drift or a schedule: the id of the one made or joined, "" where none is made now."""
        with self._db.write() as tx:
            stored = store.find_spec(tx, tenant, model)
            if stored is None:
                log.warning("no training spec, trigger ignored", extra={"model": model, "trigger": trigger})
                return ""
            return self._request(tx, stored, trigger, detail)

    def tick(self, now: datetime | None = None) -> None:
        """Make jobs of schedules that are due, of pending triggers and of new labels."""
        now = now or self._clock.now()
        with self._db.read() as tx:
            due = [stored for stored in store.every_spec(tx) if self._is_due(tx, stored, now)]
        for stored in due:
            with self._db.write() as tx:
                current = store.find_spec(tx, stored.tenant, stored.model)
                if current is not None and self._is_due(tx, current, now):
                    self._trigger(tx, current, now)

    # -- jobs, for the worker

    def claim(self) -> Job | None:
        """Start the oldest queued job; each start is counted before anything can go wrong. One process gets it."""
        with self._db.read() as tx:
            if store.next_queued(tx) is None:
                return None
        with self._db.write() as tx:
            job = store.next_queued(tx)
            if job is None:
                return None
            started = {"started_at": job.started_at or self._clock.now(), "attempts": job.attempts + 1}
            fresh = {"stage": "", "progress": 0.0, "reason": ""}
            store.set_job(tx, job.id, only=[JobState.QUEUED], state=int(JobState.RUNNING), **started, **fresh)
            return _job(tx, job.id)

    def progress(self, job_id: str, stage: str, fraction: float, line: str = "") -> bool:
        """Say where a job is, and log a line unless it is empty. False: it was cancelled, stop. Raises NotFound."""
        with self._db.write() as tx:
            going = store.set_job(tx, job_id, only=[JobState.RUNNING], stage=stage, progress=min(1.0, max(0.0, fraction)))
            if not going:
                _job(tx, job_id)
            elif line:
                store.add_line(tx, job_id, line[:MAX_LINE], self._clock.now(), MAX_LINES)
            return going

    def finish(self, job_id: str, state: JobState, reason: str = "", version: int = 0) -> bool:
        """End a running job as published, rejected or failed. False: it had been cancelled or taken away. Raises NotFound."""
        if state not in _FINISHED:
            raise Invalid(f"a job cannot finish as {state.name.lower()}")
        values = {"state": int(state), "reason": reason, "published_version": version, "ended_at": self._clock.now()}
        if state is JobState.PUBLISHED:
            values["progress"] = 1.0
        with self._db.write() as tx:
            ended = store.set_job(tx, job_id, only=[JobState.RUNNING], **values)
            job = _job(tx, job_id)
        log.info("job finished", extra={"job": job_id, "model": job.model, "state": job.state.name, "reason": reason})
        return ended

    def recover(self, reason: str = "") -> int:
        """Queue the running jobs again: for the one that starts workers, when none of them lives. Returns how many.

        A job that was started ``max_attempts`` times is given up as FAILED.
        """
        why = reason or "the worker died with the hub"
        with self._db.write() as tx:
            jobs = store.running(tx)
            for job in jobs:
                now = self._clock.now()
                if job.attempts >= self._config.max_attempts:
                    failed = {"state": int(JobState.FAILED), "ended_at": now}
                    text = f"given up after {job.attempts} attempts: {why}"
                    store.set_job(tx, job.id, only=[JobState.RUNNING], reason=text, **failed)
                else:
                    text = f"attempt {job.attempts} of {self._config.max_attempts} ended: {why}"
                    store.set_job(tx, job.id, only=[JobState.RUNNING], state=int(JobState.QUEUED), reason=text)
                store.add_line(tx, job.id, text[:MAX_LINE], now, MAX_LINES)
                log.warning("job recovered", extra={"job": job.id, "model": job.model, "reason": text})
        return len(jobs)

    def release(self, job_id: str) -> bool:
        """Queue a running job again whose worker was stopped; that start does not count. False: it was not running."""
        with self._db.write() as tx:
            job = store.find_job(tx, job_id)
            if job is None or job.state is not JobState.RUNNING:
                return False
            text = "the hub was stopped: the job goes on when it is started again"
            values = {"state": int(JobState.QUEUED), "attempts": job.attempts - 1, "reason": text}
            store.set_job(tx, job_id, only=[JobState.RUNNING], **values)
            store.add_line(tx, job_id, text, self._clock.now(), MAX_LINES)
        log.info("job released", extra={"job": job_id, "model": job.model})
        return True

    def job(self, id: str) -> Job:
        """Of any tenant. Raises NotFound."""
        with self._db.read() as tx:
            return _job(tx, id)

    def lines(self, job_id: str, after: int = 0, limit: int = 1000) -> builtins.list[JobLine]:
        """Those numbered above ``after``, oldest first."""
        with self._db.read() as tx:
            return store.lines(tx, job_id, after, limit)

    def training_samples(self, dataset: str, tenant: TenantId = DEFAULT_TENANT) -> builtins.list[Sample]:
        """Every labelled sample, in an order that depends on the images only. Raises NotFound."""
        self.training_labels(dataset, tenant)
        with self._db.read() as tx:
            return dataset_store.labelled(tx, tenant, dataset)

    def training_labels(self, dataset: str, tenant: TenantId = DEFAULT_TENANT) -> tuple[str, ...]:
        """Class names in index order. Raises NotFound."""
        with self._db.read() as tx:
            labels = dataset_store.labels_of(tx, tenant, dataset)
        if labels is None:
            raise NotFound(f"no data set {dataset!r}: create it first")
        return labels

    # -- inside a transaction

    def _request(self, tx: Tx, stored: store.StoredSpec, trigger: str, detail: str) -> str:
        spec = triggers.parsed(stored.yaml)
        if trigger == DRIFT and not spec.triggers.drift:
            return ""
        active = store.active_job(tx, stored.tenant, stored.model)
        if active is not None:
            return active.id
        store.put_pending(tx, stored.tenant, stored.model, trigger, detail, self._clock.now())
        return self._queue_pending(tx, stored, spec)

    def _trigger(self, tx: Tx, stored: store.StoredSpec, now: datetime) -> None:
        """All that may be due for one model, in one transaction: the slot is taken with the job it makes, or not at all."""
        spec = triggers.parsed(stored.yaml)
        due = triggers.due_slot(tx, stored, spec, now)
        if due is not None and store.take_slot(tx, stored.tenant, stored.model, due):
            self._request(tx, stored, CRON, f"{spec.triggers.cron} due {due:%Y-%m-%d %H:%M} UTC")
        if store.active_job(tx, stored.tenant, stored.model) is not None or self._queue_pending(tx, stored, spec):
            return
        if triggers.labels_due(tx, stored, spec):
            fresh = triggers.labelled(tx, stored, spec, store.last_created(tx, stored.tenant, stored.model))
            self._queue(tx, stored, LABELS, f"{fresh} new labels")

    def _queue_pending(self, tx: Tx, stored: store.StoredSpec, spec: TrainingSpec) -> str:
        """The job that pending triggers make, if there are any and labels enough; nothing is active."""
        pending = store.pending(tx, stored.tenant, stored.model)
        if not pending or not triggers.enough_labels(tx, stored, spec):
            return ""
        first = min(pending, key=lambda one: _FIRST.get(one.trigger, len(_FIRST)))
        return self._queue(tx, stored, first.trigger, first.detail).id

    def _queue(self, tx: Tx, stored: store.StoredSpec, trigger: str, detail: str) -> Job:
        """Make the job; every pending trigger and every open episode of the model is served by it."""
        job = store.add_job(
            tx,
            stored.tenant,
            stored.model,
            trigger=trigger,
            detail=detail,
            spec_yaml=stored.yaml,
            at=self._clock.now(),
        )
        store.clear_pending(tx, stored.tenant, stored.model)
        episodes.join_job(tx, stored.tenant, stored.model, job.id)
        log.info("job queued", extra={"job": job.id, "model": job.model, "trigger": trigger, "detail": detail})
        return job

    def _is_due(self, tx: Tx, stored: store.StoredSpec, now: datetime) -> bool:
        try:
            spec = triggers.parsed(stored.yaml)
            if triggers.due_slot(tx, stored, spec, now) is not None:
                return True
        except Invalid as error:  # stored by an older hub; the other models go on
            log.warning("training spec cannot be used", extra={"model": stored.model, "reason": str(error)})
            return False
        if store.active_job(tx, stored.tenant, stored.model) is not None:
            return False
        waiting = bool(store.pending(tx, stored.tenant, stored.model)) and triggers.enough_labels(tx, stored, spec)
        return waiting or triggers.labels_due(tx, stored, spec)


def _spec(tx: Tx, tenant: TenantId, model: ModelName) -> store.StoredSpec:
    stored = store.find_spec(tx, tenant, model)
    if stored is None:
        raise NotFound(f"model {model} has no training specification: put one first")
    return stored


def _job(tx: Tx, id: str, tenant: TenantId | None = None) -> Job:
    job = store.find_job(tx, id, tenant)
    if job is None:
        raise NotFound(f"no job {id[:64]!r}")
    return job
