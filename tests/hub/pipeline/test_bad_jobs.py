"""Data that nobody could train on, as a user meets it: a job that ends with the reason, and nothing that was half done."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import yaml

from cloud_hub.app import job_data
from cloud_hub.app.worker import OUT_OF_MEMORY, Worker
from cloud_hub.core import tasks
from cloud_hub.core.config import HubConfig
from cloud_hub.core.model import Job, JobState
from cloud_hub.core.spec import parse
from cloud_hub.services.datasets import DatasetService, NewSample
from cloud_hub.services.training import TrainingService
from protos.contract.ids import ModelName
from protos.contract.samples import Window, encode_row, encode_window
from tests.hub.fleet_parts import ADMIN, Hub
from tests.hub.pipeline.parts import noise

NAME = ModelName("bad")
LABELS = ("a", "b")
COUNT = 100  # as many as data.min_samples asks for


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    hub: Hub
    training: TrainingService

    def ends(self, task: str, contents: list[bytes], labels: list[str], **sections: object) -> Job:
        """A job over these samples, worked off in this process."""
        self.put(task, contents, labels)
        return self.work(task, **sections)

    def put(self, task: str, contents: list[bytes], labels: list[str]) -> None:
        declared = tasks.find(task)
        datasets = DatasetService(self.hub.db, self.hub.artifacts, self.hub.clock)
        named = LABELS if declared.annotation is tasks.Annotation.CLASS else ()
        datasets.create(ADMIN, NAME, named, kind=declared.kind, annotation=declared.annotation)
        new = [
            NewSample(dataset=NAME, content=each, label=label, source=f"s{i}", name=f"f{i}")
            for i, (each, label) in enumerate(zip(contents, labels, strict=True))
        ]
        report = datasets.import_samples(ADMIN, new)
        assert report.added == len(new), report.refused

    def work(self, task: str, **sections: object) -> Job:
        self.training.put_spec(ADMIN, yaml.safe_dump({"name": NAME, "task": task, "data": {"dataset": NAME}, **sections}))
        self.training.run(ADMIN, NAME)
        job = self.training.claim()
        assert job is not None
        folder = self.hub.folder / "work"
        folder.mkdir()
        Worker(HubConfig(data_dir=self.hub.folder), self.hub.db, job).run(folder)
        return self.training.job(job.id)

    def said(self, job: Job) -> str:
        return "\n".join(line.text for line in self.training.lines(job.id))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    hub = Hub(tmp_path)
    yield Bench(hub=hub, training=TrainingService(hub.db, hub.clock))
    hub.db.close()


def test_zero_rows(bench: Bench) -> None:
    _fails(bench, bench.ends("tabular-classification", [], []), "cannot be trained on", "0 samples given, 0 kept")


def test_one_class_only(bench: Bench) -> None:
    rows = [encode_row({"x": float(i)}) for i in range(COUNT)]
    _fails(bench, bench.ends("tabular-classification", rows, ["a"] * COUNT), "a classifier needs two classes or more")


def test_channels_that_are_always_the_same(bench: Bench) -> None:
    windows = []
    for i in range(COUNT):
        values = np.full((COUNT, 1), 7.0, np.float32)
        values[i, 0] = np.nan
        windows.append(encode_window(Window(channels=("x",), values=values)))
    job = bench.ends("window-classification", windows, _both())
    _fails(bench, job, "cannot be trained on: no channel says anything", "samples given")


def test_pictures_that_rot_in_the_store(bench: Bench) -> None:
    bench.put("image-classification", [noise(i) for i in range(COUNT)], _both())
    for path in sorted(path for path in (bench.hub.folder / "artifacts").rglob("*") if path.is_file())[:30]:
        path.write_bytes(bytes(path.stat().st_size))
    _fails(bench, bench.work("image-classification"), "70 usable samples", "30 left out: not a readable image (")


def test_labels_that_the_data_set_does_not_have_never_come_in(bench: Bench) -> None:
    with pytest.raises(AssertionError, match="zebra"):
        bench.put("image-classification", [noise(i) for i in range(3)], ["zebra"] * 3)
    _fails(bench, bench.work("image-classification"), "0 samples given, 0 kept")


def test_more_samples_than_the_job_has_memory_for(bench: Bench) -> None:
    pictures = [noise(i) for i in range(COUNT)]
    job = bench.ends(
        "image-classification", pictures, _both(), resources={"memory_mb": 1}, preprocess={"width": 64, "height": 64}
    )
    _fails(bench, job, "85 usable samples", "15 left out: more than data.max_bytes (1048576): the oldest (f")
    assert "with 1 MB of memory data.max_bytes is 1048576" in bench.said(job)


@pytest.mark.parametrize("words", ["", "[enforce fail at alloc_cpu.cpp:113] DefaultCPUAllocator: can't allocate memory"])
def test_memory_that_ends_in_the_middle_of_a_job(bench: Bench, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def retrain(*given: object, **named: object) -> NoReturn:
        raise RuntimeError(words) if words else MemoryError

    monkeypatch.setattr("cloud_hub.pipeline.retrain.retrain", retrain)
    bench.put("image-classification", [noise(0)], ["a"])
    _fails(bench, bench.work("image-classification"), OUT_OF_MEMORY, words)


def test_a_bug_is_no_verdict_on_the_data(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def retrain(*given: object, **named: object) -> NoReturn:
        raise RuntimeError("the index is out of range")

    monkeypatch.setattr("cloud_hub.pipeline.retrain.retrain", retrain)
    bench.put("image-classification", [noise(0)], ["a"])
    with pytest.raises(RuntimeError, match="out of range"):
        bench.work("image-classification")


@pytest.mark.parametrize(("memory_mb", "most"), [(1, 1 << 20), (1024, 128 << 20), (4096, 1 << 30), (64_000, 4 << 30)])
def test_a_job_holds_a_third_of_what_memory_its_programs_leave(memory_mb: int, most: int) -> None:
    assert job_data.within(parse("name: a\ndata: {dataset: a}\n"), memory_mb).data.max_bytes == most


def _both() -> list[str]:
    return [LABELS[i % 2] for i in range(COUNT)]


def _fails(bench: Bench, job: Job, *words: str) -> None:
    """With a reason that a user understands; no version, not even a number for one, and no network begun."""
    assert job.state is JobState.FAILED
    for word in words:
        assert word in job.reason
    assert not bench.hub.registry.models(ADMIN)
    assert bench.hub.registry.reserve(NAME) == 1
    assert {path.name for path in (bench.hub.folder / "work").iterdir()} == {"data.json"}
