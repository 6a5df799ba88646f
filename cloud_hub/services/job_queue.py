"""Which queued job a machine takes next, by what the jobs' own specifications ask for and how long such jobs took; and how one
that was started comes back into the queue."""

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cloud_hub.core import spec as specs
from cloud_hub.core.errors import Invalid
from cloud_hub.core.job_queue import PRIORITIES, Resources, Waiting, choose
from cloud_hub.core.model import Job, JobState
from cloud_hub.core.spec_sections.resources import ResourceSpec
from cloud_hub.services import triggers
from cloud_hub.store import training as store
from cloud_hub.store import trials
from cloud_hub.store.database import Tx

log = logging.getLogger(__name__)

MAX_LINES = 10_000  # kept of a job
MAX_LINE = 2000  # characters

_ANY = Resources(cpus=1 << 20, memory_mb=1 << 40, gpus=1 << 20)  # a machine that has whatever is asked for
_SAMPLE = 5  # earlier jobs of a model that tell how long the next one takes


def next_job(tx: Tx, machine: Resources | None, free: Resources | None, now: datetime) -> Job | None:
    """The queued job to start; one that this machine can never run says so in its reason."""
    machine, free = machine or _ANY, free or _ANY
    jobs = {job.id: (number, job) for number, job in store.queued(tx)}
    waiting = [
        Waiting(
            id=job.id,
            number=number,
            since=job.created_at,
            priority=PRIORITIES[_asked(job)[0].priority],
            wants=wants(job, machine),
            expected_s=store.expected_s(tx, job.tenant, job.model, _SAMPLE),
        )
        for number, job in jobs.values()
    ]
    chosen = choose(waiting, machine, free, now)
    return jobs[chosen.id][1] if chosen is not None else None


def wants(job: Job, machine: Resources) -> Resources:
    resources, processes = _asked(job)
    return resources.on(machine, processes)


def unfit(tx: Tx, machine: Resources) -> dict[str, str]:
    """Queued jobs that this machine can never run, and why."""
    lacking = {job.id: machine.lacks(wants(job, machine)) for _, job in store.queued(tx)}
    return {id: why for id, why in lacking.items() if why}


def with_resources(yaml: str, asked: Mapping[str, Any]) -> str:
    """The specification with other resources, by their keys: of this one job. Raises Invalid."""
    if not asked:
        return yaml
    spec = specs.changed(triggers.parsed(yaml), {f"resources.{key}": value for key, value in asked.items()})
    if "workers" in asked and spec.resources.executor != "ray":
        raise Invalid(f"'resources.workers' makes no difference: resources.executor is {spec.resources.executor}, not ray")
    return specs.dump(spec)


def again(tx: Tx, job: Job, why: str, most: int, at: datetime) -> None:
    """Its worker is gone: the job is queued again, or given up as FAILED where it was started ``most`` times."""
    if job.attempts >= most:
        text = f"given up after {job.attempts} attempts: {why}"
        store.set_job(tx, job.id, only=[JobState.RUNNING], state=int(JobState.FAILED), reason=text, ended_at=at)
        trials.forget(tx, job.id)
    else:
        text = f"attempt {job.attempts} of {most} ended: {why}"
        store.set_job(tx, job.id, only=[JobState.RUNNING], state=int(JobState.QUEUED), reason=text)
    note(tx, job.id, text, at)
    log.warning("job recovered", extra={"job": job.id, "model": job.model, "reason": text})


def released(tx: Tx, job: Job, at: datetime) -> None:
    """Its worker was stopped with the hub: the job is queued again, and that start does not count."""
    text = "the hub was stopped: the job goes on when it is started again"
    values = {"state": int(JobState.QUEUED), "attempts": job.attempts - 1, "reason": text}
    store.set_job(tx, job.id, only=[JobState.RUNNING], **values)
    note(tx, job.id, text, at)
    log.info("job released", extra={"job": job.id, "model": job.model})


def note(tx: Tx, job_id: str, line: str, at: datetime) -> None:
    """Into the job's log, as far as it has room."""
    store.add_line(tx, job_id, line[:MAX_LINE], at, MAX_LINES)


def _asked(job: Job) -> tuple[ResourceSpec, int]:
    """With the number of its processes."""
    try:
        spec = triggers.parsed(job.spec_yaml)
    except Invalid:  # stored by an older hub: the worker will say what is wrong with it
        return ResourceSpec(), 1
    return spec.resources, spec.train.processes if spec.resources.executor == "local" else 1
