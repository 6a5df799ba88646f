"""One small search on digits, and what it must not do."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import parse
from cloud_hub.core.spec_sections.compress import CompressSpec
from cloud_hub.core.spec_sections.gate import GateSpec
from cloud_hub.pipeline import gate
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.compress.search import search, ways
from cloud_hub.pipeline.compress.searched import Searched
from cloud_hub.pipeline.int8 import PLAIN, Int8
from cloud_hub.pipeline.networks import parameters
from cloud_hub.pipeline.progress import SEARCHED, Stages
from cloud_hub.pipeline.task import Task
from tests.hub.pipeline.compress.conftest import Student
from tests.hub.pipeline.parts import SMALL_SPEC

TARGETS = ("onnx-int8",)
LOOSE = GateSpec(bound=0.0, max_drop=0.4, max_class_drop=1.0, min_speedup=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    searched: Searched
    task: Task
    folder: Path
    told: list[str]


@pytest.fixture(scope="session")
def found(student: Student, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    spec = replace(student.task.spec, targets=TARGETS, gate=LOOSE)
    folder = tmp_path_factory.mktemp("search")
    yield _search(student, tasks.make(spec), folder)


def _search(student: Student, task: Task, folder: Path) -> Found:
    told: list[str] = []
    stages = Stages(lambda stage, fraction, line, step=None: told.append(line), shares=SEARCHED)
    with stages.stage("compress"):
        searched = search(task, student.network, student.network, student.splits, folder, stages)
    return Found(searched=searched, task=task, folder=folder, told=told)


def test_it_tries_every_cut_and_ways_to_quantize_the_best(found: Found) -> None:
    table = found.searched.table
    assert [point.cut.ratio for point in table if point.how is None] == [0.0, 0.3, 0.6]
    assert [str(point.how) for point in table if point.how not in (None, PLAIN)] == [
        "minmax, first and last layer in float", "percentile", "minmax, signed activations",
    ]  # fmt: skip
    sizes = [point.cut.parameters for point in table if point.how == PLAIN]
    assert sizes[0] > 1.8 * sizes[1] > 1.8 * 2 * sizes[2]
    assert all(point.output_error < 0.1 and point.latency_p50_ms > 0 and point.cut.macs > 0 for point in table)


def test_what_it_picks_is_smaller_and_comes_with_its_network(found: Found) -> None:
    picked = [point for point in found.searched.marked() if point.picked]
    assert [point.artifact.target for point in picked] == ["onnx-int8"] and picked[0].on_front
    files = found.searched.candidates[0].artifacts
    assert [file.target for file in files] == ["onnx-fp32", "onnx-int8"] and files[1] is picked[0].artifact
    assert parameters(found.searched.candidates[0].network) == picked[0].cut.parameters
    report = found.searched.as_json(found.task, [])
    assert report is not None and report["picked"] == [picked[0].as_json(found.task.metric)]


def test_its_table_is_told(found: Found) -> None:
    head = next(number for number, line in enumerate(found.told) if line.startswith("cut  trained"))
    assert len(found.told) - head == 1 + len(found.searched.table)
    assert sum("picked" in line for line in found.told[head:]) == 1
    assert "" in found.told[:head], "what is cut tells its steps while it is trained again"


def test_what_breaks_the_gate_is_refused_with_its_numbers(found: Found) -> None:
    whole = found.searched.table[0]
    small = next(point for point in found.searched.table if point.cut.ratio == 0.6 and point.how == PLAIN)

    def refusal(**limits: float) -> str:
        spec = replace(found.task.spec, gate=replace(LOOSE, **limits))
        return gate.refusal(tasks.make(spec), small, whole.score)

    assert refusal() == ""
    assert refusal(max_size_bytes=2000) == f"{len(small.artifact.data)} bytes, gate.max_size_bytes is 2000"
    assert "a speed-up of" in (said := refusal(min_speedup=50.0)) and "gate.min_speedup is 50" in said
    assert "is above gate.max_output_error 1e-06" in refusal(max_output_error=1e-6)
    lost = replace(small, score=replace(whole.score, by_class={**whole.score.by_class, "3": 0.0}))
    counted = replace(whole.score, class_samples=dict.fromkeys(whole.score.by_class, 50))
    strict = tasks.make(replace(found.task.spec, gate=replace(LOOSE, max_class_drop=0.2)))
    assert gate.refusal(strict, lost, counted).startswith("'3' went from the network's")


def test_an_empty_budget_leaves_the_plain_student(student: Student, tmp_path: Path) -> None:
    spec = replace(student.task.spec, targets=TARGETS, compress=CompressSpec(search="full", budget_minutes=1e-9))
    late = _search(student, tasks.make(spec), tmp_path).searched
    assert [point.cut.ratio for point in late.table] == [0.0, 0.0]
    assert "compress.budget_minutes 1e-09 are over: not tried are cutting 30%" in late.notes[0]


def test_a_full_search_varies_everything_a_format_has() -> None:
    spec = CompressSpec(search="full", calibration=("minmax", "percentile", "entropy"))
    assert len(ways(spec, "onnx")) == 3 * 2 * 2 * 2 - 1 and PLAIN not in ways(spec, "onnx")
    assert all(not way.signed and way.calibration == "minmax" for way in ways(spec, "tflite"))


def test_tflite_has_one_way_to_calibrate(student: Student, tmp_path: Path) -> None:
    from cloud_hub.pipeline.to_tflite import quantized

    with pytest.raises(Invalid, match="TFLite is quantized by minmax"):
        quantized(student.splits, tmp_path, Int8(calibration="percentile"))


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("{search: some}", "'compress.search' must be one of off, small, full, got 'some'"),
        ("{prune: [1.0]}", "'compress.prune' must be shares in 0..0.9, got 1.0"),
        ("{prune: [0.3, 0.3]}", "'compress.prune' must be at most 8 shares, each once"),
        ("{objective: speed}", "'compress.objective' must be one of balanced, size, latency"),
        ("{calibration: []}", "'compress.calibration' must name at least one of"),
        ("{finetune_epoch: 3}", "unknown key 'compress.finetune_epoch'; did you mean 'finetune_epochs'"),
    ],
)
def test_a_wrong_section_is_named(section: str, problem: str) -> None:
    with pytest.raises(Invalid) as error:
        parse(f"{SMALL_SPEC}compress: {section}\n")
    assert problem in str(error.value)


def test_a_search_and_going_on_from_the_champion_exclude_each_other() -> None:
    with pytest.raises(Invalid, match="'compress.search' must be off with 'train.finetune'"):
        parse(SMALL_SPEC.replace("train: {", "train: {finetune: {mode: lora}, ") + "compress: {search: small}\n")


def test_nothing_is_searched_by_default() -> None:
    assert parse(SMALL_SPEC).compress.search == "off"
