"""Images come in, are labelled and paged through, over a real database and a real folder of blobs."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloud_hub.core import pages
from cloud_hub.core.errors import Conflict, Invalid, NotFound
from cloud_hub.core.model import Principal, Role
from cloud_hub.core.pages import Page
from cloud_hub.services.datasets import DatasetService, NewSample, Refused
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database
from protos.contract.ids import DeviceId, Digest
from tests.hub.fleet_parts import ADMIN, STRANGER, Clock
from tests.hub.telemetry_parts import CAM

DEVICE = Principal(role=Role.DEVICE, name=CAM)
SPEC = "name: digits\ndata: {dataset: numbers}\n"


def image(number: int, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (12, 10, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def datasets(db: Database, artifacts: ArtifactStore) -> DatasetService:
    service = DatasetService(db, artifacts, Clock())
    service.create(ADMIN, "numbers", ("one", "two", "three"))
    return service


def new(number: int, **values: object) -> NewSample:
    fields: dict[str, object] = {
        "dataset": "numbers",
        "content": image(number),
        "source": "s",
        "name": f"{number}.png",
        **values,
    }
    return NewSample(**fields)  # type: ignore[arg-type]


def listed(datasets: DatasetService, labelled: bool | None = None, device: DeviceId | None = None) -> list[str]:
    samples, _ = datasets.list_samples(ADMIN, "numbers", labelled, device, Page(size=1000))
    return [sample.name for sample in samples]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "PPM", "BMP"])
def test_an_imported_image_comes_back_byte_for_byte(datasets: DatasetService, kind: str) -> None:
    report = datasets.import_samples(ADMIN, [new(1, content=image(1, kind), label="two", split="val")])
    assert (report.added, report.duplicates, report.refused) == (1, 0, ())
    [sample], _ = datasets.list_samples(ADMIN, "numbers", None, None, Page())
    assert (sample.label, sample.source, sample.split, sample.name, sample.device) == ("two", "s", "val", "1.png", None)
    assert datasets.get_sample(ADMIN, sample.id) == (sample, image(1, kind))


def test_a_second_import_adds_nothing(datasets: DatasetService) -> None:
    items = [new(number) for number in range(100)]
    assert datasets.import_samples(ADMIN, [*items, items[0]]).added == 100
    again = datasets.import_samples(ADMIN, iter(items))
    assert (again.added, again.duplicates) == (0, 100)
    [dataset] = datasets.list(ADMIN)
    assert (dataset.samples, dataset.labelled, dataset.labels) == (100, 0, ("one", "two", "three"))


def test_what_cannot_be_taken_is_refused_by_name_and_reason_and_the_rest_is_taken(datasets: DatasetService) -> None:
    good = image(5)
    report = datasets.import_samples(
        ADMIN,
        [
            new(1, label="one"),
            new(2, content=good[: len(good) // 2], name="cut.png"),
            new(3, content=b"", name="empty.png"),
            new(4, content=b"GIF89a" + bytes(100), name="moving.gif"),
            new(5, label="four", name="label.png"),
            new(6, split="dev", name="split.png"),
            new(7, name="bad\nname"),
            new(8, label="three"),
        ],
    )
    assert report.added == 2
    reasons = dict(report.refused)
    assert list(reasons) == ["cut.png", "empty.png", "moving.gif", "split.png", "bad\nname", "label.png"]
    assert "damaged image" in reasons["cut.png"]
    assert reasons["empty.png"] == "empty file"
    assert "not a readable PNG, JPEG, PPM, BMP image" in reasons["moving.gif"]
    assert "unknown label 'four': data set numbers knows one, two, three" in reasons["label.png"]
    assert "'train'" in reasons["split.png"]
    assert listed(datasets) == ["1.png", "8.png"]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "PPM", "BMP"])
def test_damaged_images_are_refused_or_decode_and_never_raise(datasets: DatasetService, kind: str) -> None:
    good, rng = image(1, kind), np.random.default_rng(1)
    mutants = []
    for number in range(150):
        data = bytearray(good[: int(rng.integers(1, len(good) + 1))])
        for _ in range(int(rng.integers(0, 4))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        mutants.append(new(number, content=bytes(data)))
    report = datasets.import_samples(ADMIN, mutants)
    assert report.added + report.duplicates + len(report.refused) == 150


@pytest.mark.parametrize("side", [5001, 100_000])
def test_an_image_that_unpacks_to_more_than_memory_should_hold_is_refused(datasets: DatasetService, side: int) -> None:
    bomb = b"P6 %d %d 255\n" % (side, side) + bytes(1000)
    [refused] = datasets.import_samples(ADMIN, [new(1, content=bomb)]).refused
    assert "more than 25000000" in refused.reason


def test_an_import_gives_a_known_image_the_label_it_lacked_but_never_another_one(datasets: DatasetService) -> None:
    datasets.import_samples(ADMIN, [new(1)])
    assert datasets.import_samples(ADMIN, [new(1, label="one", split="test")]).duplicates == 1
    [sample], _ = datasets.list_samples(ADMIN, "numbers", True, None, Page())
    assert (sample.label, sample.split) == ("one", "test")
    report = datasets.import_samples(ADMIN, [new(1, label="two"), new(1, label="one", split="train")])
    assert report.refused == (
        Refused("1.png", "the same image is there as '1.png' with label 'one'"),
        Refused("1.png", "the same image is there as '1.png' in split 'test'"),
    )


def test_an_import_into_no_data_set_says_what_to_do(datasets: DatasetService) -> None:
    with pytest.raises(NotFound, match="create it first"):
        datasets.import_samples(ADMIN, [new(1, dataset="letters")])


@pytest.mark.parametrize(("name", "labels"), [("Bad Name", ("a", "b")), ("x", ("a",)), ("x", ("a", "a")), ("x", ("a", ""))])
def test_a_data_set_needs_a_name_and_labels(datasets: DatasetService, name: str, labels: tuple[str, ...]) -> None:
    with pytest.raises(Invalid):
        datasets.create(ADMIN, name, labels)


def test_a_data_set_is_made_once(datasets: DatasetService) -> None:
    with pytest.raises(Conflict, match="exists already"):
        datasets.create(ADMIN, "numbers", ("a", "b"))
    datasets.create(STRANGER, "numbers", ("a", "b"))
    assert [dataset.labels for dataset in datasets.list(STRANGER)] == [("a", "b")]


def test_pages_hold_every_sample_once(datasets: DatasetService) -> None:
    datasets.import_samples(ADMIN, [new(number) for number in range(7)])
    seen, token = [], ""
    for _ in range(4):
        samples, token = datasets.list_samples(ADMIN, "numbers", None, None, Page(size=3, token=token))
        seen += [sample.name for sample in samples]
        if not token:
            break
    assert seen == [f"{number}.png" for number in range(7)]
    for token in ("x", "-1", "9" * 30, "²"):
        with pytest.raises(Invalid, match="page token"):
            datasets.list_samples(ADMIN, "numbers", None, None, Page(size=3, token=token))


def test_labels_are_given_all_or_none(datasets: DatasetService) -> None:
    datasets.import_samples(ADMIN, [new(1), new(2)])
    samples, _ = datasets.list_samples(ADMIN, "numbers", None, None, Page())
    one, two = (sample.id for sample in samples)
    with pytest.raises(Invalid, match="unknown label 'ten': data set numbers knows one, two, three"):
        datasets.label(ADMIN, [(one, "one"), (two, "ten")])
    with pytest.raises(NotFound, match="no sample 'nope'"):
        datasets.label(ADMIN, [(one, "one"), ("nope", "two")])
    with pytest.raises(NotFound):
        datasets.label(STRANGER, [(one, "one")])
    assert listed(datasets, labelled=True) == []
    assert datasets.label(ADMIN, [(one, "one"), (two, "two")]) == 2
    assert listed(datasets, labelled=True) == ["1.png", "2.png"]
    assert listed(datasets, labelled=False) == []


def test_a_sample_row_always_has_its_image(datasets: DatasetService, artifacts: ArtifactStore) -> None:
    datasets.import_samples(ADMIN, [new(number) for number in range(3)])
    samples, _ = datasets.list_samples(ADMIN, "numbers", None, None, Page())
    assert [artifacts.read(sample.digest) for sample in samples] == [image(number) for number in range(3)]
    assert len({Digest(sample.digest) for sample in samples}) == 3


def test_labels_come_in_bounded_parts(datasets: DatasetService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_hub.services.labelling.MAX_LABELLED", 2)
    with pytest.raises(Invalid, match="more than 2"):
        datasets.label(ADMIN, [(str(number), "one") for number in range(3)])


def test_a_page_of_long_labels_is_shorter_than_was_asked_for() -> None:
    rows = [(number, "x" * 400) for number in range(7)]
    page = pages.within(rows, Page(size=6), len, 1000)
    first, token = pages.cut(rows, page)
    assert (len(first), token) == (2, "1")
    assert pages.within(rows[:1], Page(size=6), len, 10).size == 6
    assert pages.within(rows, Page(size=6), len, 10).size == 1
