"""A model over many samples, here and on a Ray cluster of two workers: the same answers, and none for what cannot be used."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cloud_hub.pipeline import scoring
from cloud_hub.pipeline.clean import RawSample
from edge_agent.infer.model import Model
from edge_agent.infer.runtimes import load
from protos.contract import codec
from protos.contract.ids import digest_of
from tests.agent import models
from tests.hub.pipeline.parts import noise

FILES = models.files()


def samples(count: int) -> list[RawSample]:
    images = [noise(seed) for seed in range(count)]
    images[3] = b"no picture"
    return [
        RawSample(id=f"id-{i}", digest=digest_of(each), content=each, label="", name=str(i)) for i, each in enumerate(images)
    ]


def test_each_sample_gets_what_a_device_would_say_of_it(tmp_path: Path) -> None:
    given = samples(40)
    assert scoring.export(given, tmp_path / "samples", rows_per_file=15) == 40
    assert len(list((tmp_path / "samples").iterdir())) == 3
    done = scoring.score(tmp_path / "samples", tmp_path / "scores.parquet", FILES.manifest_bytes, FILES.model)
    rows = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    assert (done.samples, done.problems, len(rows)) == (40, 1, 40)
    assert (rows[3]["label"], rows[3]["problem"]) == (None, "not a readable image")
    model = Model(codec.decode_manifest(FILES.manifest_bytes), load(FILES.manifest.format, FILES.model))
    for row, sample in zip(rows, given, strict=True):
        if row["problem"]:
            continue
        said = model.predict(scoring.pixels_of(sample.content))
        assert (row["id"], row["label"]) == (sample.id, FILES.manifest.output.labels[said.label])
        assert row["confidence"] == pytest.approx(said.confidence, abs=1e-6)


def test_an_export_holds_few_samples_at_once_however_large_they_are(tmp_path: Path) -> None:
    given = [replace(each, content=bytes(1000)) for each in samples(10)]
    assert scoring.export(given, tmp_path, bytes_per_file=3000) == 10
    assert [pq.read_metadata(each).num_rows for each in sorted(tmp_path.iterdir())] == [3, 3, 3, 1]


@pytest.mark.slow
def test_a_cluster_gives_the_same_scores(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    from cloud_hub.pipeline.cluster.score import score

    scoring.export(samples(60), tmp_path / "samples", rows_per_file=20)
    scoring.score(tmp_path / "samples", tmp_path / "here.parquet", FILES.manifest_bytes, FILES.model)
    score(tmp_path / "samples", tmp_path / "there.parquet", FILES.manifest_bytes, FILES.model, workers=2, address="")
    here, there = (
        sorted(pq.read_table(tmp_path / f"{name}.parquet").to_pylist(), key=lambda row: row["id"]) for name in ("here", "there")
    )
    assert [row["label"] for row in here] == [row["label"] for row in there]
    np.testing.assert_allclose([row["confidence"] or 0 for row in here], [row["confidence"] or 0 for row in there], atol=1e-6)
