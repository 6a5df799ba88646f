"""What a datasheet tells of samples of each kind, and what it does not hide."""

import io
import json
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from cloud_hub.core.datasets import Holding, VersionSample, source_of
from cloud_hub.core.errors import Invalid, NotFound
from cloud_hub.core.spec import DataSpec
from cloud_hub.core.tasks import Annotation
from cloud_hub.pipeline import datasheet
from cloud_hub.pipeline.datasheet import Sheet
from cloud_hub.pipeline.sheets.measures import category_distance, distance
from cloud_hub.pipeline.sheets.page import draw
from cloud_hub.pipeline.split import place
from protos.contract.ids import Digest, digest_of
from protos.contract.inputs import SampleKind
from protos.contract.samples import Window, encode_row, encode_text, encode_window

LABELS = ("cat", "dog")
EVIL = "<script>$x$"


def sheet(kind: SampleKind, contents: list[bytes], annotation: Annotation = Annotation.CLASS, **fields: str) -> Sheet:
    blobs = {digest_of(data): data for data in contents}

    def read(digest: Digest) -> bytes:
        if digest not in blobs:
            raise NotFound("gone")
        return blobs[digest]

    samples = [
        VersionSample(
            id=digest[-9:],
            digest=digest,
            label={Annotation.CLASS: LABELS[i % 2], Annotation.VALUES: str(float(i))}.get(annotation, ""),
            source=fields.get("source", f"s{i // 3}"),
            split="",
            name=EVIL,
            added_ms=1_700_000_000_000 + i * 3_600_000,
            origin="import",
        )
        for i, digest in enumerate(blobs)
    ]
    labels = (*LABELS, EVIL) if annotation is Annotation.CLASS else ()
    holding = Holding(name="things", kind=kind, annotation=annotation, labels=labels)
    samples.append(
        VersionSample(
            **{**{n: getattr(samples[0], n) for n in VersionSample.__slots__}, "id": "gone", "digest": digest_of(b"?")}
        )
    )
    made = datasheet.make(holding, sorted(samples, key=lambda sample: sample.digest), read)
    html = draw(made.facts, made.examples)
    assert "<script" not in html and not re.search(r"""(?:src|href)\s*=\s*["'](?!#|data:)""", html)
    assert json.loads(made.json())["samples"] == len(samples)
    return made


def pictures(count: int) -> list[bytes]:
    made = []
    for n in range(count):
        file = io.BytesIO()
        pixels = np.random.default_rng(n).integers(0, 256 if n < 100 else 60, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        made.append(file.getvalue())
    return made


def test_pictures_that_became_darker_have_drifted_and_a_lost_one_is_counted() -> None:
    facts = sheet(SampleKind.IMAGE, pictures(120)).facts
    assert facts["cleaning"]["dropped"] == {"not a readable image": 1}
    assert "brightness" in facts["drift"]["large"] and "no sample trains '<script>$x$'" in facts["notes"]
    assert facts["leaks"]["sources"] == 0 and sum(facts["counts"]["split"].values()) == 121


def test_a_cameras_takes_are_split_as_a_job_splits_them() -> None:
    blobs = {digest_of(data): data for data in (encode_text(f"frame {n}") for n in range(300))}
    start = 1_700_000_040_000  # a whole minute
    samples = [
        VersionSample(
            id=f"{i}",
            digest=digest,
            label=LABELS[i % 2],
            source="cam",
            split="",
            group="cam",
            at_ms=start + i * 6000,
            added_ms=1,
        )
        for i, digest in enumerate(blobs)
    ]
    holding = Holding(name="things", kind=SampleKind.TEXT, annotation=Annotation.CLASS, labels=LABELS)
    facts = datasheet.make(holding, samples, blobs.__getitem__).facts
    spec = DataSpec(dataset="things")
    wanted = Counter(place(source_of(sample, spec.take_s), spec) for sample in samples)
    assert facts["counts"]["split"] == wanted and len(wanted) == 3
    assert facts["leaks"]["sources"] == 0 and not any("one source" in note for note in facts["notes"])


def test_windows_that_share_readings_across_splits_leak() -> None:
    values = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    values[7, 1] = np.nan
    channels = ("x", "y", "z")
    apart = [encode_window(Window(channels=channels, values=values[i : i + 8])) for i in range(0, 392, 8)]
    over = [encode_window(Window(channels=channels, values=values[i : i + 8])) for i in range(0, 392, 4)]
    assert sheet(SampleKind.WINDOW, apart, Annotation.NONE).facts["leaks"]["alike"] == 0
    facts = sheet(SampleKind.WINDOW, over, Annotation.NONE).facts
    assert facts["leaks"]["alike"] > 5 and 0 < facts["columns"]["y"]["missing"] < 0.01


def test_rows_show_numbers_categories_and_gaps() -> None:
    rows = [encode_row({"n": n + (1e6 if n == 5 else 0), "c": "ab"[n % 2], **({"gap": n} if n % 2 else {})}) for n in range(80)]
    columns = sheet(SampleKind.ROW, rows, Annotation.VALUES).facts["columns"]
    assert columns["n"]["outliers"] == 1 and columns["gap"]["missing"] == pytest.approx(0.5)
    assert columns["c"]["top"] == {"a": 40, "b": 40}


def test_texts_are_shown_as_what_they_are() -> None:
    facts = sheet(SampleKind.TEXT, [encode_text(f"{EVIL} {n} " * (1 + n % 5)) for n in range(60)]).facts
    assert facts["columns"]["words"]["quantiles"]["most"] == 10.0


def test_what_cannot_be_split_is_reported_all_the_same_and_nothing_is_refused() -> None:
    facts = sheet(SampleKind.TEXT, [encode_text("one")]).facts
    assert any("cannot be split" in note for note in facts["notes"])
    with pytest.raises(Invalid, match="nothing to report"):
        datasheet.make(Holding(name="x", kind=SampleKind.TEXT, annotation=Annotation.CLASS, labels=LABELS), [], lambda _: b"")


def test_the_index_is_zero_for_the_same_and_grows_with_the_difference() -> None:
    rng = np.random.default_rng(0)
    same, other, far = rng.normal(size=5000), rng.normal(size=5000), rng.normal(2, 1, 5000)
    assert distance(same, other) < 0.02 < 0.25 < distance(same, far)
    assert np.isnan(distance(same, far[:3]))
    assert (
        category_distance({"a": 50, "b": 50}, {"a": 5, "b": 95})
        > 0.25
        > category_distance({"a": 50, "b": 50}, {"a": 49, "b": 51})
    )
