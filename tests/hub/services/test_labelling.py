"""Who says what a sample is, what a teacher may say, and what turns out to be true later."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloud_hub.core.datasets import LabelOrigin
from cloud_hub.core.errors import Invalid, NotFound
from cloud_hub.core.model import Principal, Role, Sample
from cloud_hub.core.pages import Page
from cloud_hub.core.tasks import Annotation
from cloud_hub.services.captures import CapturedSample
from cloud_hub.services.datasets import DatasetService, NewSample
from cloud_hub.services.labelling import NewLabel, Truth
from cloud_hub.services.training import TrainingService
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database
from protos.contract import ids
from protos.contract.inputs import SampleKind
from protos.contract.samples import encode_row
from tests.hub.fleet_parts import ADMIN, STRANGER, Clock
from tests.hub.telemetry_parts import CAM, START, manifest, publish

DEVICE = Principal(role=Role.DEVICE, name=CAM)
TEACHER = {"origin": LabelOrigin.TEACHER, "teacher": "digits:3"}


@pytest.fixture
def datasets(db: Database, tmp_path: Path) -> DatasetService:
    service = DatasetService(db, ArtifactStore(tmp_path / "artifacts"), Clock())
    service.create(ADMIN, "loans", ("good", "bad"), SampleKind.ROW)
    return service


def add(datasets: DatasetService, *labels: str | None, split: str = "") -> list[Sample]:
    there = len(listed(datasets))
    items = [
        NewSample(dataset="loans", content=encode_row({"n": there + i}), label=label, split=split, name=f"row-{there + i}")
        for i, label in enumerate(labels)
    ]
    assert datasets.import_samples(ADMIN, items).added == len(items)
    return listed(datasets)[there:]


def listed(datasets: DatasetService, **only: object) -> list[Sample]:
    return datasets.list_samples(ADMIN, "loans", None, None, Page(size=1000), **only)[0]  # type: ignore[arg-type]


def test_every_label_says_who_gave_it_and_none_is_forgotten(datasets: DatasetService) -> None:
    [sample] = add(datasets, "good")
    assert (sample.origin, sample.labelled_by) == (LabelOrigin.IMPORT, ADMIN.name)
    datasets.label(ADMIN, [(sample.id, "bad")])
    datasets.labelling.label(ADMIN, [NewLabel(sample=sample.id, label="good")], LabelOrigin.TRUTH)
    told = [(event.label, event.origin.value) for event in datasets.labelling.history(ADMIN, sample.id)]
    assert told == [("good", "import"), ("bad", "human"), ("good", "truth")]
    with pytest.raises(NotFound):
        datasets.labelling.history(STRANGER, sample.id)


def test_a_teacher_labels_only_what_nobody_else_has_labelled_and_what_does_not_judge(datasets: DatasetService) -> None:
    known, free, unsure = add(datasets, "good", None, None)
    [held] = add(datasets, None, split="test")
    labels = [NewLabel(sample=s.id, label="bad", confidence=0.5 if s == unsure else 0.9) for s in (known, free, unsure, held)]
    assert datasets.labelling.label(ADMIN, labels, floor=0.8, **TEACHER) == (1, 1, 2)  # type: ignore[arg-type]
    now = {sample.id: sample for sample in listed(datasets)}
    assert [now[s.id].label for s in (known, free, unsure, held)] == ["good", "bad", None, None]
    taught = now[free.id]
    assert (taught.origin, taught.labelled_by, taught.label_confidence) == (LabelOrigin.TEACHER, "digits:3", pytest.approx(0.9))
    assert listed(datasets, origin=LabelOrigin.TEACHER) == [taught]


def test_a_person_who_agrees_with_a_teacher_makes_the_label_theirs(datasets: DatasetService) -> None:
    [sample] = add(datasets, None)
    datasets.labelling.label(ADMIN, [NewLabel(sample=sample.id, label="bad", confidence=0.9)], **TEACHER)  # type: ignore[arg-type]
    datasets.label(ADMIN, [(sample.id, "bad")])
    assert listed(datasets)[0].origin is LabelOrigin.HUMAN
    datasets.labelling.label(ADMIN, [NewLabel(sample=sample.id, label="good", confidence=1.0)], **TEACHER)  # type: ignore[arg-type]
    assert listed(datasets)[0].label == "bad"


def test_an_import_replaces_a_teachers_guess(datasets: DatasetService) -> None:
    [sample] = add(datasets, None)
    datasets.labelling.label(ADMIN, [NewLabel(sample=sample.id, label="bad", confidence=0.9)], **TEACHER)  # type: ignore[arg-type]
    report = datasets.import_samples(ADMIN, [NewSample(dataset="loans", content=encode_row({"n": 0.0}), label="good")])
    assert report.duplicates == 1 and listed(datasets)[0].label == "good"


@pytest.mark.parametrize("teacher", ["", "digits", "digits:0", "Digits:1", "digits:1\n"])
def test_a_teacher_is_a_version_of_a_model(datasets: DatasetService, teacher: str) -> None:
    with pytest.raises(Invalid, match="MODEL:VERSION"):
        datasets.labelling.label(ADMIN, [], LabelOrigin.TEACHER, teacher=teacher)
    with pytest.raises(Invalid):
        datasets.labelling.label(ADMIN, [NewLabel(sample="x", label="y", confidence=float("nan"))], **TEACHER)  # type: ignore[arg-type]


def captured(db: Database, datasets: DatasetService) -> list[Sample]:
    """Ten rows of a device, a second apart."""
    publish(db, 1)
    TrainingService(db, Clock()).put_spec(ADMIN, "name: digits\ndata: {dataset: loans}\n")
    for n in range(10):
        content = encode_row({"n": n})
        datasets.captures.upload(
            DEVICE,
            CapturedSample(
                digest=ids.digest_of(content),
                content=content,
                captured_at=START + timedelta(seconds=n),
                source="gate",
                name=f"frame-{n}",
                reason="uncertain",
                model_manifest=manifest("digits", 1),
                predicted="good",
                confidence=0.5,
                kind=SampleKind.ROW,
            ),
        )
    return listed(datasets)


def test_what_turns_out_later_finds_the_sample_it_is_about(db: Database, datasets: DatasetService) -> None:
    samples = captured(db, datasets)
    at = START + timedelta(seconds=3, milliseconds=400)
    truths = [
        Truth(label="bad", device=CAM, at=at),
        Truth(label="good", name="frame-5"),
        Truth(label="good", digest=samples[6].digest),
        Truth(label="bad", sample=samples[7].id, device=CAM),
        Truth(label="bad", device=CAM, at=START - timedelta(seconds=2)),
        Truth(label="late", name="frame-8"),
        Truth(label="bad", name="nobody"),
        Truth(label="bad"),
    ]
    done = datasets.labelling.join(ADMIN, "loans", truths, timedelta(seconds=1))
    assert (done.labelled, done.unchanged, len(done.unmatched)) == (4, 0, 4)
    labels = [sample.label for sample in listed(datasets)]
    assert labels == [None, None, None, "bad", None, "good", "good", "bad", None, None]
    assert {sample.origin for sample in listed(datasets) if sample.label} == {LabelOrigin.TRUTH}
    again = datasets.labelling.join(ADMIN, "loans", truths[:4], timedelta(seconds=1))
    assert (again.labelled, again.unchanged) == (4, 4)
    assert len(datasets.labelling.history(ADMIN, samples[3].id)) == 1


def test_a_time_at_the_end_of_the_calendar_is_a_truth_about_nothing(db: Database, datasets: DatasetService) -> None:
    captured(db, datasets)
    last = Truth(label="good", device=CAM, at=datetime(9999, 12, 31, 23, 59, tzinfo=UTC))
    [unmatched] = datasets.labelling.join(ADMIN, "loans", [last], timedelta(hours=1)).unmatched
    assert "later than any sample" in unmatched.reason


def test_of_two_truths_about_one_sample_the_nearer_one_holds(db: Database, datasets: DatasetService) -> None:
    captured(db, datasets)
    near, far = (START + timedelta(seconds=4, milliseconds=ms) for ms in (10, 300))
    for order in ((near, far), (far, near)):
        truths = [Truth(label="good" if at == near else "bad", device=CAM, at=at) for at in order]
        assert datasets.labelling.join(ADMIN, "loans", truths, timedelta(seconds=1)).labelled == 1
        assert listed(datasets)[4].label == "good"


def test_names_that_several_samples_have_name_none_of_them(datasets: DatasetService) -> None:
    for n in (1, 2):
        datasets.import_samples(ADMIN, [NewSample(dataset="loans", content=encode_row({"x": n}), name="same")])
    done = datasets.labelling.join(ADMIN, "loans", [Truth(label="bad", name="same")])
    assert done.labelled == 0 and "several samples" in done.unmatched[0].reason
    with pytest.raises(NotFound):
        datasets.labelling.join(STRANGER, "loans", [Truth(label="bad", name="same")])


def test_samples_without_labels_are_ready_as_they_come(datasets: DatasetService) -> None:
    datasets.create(ADMIN, "readings", (), SampleKind.ROW, Annotation.NONE)
    datasets.import_samples(ADMIN, [NewSample(dataset="readings", content=encode_row({"n": 1}))])
    refused = datasets.import_samples(ADMIN, [NewSample(dataset="readings", content=encode_row({"n": 2}), label="x")]).refused
    assert "has no labels" in refused[0].reason
    readings = next(each for each in datasets.list(ADMIN) if each.name == "readings")
    assert (readings.samples, readings.labelled, readings.columns) == (1, 1, ("n",))
