"""What a data set held when, of every kind of sample."""

from pathlib import Path

import numpy as np
import pytest

from cloud_hub.core.errors import BadArtifact, Invalid, NotFound
from cloud_hub.core.pages import Page
from cloud_hub.core.tasks import Annotation
from cloud_hub.services.dataset_versions import decode_manifest, encode_manifest
from cloud_hub.services.datasets import DatasetService, NewSample
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database
from protos.contract.inputs import SampleKind
from protos.contract.samples import Window, encode_row, encode_text, encode_window
from tests.hub.fleet_parts import ADMIN, STRANGER, Clock

WINDOW = encode_window(Window(channels=("x", "y"), values=np.arange(8, dtype=np.float32).reshape(4, 2)))
CONTENTS = {SampleKind.WINDOW: WINDOW, SampleKind.ROW: encode_row({"a": 1, "b": "x"}), SampleKind.TEXT: encode_text("hallo")}


@pytest.fixture
def datasets(db: Database, tmp_path: Path) -> DatasetService:
    service = DatasetService(db, ArtifactStore(tmp_path / "artifacts"), Clock())
    service.create(ADMIN, "mail", ("ham", "spam"), SampleKind.TEXT)
    return service


def add(datasets: DatasetService, *texts: str, label: str | None = "ham", **fields: str) -> None:
    items = [NewSample(dataset="mail", content=encode_text(text), label=label, name=text, **fields) for text in texts]  # type: ignore[arg-type]
    assert not datasets.import_samples(ADMIN, items).refused


def test_a_version_stays_as_it_was_whatever_becomes_of_the_data_set(datasets: DatasetService) -> None:
    add(datasets, "one", "two", source="phone")
    add(datasets, "unlabelled", label=None)
    first = datasets.versions.snapshot(ADMIN, "mail", "to begin with")
    assert (first.number, first.parent, first.samples, first.added) == (1, 0, 2, 2)
    add(datasets, "three", label="spam")
    samples, _ = datasets.list_samples(ADMIN, "mail", None, None, Page(size=9))
    datasets.label(ADMIN, [(samples[0].id, "spam")])
    second = datasets.versions.snapshot(ADMIN, "mail")
    assert (second.number, second.parent, second.samples) == (2, 1, 3)
    assert (second.added, second.removed, second.relabelled, second.moved) == (1, 0, 1, 0)
    assert [(s.name, s.label, s.source) for s in sorted(datasets.versions.samples_of(first), key=lambda s: s.name)] == [
        ("one", "ham", "phone"),
        ("two", "ham", "phone"),
    ]
    found = datasets.versions.changes(ADMIN, "mail", 1, 2)
    assert [(c.what, c.sample.name) for c in found.examples if c.what == "relabelled"] == [("relabelled", "one")]
    assert datasets.versions.changes(ADMIN, "mail", 2).examples == []


def test_the_same_content_is_the_same_version(datasets: DatasetService) -> None:
    add(datasets, "one")
    first = datasets.versions.snapshot(ADMIN, "mail")
    assert datasets.versions.freeze(ADMIN.tenant, "mail", by="job 7") == first
    [sample], _ = datasets.list_samples(ADMIN, "mail", None, None, Page())
    datasets.label(ADMIN, [(sample.id, "spam")])
    assert datasets.versions.snapshot(ADMIN, "mail").number == 2
    datasets.label(ADMIN, [(sample.id, "ham")])
    assert datasets.versions.snapshot(ADMIN, "mail") == first
    versions, following = datasets.versions.list(ADMIN, "mail", Page(size=1))
    assert [version.number for version in versions] == [2] and following
    assert [v.number for v in datasets.versions.list(ADMIN, "mail", Page(size=1, token=following))[0]] == [1]


def test_versions_are_their_tenants_own(datasets: DatasetService) -> None:
    add(datasets, "one")
    datasets.versions.snapshot(ADMIN, "mail")
    for ask in (
        lambda: datasets.versions.snapshot(STRANGER, "mail"),
        lambda: datasets.versions.list(STRANGER, "mail", Page()),
        lambda: datasets.versions.changes(STRANGER, "mail", 1),
        lambda: datasets.versions.manifest(STRANGER, "mail", 1),
    ):
        with pytest.raises(NotFound):
            ask()
    with pytest.raises(NotFound, match=r"no version 7: it has 1\.\.1"):
        datasets.versions.get(ADMIN.tenant, "mail", 7)


def test_a_list_that_is_damaged_is_no_list(datasets: DatasetService) -> None:
    add(datasets, "one", "two")
    version = datasets.versions.snapshot(ADMIN, "mail")
    holding, samples = datasets.versions.holding_of(version), list(datasets.versions.samples_of(version))
    data = encode_manifest(holding, samples)
    assert (decode_manifest(data)[0], list(decode_manifest(data)[1])) == (holding, samples)
    for damaged in (b"", data[:-9], b"x" + data[1:], encode_manifest(holding, samples)[:20]):
        with pytest.raises(BadArtifact):
            list(decode_manifest(damaged)[1])


@pytest.mark.parametrize("kind", CONTENTS)
def test_samples_of_every_kind_are_taken_kept_and_given_back(datasets: DatasetService, kind: SampleKind) -> None:
    datasets.create(ADMIN, "things", (), kind, Annotation.VALUES)
    good, bad = CONTENTS[kind], {SampleKind.WINDOW: WINDOW[:-1], SampleKind.ROW: b"[1]", SampleKind.TEXT: b"\xff"}[kind]
    items = [NewSample(dataset="things", content=data, label="3", name=str(i)) for i, data in enumerate((good, bad, b"", good))]
    report = datasets.import_samples(ADMIN, items)
    assert (report.added, report.duplicates, [name for name, _ in report.refused]) == (1, 1, ["1", "2"])
    [sample], _ = datasets.list_samples(ADMIN, "things", None, None, Page())
    assert datasets.get_sample(ADMIN, sample.id) == (sample, good) and sample.label == "3.0"
    [mail, things] = datasets.list(ADMIN)
    assert (things.kind, things.annotation) == (kind, Annotation.VALUES) and mail.kind is SampleKind.TEXT
    assert things.columns == {SampleKind.WINDOW: ("x", "y"), SampleKind.ROW: ("a", "b"), SampleKind.TEXT: ()}[kind]


def test_the_same_row_written_in_another_way_is_the_same_sample(datasets: DatasetService) -> None:
    datasets.create(ADMIN, "rows", ("a", "b"), SampleKind.ROW)
    ways = (b'{"a": 1, "b": 2}', b'{"b":2.0,"a":1}', b' {"a":1,"b":2,"c":null}')
    report = datasets.import_samples(ADMIN, [NewSample(dataset="rows", content=way) for way in ways])
    assert (report.added, report.duplicates) == (1, 2)


def test_a_column_must_have_a_name_that_can_be_shown(datasets: DatasetService) -> None:
    datasets.create(ADMIN, "rows", ("a", "b"), SampleKind.ROW)
    report = datasets.import_samples(ADMIN, [NewSample(dataset="rows", content=b'{"a\\u001b[2J": 1}', name="x")])
    assert [name for name, _ in report.refused] == ["x"]
    with pytest.raises(Invalid):
        datasets.versions.snapshot(ADMIN, "rows", "bad\nreason")
