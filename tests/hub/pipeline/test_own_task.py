"""A task that is not ours, from a file that the hub's configuration names."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cloud_hub.core import config, tasks
from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import parse
from cloud_hub.pipeline import handover
from cloud_hub.pipeline.clean import RawSample
from cloud_hub.pipeline.retrain import Published, retrain
from cloud_hub.pipeline.task import make
from protos.contract import codec
from protos.contract.inputs import RowInput
from protos.contract.samples import encode_row
from tests.hub.pipeline.parts import sample

EXAMPLE = Path(__file__).resolve().parents[3] / "docs" / "examples" / "quadrant"
LABELS = ("north-east", "north-west", "south-west", "south-east")
SPEC = """
name: points
task: quadrant
data: {dataset: points, calibration: 64}
teacher: {epochs: 12}
student: {epochs: 20}
train: {lr: 0.02, batch_size: 16, label_smoothing: 0.0}
targets: [onnx-fp32, tflite-fp32]
"""


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    before = dict(tasks._known())
    yield
    tasks._known().clear()
    tasks._known().update(before)


def points(count: int) -> list[RawSample]:
    draw = np.random.default_rng(0)
    made = []
    for i in range(count):
        x, y = (float(value) for value in draw.normal(size=2))
        label = LABELS[(0 if x > 0 else 1) if y > 0 else (2 if x <= 0 else 3)]
        made.append(sample(encode_row({"x": x, "y": y}), label, source=f"s{i}", name=f"{i}.json"))
    return made


def test_a_task_from_a_file_is_trained_judged_and_packed_like_ours(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="'task' must be one of"):
        parse(SPEC)
    tasks.register([EXAMPLE / "declaration.py"])
    assert "quadrant" in tasks.names()
    result = retrain(parse(SPEC), LABELS, points(800), folder=tmp_path, reserve=lambda: 1)
    assert isinstance(result, Published), result.reason
    assert [variant.metric for variant in result.package.variants] == ["accuracy", "accuracy"]
    assert min(variant.score for variant in result.package.variants) >= 0.9
    manifest = codec.decode_manifest(result.package.blobs[result.package.variants[0].manifest_digest])
    assert manifest.task == "quadrant"
    assert isinstance(manifest.input, RowInput)


def test_a_process_that_trains_finds_the_task_of_its_job_by_itself(tmp_path: Path) -> None:
    tasks.register([EXAMPLE / "declaration.py"])
    task = make(parse(SPEC))
    splits = task.load(LABELS, points(200))
    handover.lay_out(task, splits, tmp_path)
    del tasks._known()["quadrant"]  # as in a process that has not read the hub's configuration
    made, given, _ = handover.taken(tmp_path)
    assert type(made) is type(task) and len(given.train) == len(splits.train)


def test_the_configuration_names_task_files(tmp_path: Path) -> None:
    (tmp_path / "hub.yaml").write_text(f"training: {{task_files: [{EXAMPLE / 'declaration.py'}]}}\n")
    tasks.register(config.load(tmp_path / "hub.yaml", {}).training.task_files)
    assert tasks.find("quadrant").metric.name == "accuracy"
    tasks.register(config.load(tmp_path / "hub.yaml", {}).training.task_files)  # the same file again is no conflict


def test_the_hub_reads_a_declaration_without_loading_torch() -> None:
    code = "import pathlib, sys; from cloud_hub.core import tasks; "
    code += "tasks.register([pathlib.Path(sys.argv[1])]); print(*sys.modules)"
    command = [sys.executable, "-c", code, str(EXAMPLE / "declaration.py")]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "cloud_hub.core.tasks" in loaded and "torch" not in loaded


def test_a_file_of_somebody_else_does_not_replace_a_task(tmp_path: Path) -> None:
    text = (EXAMPLE / "declaration.py").read_text().replace('name="quadrant"', 'name="image-classification"')
    (tmp_path / "declaration.py").write_text(text)
    with pytest.raises(Invalid, match="declares 'image-classification', which is there already"):
        tasks.register([tmp_path / "declaration.py"])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("missing.py", None, "FileNotFoundError"),
        ("none.py", "x = 1\n", "declares no task"),
        ("broken.py", "def\n", "SyntaxError"),
        ("raising.py", "1 / 0\n", "ZeroDivisionError"),
        ("task.txt", "x = 1\n", "is not a Python file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(Invalid, match=said) as caught:
        tasks.register([tmp_path / name])
    assert name in str(caught.value)


def test_code_that_everybody_may_write_is_not_run(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE / "declaration.py", tmp_path / "open.py")
    (tmp_path / "open.py").chmod(0o666)
    with pytest.raises(Invalid, match="chmod o-w"):
        tasks.register([tmp_path / "open.py"])
