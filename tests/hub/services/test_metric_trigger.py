"""A job that is made because the field says that a model has become worse."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from cloud_hub.core.datasets import LabelOrigin
from cloud_hub.core.model import JobState, Sample
from cloud_hub.services import triggers
from cloud_hub.services.registry import CHAMPION
from cloud_hub.store import datasets, registry
from protos.contract.ids import DeviceId, digest_of
from tests.hub.fleet_parts import ADMIN
from tests.hub.services.test_training import Trainer, spec
from tests.hub.telemetry_parts import DIGITS, TENANT, manifest, publish

WATCHED = "name: digits\ndata: {dataset: numbers}\ntriggers: {metric_drop: 0.1, metric_samples: 50, min_new_labels: 5}\n"


@pytest.fixture
def trainer(tmp_path: Path, database_url: str) -> Iterator[Trainer]:
    made = Trainer(tmp_path, database_url)
    version = publish(made.db, 1)
    with made.db.write() as tx:
        registry.put_alias(tx, TENANT, DIGITS, CHAMPION, version.version)
    made.put(WATCHED)
    yield made
    made.db.close()


def best(trainer: Trainer) -> float:
    with trainer.db.read() as tx:
        version = registry.find_version(tx, TENANT, DIGITS, 1)
    assert version is not None
    return max(variant.score for variant in version.variants)


def labelled(
    trainer: Trainer,
    count: int,
    right: float,
    *,
    reason: str = "control",
    origin: LabelOrigin = LabelOrigin.HUMAN,
    version: int | None = 1,
) -> None:
    """Samples of the field, of which a version got a share right."""
    now = trainer.clock.now() + timedelta(hours=1)
    with trainer.db.write() as tx:
        for i in range(count):
            digest = digest_of(f"{reason} {origin} {right} {version} {i}".encode())
            sample = Sample(
                id=datasets.sample_id(TENANT, "numbers", digest),
                dataset="numbers",
                digest=digest,
                label="one",
                source="camera",
                split="",
                name=str(i),
                device=DeviceId("device-1"),
                reason=reason,
                predicted="one" if i < right * count else "two",
                confidence=0.9,
                captured_at=now,
                created_at=now,
                labelled_at=now,
                origin=origin,
                labelled_by="somebody",
                manifest=manifest(DIGITS, version) if version is not None else None,
            )
            datasets.add_sample(tx, TENANT, sample)


def test_accuracy_in_the_field_that_fell_makes_a_job_that_says_by_how_much(trainer: Trainer) -> None:
    labelled(trainer, 200, best(trainer) - 0.3)
    trainer.tick()
    (job,) = trainer.jobs()
    assert job.trigger == "metric"
    assert "200 labelled control samples" in job.trigger_detail and f"{best(trainer):.3f}" in job.trigger_detail


@pytest.mark.parametrize(
    ("count", "fall", "reason", "origin"),
    [
        (200, 0.05, "control", LabelOrigin.HUMAN),  # less than was asked for
        (40, 0.3, "control", LabelOrigin.HUMAN),  # too few
        (60, 0.15, "control", LabelOrigin.HUMAN),  # it may be chance
        (200, 0.5, "uncertain", LabelOrigin.HUMAN),  # kept because the model was unsure: no fair picture
        (200, 0.5, "control", LabelOrigin.TEACHER),  # a model's opinion is no truth
    ],
)
def test_what_does_not_show_that_makes_none(
    trainer: Trainer, count: int, fall: float, reason: str, origin: LabelOrigin
) -> None:
    labelled(trainer, count, best(trainer) - fall, reason=reason, origin=origin)
    trainer.tick()
    assert trainer.jobs() == []


def test_a_fall_that_was_trained_on_already_waits_for_new_labels(trainer: Trainer) -> None:
    labelled(trainer, 200, best(trainer) - 0.3)
    trainer.tick()
    trainer.clock.advance(2 * 3600)
    trainer.complete()
    trainer.tick()
    assert len(trainer.jobs()) == 1


@pytest.mark.parametrize("ends", ["failed", "cancelled", "rejected"])
def test_a_job_that_came_to_nothing_is_not_made_again_on_the_same_labels(trainer: Trainer, ends: str) -> None:
    trainer.put(WATCHED.replace("min_new_labels: 5", "min_new_labels: 0"))
    labelled(trainer, 200, best(trainer) - 0.3)
    trainer.clock.advance(2 * 3600)
    trainer.tick()
    (job,) = trainer.jobs()
    if ends == "cancelled":
        trainer.training.cancel(ADMIN, job.id)
    else:
        trainer.training.claim()
        trainer.training.finish(job.id, JobState.FAILED if ends == "failed" else JobState.REJECTED, "no")
    trainer.tick()
    assert len(trainer.jobs()) == 1


def test_answers_of_another_version_say_nothing_of_the_one_in_the_field(trainer: Trainer) -> None:
    """Devices that have not been updated yet answer with the version before, and that one is being replaced."""
    second = publish(trainer.db, 2)
    with trainer.db.write() as tx:
        registry.put_alias(tx, TENANT, DIGITS, CHAMPION, second.version)
    labelled(trainer, 200, best(trainer) - 0.5, version=1)
    labelled(trainer, 200, best(trainer) - 0.5, version=None)  # kept by an older hub: nobody knows who answered
    labelled(trainer, 60, best(trainer), version=2)
    trainer.tick()
    assert trainer.jobs() == []
    labelled(trainer, 200, best(trainer) - 0.3, version=2)
    trainer.tick()
    (job,) = trainer.jobs()
    assert "260 labelled control samples, version 2 had" in job.trigger_detail


def test_nobody_who_did_not_ask_is_bothered(trainer: Trainer) -> None:
    trainer.put(spec())
    labelled(trainer, 200, 0.1)
    trainer.tick()
    assert trainer.jobs() == []


def test_a_model_that_is_judged_by_another_metric_is_compared_by_the_accuracy_that_stands_beside_it(trainer: Trainer) -> None:
    with trainer.db.read() as tx:
        version = registry.find_version(tx, TENANT, DIGITS, 1)
    assert version is not None and triggers.accuracies(version) == [variant.score for variant in version.variants]
    (first, *_) = [replace(variant, metric="macro_f1") for variant in version.variants]
    other = replace(version, variants=(first,), report={"test": {first.target: {"macro_f1": 0.7, "accuracy": 0.9}}})
    assert triggers.accuracies(other) == [0.9]
    assert triggers.accuracies(replace(other, report={})) == []
