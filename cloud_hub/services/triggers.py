"""When a model is due for training, and the job that comes of it: its schedule, drift, labels that no training has seen."""

import logging
from datetime import datetime
from functools import lru_cache

from cloud_hub.core import cron
from cloud_hub.core import spec as specs
from cloud_hub.core.errors import Invalid
from cloud_hub.core.model import Job, ModelVersion
from cloud_hub.core.spec import TrainingSpec
from cloud_hub.services.gate_figures import proportion
from cloud_hub.services.registry import CHAMPION
from cloud_hub.store import datasets as dataset_store
from cloud_hub.store import episodes, field_answers, registry
from cloud_hub.store import training as store
from cloud_hub.store import training_triggers as waiting
from cloud_hub.store.database import Tx

log = logging.getLogger(__name__)

MANUAL, DRIFT, CRON, LABELS, METRIC = "manual", "drift", "cron", "labels", "metric"
MOST_ANSWERS = 1000  # the newest; older ones are of another season

_FIRST = {METRIC: 0, DRIFT: 1, CRON: 2}  # whose name a job carries that several asked for


@lru_cache(maxsize=256)
def parsed(yaml: str) -> TrainingSpec:
    """Raises Invalid."""
    return specs.parse(yaml)


def is_due(tx: Tx, stored: store.StoredSpec, now: datetime) -> bool:
    """Whether ``serve`` has anything to do."""
    try:
        spec = parsed(stored.yaml)
        if due_slot(tx, stored, spec, now) is not None:
            return True
    except Invalid as error:  # stored by an older hub; the other models go on
        log.warning("training spec cannot be used", extra={"model": stored.model, "reason": str(error)})
        return False
    if store.active_job(tx, stored.tenant, stored.model) is not None:
        return False
    asked = bool(waiting.pending(tx, stored.tenant, stored.model)) and enough_labels(tx, stored, spec)
    return asked or labels_due(tx, stored, spec) or bool(metric_due(tx, stored, spec))


def serve(tx: Tx, stored: store.StoredSpec, now: datetime, *, at: datetime) -> None:
    """All that may be due for one model, in one transaction: the slot is taken with the job it makes, or not at all.

    ``at``: the time that the job is made.
    """
    spec = parsed(stored.yaml)
    due = due_slot(tx, stored, spec, now)
    if due is not None and waiting.take_slot(tx, stored.tenant, stored.model, due):
        request(tx, stored, CRON, f"{spec.triggers.cron} due {due:%Y-%m-%d %H:%M} UTC", at)
    if store.active_job(tx, stored.tenant, stored.model) is not None or _queue_pending(tx, stored, spec, at):
        return
    if fell := metric_due(tx, stored, spec):
        request(tx, stored, METRIC, fell, at)
    elif labels_due(tx, stored, spec):
        fresh = labelled(tx, stored, spec, store.last_begun(tx, stored.tenant, stored.model))
        queue(tx, stored, LABELS, f"{fresh} new labels", at)


def request(tx: Tx, stored: store.StoredSpec, trigger: str, detail: str, at: datetime) -> str:
    """The id of the job made or joined; "": it waits for labels, or the specification does not want it. Raises Invalid."""
    spec = parsed(stored.yaml)
    if trigger == DRIFT and not spec.triggers.drift:
        return ""
    active = store.active_job(tx, stored.tenant, stored.model)
    if active is not None:
        return active.id
    waiting.put_pending(tx, stored.tenant, stored.model, trigger, detail, at)
    return _queue_pending(tx, stored, spec, at)


def queue(tx: Tx, stored: store.StoredSpec, trigger: str, detail: str, at: datetime) -> Job:
    """Make the job; every pending trigger and every open episode of the model is served by it."""
    job = store.add_job(tx, stored.tenant, stored.model, trigger=trigger, detail=detail, spec_yaml=stored.yaml, at=at)
    waiting.clear_pending(tx, stored.tenant, stored.model)
    episodes.join_job(tx, stored.tenant, stored.model, job.id)
    log.info("job queued", extra={"job": job.id, "model": job.model, "trigger": trigger, "detail": detail})
    return job


def _queue_pending(tx: Tx, stored: store.StoredSpec, spec: TrainingSpec, at: datetime) -> str:
    """The job that pending triggers make, if there are any and labels enough; nothing is active."""
    pending = waiting.pending(tx, stored.tenant, stored.model)
    if not pending or not enough_labels(tx, stored, spec):
        return ""
    first = min(pending, key=lambda one: _FIRST.get(one.trigger, len(_FIRST)))
    return queue(tx, stored, first.trigger, first.detail, at).id


def due_slot(tx: Tx, stored: store.StoredSpec, spec: TrainingSpec, now: datetime) -> datetime | None:
    """The latest time the schedule was due and has not been seen to. Raises Invalid."""
    if not spec.triggers.cron:
        return None
    last = waiting.last_slot(tx, stored.tenant, stored.model)
    after = stored.updated_at if last is None else max(last, stored.updated_at)
    return cron.last_due(spec.triggers.cron, after=after, until=now)


def enough_labels(tx: Tx, stored: store.StoredSpec, spec: TrainingSpec) -> bool:
    """Whether there are labels enough that no training has seen."""
    wanted = spec.triggers.min_new_labels
    return wanted == 0 or labelled(tx, stored, spec, store.last_started(tx, stored.tenant, stored.model)) >= wanted


def labels_due(tx: Tx, stored: store.StoredSpec, spec: TrainingSpec) -> bool:
    """Counted from the last job however it ended: one that failed would fail again on the same data."""
    wanted = spec.triggers.on_labels
    return wanted > 0 and labelled(tx, stored, spec, store.last_begun(tx, stored.tenant, stored.model)) >= wanted


def metric_due(tx: Tx, stored: store.StoredSpec, spec: TrainingSpec) -> str:
    """As ``metric_fell``; looked at only where a job would come of it that is not the newest one over again.

    However that ended, it has seen the same labels: it would end so again.
    """
    new = labelled(tx, stored, spec, store.last_begun(tx, stored.tenant, stored.model)) > 0
    return metric_fell(tx, stored, spec) if new and enough_labels(tx, stored, spec) else ""


def labelled(tx: Tx, stored: store.StoredSpec, spec: TrainingSpec, since: datetime | None) -> int:
    """Labels given after ``since``; all for None."""
    return dataset_store.labelled_since(tx, stored.tenant, spec.data.dataset, since)


def metric_fell(tx: Tx, stored: store.StoredSpec, spec: TrainingSpec) -> str:
    """By how much what the field says of the published version lies below what its test said; empty where that is not sure."""
    wanted = spec.triggers
    if wanted.metric_drop == 0:
        return ""
    number = registry.aliased(tx, stored.tenant, stored.model, CHAMPION)
    version = registry.find_version(tx, stored.tenant, stored.model, number) if number is not None else None
    scores = accuracies(version) if version is not None else []
    if version is None or not scores:
        return ""
    answered = [variant.manifest_digest for variant in version.variants]  # devices that are not there yet run an older one
    right, labelled = field_answers.control(tx, stored.tenant, spec.data.dataset, answered, MOST_ANSWERS)
    if labelled < wanted.metric_samples:
        return ""
    share = proportion(right, labelled, devices=1)
    if share.high >= max(scores) - wanted.metric_drop:
        return ""
    return f"accuracy {share.value:.3f} on {labelled} labelled control samples, version {version.version} had {max(scores):.3f}"


def accuracies(version: ModelVersion) -> list[float]:
    """Of its files, on the test split; tasks that are judged by another metric say it beside that one, or have none."""
    tested = version.report.get("test")
    beside = tested if isinstance(tested, dict) else {}
    found = [
        variant.score if variant.metric == "accuracy" else beside.get(variant.target, {}).get("accuracy")
        for variant in version.variants
    ]
    return [value for value in found if isinstance(value, float)]
