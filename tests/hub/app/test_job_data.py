"""A job trains on one version of its data set."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_hub.app import job_data
from cloud_hub.app.job_data import JobData
from cloud_hub.core.errors import Invalid, NotFound
from cloud_hub.core.spec import parse
from cloud_hub.services.datasets import DatasetService
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database
from protos.contract.inputs import SampleKind
from tests.hub.fleet_parts import ADMIN, Clock
from tests.hub.services.test_datasets import image, new

SPEC = "name: digits\ndata: {{dataset: numbers, version: {version}}}\n"
Opened = Callable[[int], JobData]


@pytest.fixture
def datasets(db: Database, tmp_path: Path) -> DatasetService:
    service = DatasetService(db, ArtifactStore(tmp_path / "artifacts"), Clock())
    service.create(ADMIN, "numbers", ("one", "two", "three"))
    service.import_samples(ADMIN, [new(1, label="one"), new(2, label="two"), new(3)])
    return service


@pytest.fixture
def opened(datasets: DatasetService, tmp_path: Path) -> Opened:
    artifacts = ArtifactStore(tmp_path / "artifacts")
    return lambda version: JobData(datasets.versions, artifacts, parse(SPEC.format(version=version)), ADMIN.tenant, "job 1")


def test_a_job_freezes_what_is_there_and_an_older_version_can_be_trained_on_again(
    datasets: DatasetService, opened: Opened
) -> None:
    first = opened(0)
    datasets.import_samples(ADMIN, [new(4, label="three")])
    second = opened(0)
    assert (first.version.number, second.version.number) == (1, 2)
    assert first.version.created_by == "job 1"
    again = opened(1)
    assert again.lineage() == first.lineage() and again.labels == ("one", "two", "three")
    assert {(s.name, s.label, s.origin, s.group) for s in again.samples()} == {
        ("1.png", "one", "import", "imported"),
        ("2.png", "two", "import", "imported"),
    }
    assert {sample.content for sample in second.samples()} == {image(1), image(2), image(4)}
    with pytest.raises(NotFound, match="no version 9"):
        opened(9)


def test_a_later_attempt_goes_on_with_the_data_of_the_first(datasets: DatasetService, opened: Opened, tmp_path: Path) -> None:
    spec = parse(SPEC.format(version=0))
    assert job_data.as_begun(spec, tmp_path) == spec
    job_data.begin(spec, opened(0).version, tmp_path)
    datasets.import_samples(ADMIN, [new(4, label="three")])
    assert job_data.as_begun(spec, tmp_path).data.version == 1
    other = parse("name: digits\ndata: {dataset: numbers}\ntrain: {lr: 0.01}\n")
    assert job_data.as_begun(other, tmp_path) == other, "a job that waits may be given another specification"


def test_a_data_set_of_another_kind_is_refused_before_anything_is_read(datasets: DatasetService, tmp_path: Path) -> None:
    datasets.create(ADMIN, "mails", ("ham", "spam"), SampleKind.TEXT)
    spec = parse("name: digits\ndata: {dataset: mails}\n")
    with pytest.raises(Invalid, match="holds samples of the kind text, the task image-classification needs image"):
        JobData(datasets.versions, ArtifactStore(tmp_path / "artifacts"), spec, ADMIN.tenant, "job 1")


def test_a_blob_that_is_gone_is_an_unreadable_sample_and_no_end(opened: Opened, tmp_path: Path) -> None:
    data = opened(0)
    lost = next(iter(data.samples()))
    ArtifactStore(tmp_path / "artifacts").remove(lost.digest)
    assert [sample.content for sample in data.samples() if sample.digest == lost.digest] == [b""]
