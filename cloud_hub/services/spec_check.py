"""Does a data set fit a specification? A job would find out too, but when it has begun."""

from collections import Counter

from cloud_hub.core.model import Dataset, Principal, Sample
from cloud_hub.core.spec import TrainingSpec
from cloud_hub.core.tasks import Annotation
from cloud_hub.store import dataset_versions
from cloud_hub.store import datasets as store
from cloud_hub.store.database import Tx

LEAST_OF_CLASS = 3  # labelled samples: one to train, one to validate, one to test
_NAMED = 20  # classes in a message


def of_dataset(tx: Tx, who: Principal, spec: TrainingSpec) -> list[str]:
    """All that keeps a specification from being trained on the data set as it is now."""
    name, task = spec.data.dataset, spec.declared
    found = store.find(tx, who.tenant, name)
    if found is None:
        return [f"data set {name!r} does not exist: create it first"]
    problems = []
    if found.kind is not task.kind:
        problems.append(
            f"data set {name!r} holds samples of kind {_said(found.kind)}, task {spec.task} takes {_said(task.kind)}"
        )
    if found.annotation is not task.annotation and task.annotation is not Annotation.NONE:
        labelled = f"data set {name!r} is labelled with {_said(found.annotation)}"
        problems.append(f"{labelled}, task {spec.task} learns from {_said(task.annotation)}")
    if spec.data.version and dataset_versions.find(tx, who.tenant, name, spec.data.version) is None:
        problems.append(f"data set {name!r} has no version {spec.data.version}: leave data.version out for what it holds now")
    if not problems and not spec.data.version:
        problems += _of_samples(spec, found, store.labelled(tx, who.tenant, name))
    return problems


def _of_samples(spec: TrainingSpec, found: Dataset, samples: list[Sample]) -> list[str]:
    problems = []
    if len(samples) < spec.data.min_samples:
        problems.append(
            f"data set {found.name!r} has {len(samples)} labelled samples, data.min_samples is {spec.data.min_samples}"
        )
    if spec.declared.annotation is Annotation.CLASS:
        counts = Counter(sample.label for sample in samples)
        few = [f"{label!r} has {counts[label]}" for label in found.labels if counts[label] < LEAST_OF_CLASS]
        if few:
            more = f" and {len(few) - _NAMED} more" if len(few) > _NAMED else ""
            problems.append(f"{LEAST_OF_CLASS} labelled samples of each class are needed: {', '.join(few[:_NAMED])}{more}")
    if spec.data.split_by == "time" and (untimed := [sample for sample in samples if sample.captured_at is None]):
        names = ", ".join(sample.name or sample.id for sample in untimed[:_NAMED])
        problems.append(f"data.split_by is time, but {len(untimed)} samples do not say when they were captured: {names}")
    return problems


def _said(kind: object) -> str:
    return str(getattr(kind, "name", kind)).lower()
