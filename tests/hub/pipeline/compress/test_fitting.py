"""Which boards a file is for."""

from dataclasses import replace

import numpy as np

from cloud_hub.pipeline import fitting
from cloud_hub.pipeline.task import Score
from cloud_hub.pipeline.verify import RuntimeCheck, Verified
from edge_agent.infer.golden import make
from edge_agent.infer.runtimes import load
from protos.contract.boards import Board
from tests.hub.pipeline.compress.conftest import Student

LARGE = Board(
    name="large",
    description="",
    architecture="x86_64",
    kind="camera",
    runtimes=("onnx", "tflite"),
    memory_mb=1024,
    storage_mb=1024,
    max_model_bytes=1 << 24,
)
SMALL = replace(LARGE, name="small", memory_mb=64, max_model_bytes=1 << 20)
OTHER = replace(LARGE, name="other", runtimes=("tflite-legacy",))
BOARDS = (LARGE, SMALL, OTHER)


def _item(student: Student, *, peak_mb: int) -> Verified:
    file, outputs = student.files["onnx-int8"], np.zeros((1, 10), np.float32)
    check = RuntimeCheck(value=0.9, best_value=0.9, samples=9, golden_error=0.0, peak_bytes=peak_mb << 20)
    return Verified(
        artifact=file,
        input=student.splits.input,
        score=Score(value=0.9, samples=9),
        outputs=outputs,
        val_outputs=outputs,
        output_error=0.0,
        golden=make(student.splits.test.contents[:1], load(file.format, file.data), student.splits.input),
        tolerance=0.1,
        latency_p50_ms=1.0,
        runtimes={"onnx": check},
    )


def test_a_file_that_every_board_can_take_is_bound_to_none(student: Student) -> None:
    item = _item(student, peak_mb=20)
    assert fitting.refusals(item, BOARDS) == {"large": "", "small": ""}  # the other one has no runtime for it
    assert fitting.names(item, BOARDS) == () and fitting.nowhere(item, BOARDS) == ""


def test_a_board_without_the_memory_is_left_out_with_the_numbers(student: Student) -> None:
    item = _item(student, peak_mb=40)
    assert fitting.names(item, BOARDS) == ("large",)
    assert fitting.refusals(item, BOARDS)["small"] == (
        f"{40 << 20} bytes of memory in onnx, more than {32 << 20}, the half of the board's"
    )


def test_a_file_that_fits_nowhere_says_why(student: Student) -> None:
    said = fitting.nowhere(_item(student, peak_mb=20), [replace(SMALL, max_model_bytes=100)])
    assert said.startswith("it fits no board: small: ") and said.endswith("bytes, more than the board's 100")
