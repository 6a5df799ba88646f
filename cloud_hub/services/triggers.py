"""When a model is due for training: its schedule, and the labels that no training has seen."""

from datetime import datetime
from functools import lru_cache

from cloud_hub.core import cron
from cloud_hub.core import spec as specs
from cloud_hub.core.spec import TrainingSpec
from cloud_hub.store import datasets as dataset_store
from cloud_hub.store import training as store
from cloud_hub.store.database import Tx


@lru_cache(maxsize=256)
def parsed(yaml: str) -> TrainingSpec:
    """Raises Invalid."""
    return specs.parse(yaml)


def due_slot(tx: Tx, stored: store.StoredSpec, spec: TrainingSpec, now: datetime) -> datetime | None:
    """The latest time the schedule was due and has not been seen to. Raises Invalid."""
    if not spec.triggers.cron:
        return None
    last = store.last_slot(tx, stored.tenant, stored.model)
    after = stored.updated_at if last is None else max(last, stored.updated_at)
    return cron.last_due(spec.triggers.cron, after=after, until=now)


def enough_labels(tx: Tx, stored: store.StoredSpec, spec: TrainingSpec) -> bool:
    """Whether there are labels enough that no training has seen."""
    wanted = spec.triggers.min_new_labels
    return wanted == 0 or labelled(tx, stored, spec, store.last_started(tx, stored.tenant, stored.model)) >= wanted


def labels_due(tx: Tx, stored: store.StoredSpec, spec: TrainingSpec) -> bool:
    """Counted from the last job however it ended: one that failed would fail again on the same data."""
    wanted = spec.triggers.on_labels
    return wanted > 0 and labelled(tx, stored, spec, store.last_created(tx, stored.tenant, stored.model)) >= wanted


def labelled(tx: Tx, stored: store.StoredSpec, spec: TrainingSpec, since: datetime | None) -> int:
    """Labels given after ``since``; all for None."""
    return dataset_store.labelled_since(tx, stored.tenant, spec.data.dataset, since)
