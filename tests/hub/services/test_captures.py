"""What devices keep comes into the data set of their model, as an import of the same would."""

from pathlib import Path

import pytest

from cloud_hub.core.errors import Invalid, NotFound, NotReady
from cloud_hub.core.model import Principal, Role, Sample
from cloud_hub.core.pages import Page
from cloud_hub.services import captures
from cloud_hub.services import datasets as data_sets
from cloud_hub.services.captures import CapturedSample
from cloud_hub.services.datasets import DatasetService, NewSample
from cloud_hub.services.training import TrainingService
from cloud_hub.store import registry
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database
from edge_agent.infer.inputs import encode_content
from protos.contract import ids
from protos.contract.ids import DeviceId
from protos.contract.inputs import SampleKind
from tests.hub.fleet_parts import ADMIN, Clock
from tests.hub.services.test_datasets import image
from tests.hub.telemetry_parts import CAM, DIGITS, START, TENANT, manifest, publish

DEVICE = Principal(role=Role.DEVICE, name=CAM)


@pytest.fixture
def datasets(db: Database, tmp_path: Path) -> DatasetService:
    service = DatasetService(db, ArtifactStore(tmp_path / "artifacts"), Clock())
    service.create(ADMIN, "numbers", ("one", "two", "three"))
    service.create(ADMIN, "loans", ("good", "bad"), SampleKind.ROW)
    return service


def goes_to(db: Database, dataset: str) -> None:
    """Samples of the one model there is."""
    with db.read() as tx:
        published = registry.find_version(tx, TENANT, DIGITS, 1) is not None
    if not published:
        publish(db, 1)
    TrainingService(db, Clock()).put_spec(ADMIN, f"name: {DIGITS}\ndata: {{dataset: {dataset}}}\n")


def captured(number: int, **values: object) -> CapturedSample:
    data = image(number)
    fields: dict[str, object] = {
        "digest": ids.digest_of(data),
        "content": data,
        "captured_at": START,
        "source": "gate",
        "name": "",
        "reason": "uncertain",
        "model_manifest": manifest(DIGITS, 1),
        "predicted": "two",
        "confidence": 0.4,
        **values,
    }
    return CapturedSample(**fields)  # type: ignore[arg-type]


def row(content: bytes) -> CapturedSample:
    return captured(0, content=content, digest=ids.digest_of(content), kind=SampleKind.ROW, predicted="good")


def listed(datasets: DatasetService, device: DeviceId | None = None, dataset: str = "numbers") -> list[Sample]:
    return datasets.list_samples(ADMIN, dataset, None, device, Page())[0]


def test_a_device_hands_a_frame_over_once(db: Database, datasets: DatasetService) -> None:
    goes_to(db, "numbers")
    id, duplicate = datasets.captures.upload(DEVICE, captured(1))
    assert not duplicate
    assert datasets.captures.upload(DEVICE, captured(1)) == (id, True)
    sample, data = datasets.get_sample(ADMIN, id)
    assert (sample.dataset, sample.device, sample.reason, sample.predicted) == ("numbers", CAM, "uncertain", "two")
    assert (sample.confidence, sample.captured_at, sample.source, sample.label) == (0.4, START, "gate", None)
    assert data == image(1)
    assert listed(datasets, CAM) == [sample]
    assert listed(datasets, DeviceId("cam-9")) == []


def test_a_frame_that_is_not_what_its_digest_says_is_refused(db: Database, datasets: DatasetService) -> None:
    goes_to(db, "numbers")
    other = ids.digest_of(b"other")
    with pytest.raises(Invalid, match="digest"):
        datasets.captures.upload(DEVICE, captured(1, digest=other))
    with pytest.raises(Invalid, match=r"frame\.png: not a readable"):
        datasets.captures.upload(DEVICE, captured(1, name="frame.png", digest=ids.digest_of(b"junk"), content=b"junk"))
    with pytest.raises(Invalid, match="confidence"):
        datasets.captures.upload(DEVICE, captured(1, confidence=float("nan")))


def test_a_frame_with_nowhere_to_go_says_what_is_missing(db: Database, datasets: DatasetService) -> None:
    with pytest.raises(NotFound, match="no published model"):
        datasets.captures.upload(DEVICE, captured(1))
    publish(db, 1)
    with pytest.raises(NotReady, match="no training specification"):
        datasets.captures.upload(DEVICE, captured(1))
    goes_to(db, "letters")
    with pytest.raises(NotReady, match="'letters' of model digits does not exist"):
        datasets.captures.upload(DEVICE, captured(1))


def test_a_sample_says_which_model_answered(db: Database, datasets: DatasetService) -> None:
    goes_to(db, "numbers")
    id, _ = datasets.captures.upload(DEVICE, captured(1))
    assert datasets.get_sample(ADMIN, id)[0].manifest == manifest(DIGITS, 1)


def test_the_same_values_are_one_sample_however_a_device_writes_them(db: Database, datasets: DatasetService) -> None:
    goes_to(db, "loans")
    plain = encode_content({"age": 40.0, "purpose": "car"})
    spaced = b'{"purpose" : "car",\n "age": 4e1}'
    assert spaced != plain
    id, duplicate = datasets.captures.upload(DEVICE, row(spaced))
    assert not duplicate and datasets.captures.upload(DEVICE, row(plain)) == (id, True)
    assert datasets.import_samples(ADMIN, [NewSample(dataset="loans", content=spaced, label="good")]).duplicates == 1
    sample, content = datasets.get_sample(ADMIN, id)
    assert (content, sample.digest) == (plain, ids.digest_of(plain))


def test_a_device_cannot_fill_the_columns_that_are_noted(
    db: Database, datasets: DatasetService, caplog: pytest.LogCaptureFixture
) -> None:
    goes_to(db, "loans")
    many = captures.MAX_COLUMNS + 20
    wide = row(encode_content({f"x{n}": 1.0 for n in range(many)}))
    assert datasets.captures.upload(DEVICE, wide)[1] is False, "the sample is good"
    assert [record.left_out for record in caplog.records if record.message == "columns not noted"] == [20]  # type: ignore[attr-defined]
    content = encode_content({"age": 40.0, "x0": 2.0})
    datasets.import_samples(ADMIN, [NewSample(dataset="loans", content=content, label="good")])
    (loans,) = [one for one in datasets.list(ADMIN) if one.name == "loans"]
    assert "age" in loans.columns and len(loans.columns) == captures.MAX_COLUMNS + 1 < data_sets.MAX_COLUMNS
