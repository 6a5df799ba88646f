"""Which of a search's files are beaten by none, which are picked, and how the table reads."""

from dataclasses import replace
from typing import Any

import pytest

from cloud_hub.core.tasks import Metric
from cloud_hub.pipeline.compress.points import MOST_CHOICES, Cut, Point, choices, front, lines
from cloud_hub.pipeline.export import Artifact
from cloud_hub.pipeline.int8 import PLAIN, Int8
from cloud_hub.pipeline.task import Score
from protos.contract.inputs import Layout
from protos.contract.manifest import Format, Precision

ACCURACY, RMSE = Metric(name="accuracy"), Metric(name="rmse", higher_is_better=False)
WHOLE, HALF = (
    Cut(ratio=0.0, trained="", parameters=1000, macs=5000),
    Cut(ratio=0.5, trained="distilled", parameters=250, macs=0),
)


def point(
    cut: Cut = WHOLE, target: str = "onnx-int8", *, value: float = 0.9, size: int = 100, ms: float = 1.0, **more: Any
) -> Point:
    fields: dict[str, Any] = {"how": None if target.endswith("fp32") else PLAIN, "output_error": 0.02} | more
    artifact = Artifact(
        target=target,
        format=Format.ONNX if target.startswith("onnx") else Format.TFLITE,
        precision=Precision.INT8,
        layout=Layout.NCHW,
        data=bytes(size),
    )
    return Point(
        cut=cut,
        artifact=artifact,
        score=Score(value=value, samples=100),
        latency_p50_ms=ms,
        speedup=None,
        against_plain=(size / 400, ms / 2),
        **fields,
    )


def test_the_front_is_what_nothing_beats_in_everything() -> None:
    points = [
        point(value=0.95, size=400, ms=2.0),
        point(value=0.9, size=100, ms=1.0),
        point(value=0.9, size=120, ms=1.0),  # larger, and no better
        point(value=0.5, size=10, ms=0.1, refused="accuracy"),
        point(value=0.5, size=300, ms=3.0, target="tflite-int8"),  # alone in its format
    ]
    assert front(points, ACCURACY) == [True, True, False, False, True]
    assert front([point(value=2.0), point(value=1.0, size=90)], RMSE) == [False, True]


@pytest.mark.parametrize(("objective", "cut"), [("size", HALF), ("latency", WHOLE), ("balanced", HALF)])
def test_the_cheapest_by_the_objective_is_picked(objective: str, cut: Cut) -> None:
    points = [point(WHOLE, size=100, ms=1.0), point(HALF, size=30, ms=1.2)]
    assert [each.cut for each in choices(points, ["onnx-int8"], objective, ACCURACY)[0]] == [cut]


def test_a_network_that_serves_every_target_comes_first() -> None:
    points = [
        point(WHOLE), point(WHOLE, "tflite-int8"),
        point(HALF, size=10), point(HALF, "tflite-int8", size=10, refused="slower than fp32"),
    ]  # fmt: skip
    picked = choices(points, ["onnx-int8", "tflite-int8"], "size", ACCURACY)[0]
    assert [(each.cut, each.artifact.target) for each in picked] == [(WHOLE, "onnx-int8"), (WHOLE, "tflite-int8")]


def test_among_equals_the_better_one_is_picked() -> None:
    mixed = Int8(float_first=True)
    points = [point(size=100, value=0.9), point(size=102, value=0.93, how=mixed), point(size=180, value=0.99)]
    assert choices(points, ["onnx-int8"], "size", ACCURACY)[0][0].how == mixed
    assert choices([point(value=1.0), point(value=0.9, how=mixed)], ["onnx-int8"], "size", RMSE)[0][0].how == mixed


def test_where_the_gate_refuses_everything_the_student_itself_goes_to_it() -> None:
    points = [point(refused="a"), point(how=Int8(signed=True), refused="b"), point(HALF, refused="c")]
    assert choices(points, ["onnx-int8"], "size", ACCURACY) == [points[:1]]


def test_the_table_says_what_was_picked_and_what_was_refused() -> None:
    said = lines([point(picked=True, on_front=True), point(HALF, refused="10 bytes, gate.max_size_bytes is 5")], ACCURACY)
    assert said[0].split()[:3] == ["cut", "trained", "file"] and "accuracy" in said[0]
    assert said[1].endswith("picked, front") and said[2].endswith("refused: 10 bytes, gate.max_size_bytes is 5")
    assert point(HALF).as_json(RMSE)["smaller"] == 4.0


def test_behind_the_best_come_the_next_ones_and_the_student_last_and_few() -> None:
    cuts = [replace(HALF, ratio=ratio) for ratio in (0.2, 0.3, 0.5, 0.7)]
    points = [point(WHOLE, size=100), *(point(cut, size=90 - i * 20) for i, cut in enumerate(cuts))]
    found = choices(points, ["onnx-int8"], "size", ACCURACY)
    assert [chosen[0].cut.ratio for chosen in found] == [0.7, 0.5, 0.0] and len(found) == MOST_CHOICES
    points[-1] = replace(points[-1], refused="accuracy")
    points[0] = replace(points[0], refused="bytes")  # the student goes to the gate all the same, which says why not
    assert [chosen[0].cut.ratio for chosen in choices(points, ["onnx-int8"], "size", ACCURACY)] == [0.5, 0.3, 0.0]
    points[0] = replace(points[0], refused="", artifact=replace(points[0].artifact, data=b"1"), against_plain=(0.01, 0.5))
    assert [chosen[0].cut.ratio for chosen in choices(points, ["onnx-int8"], "size", ACCURACY)] == [0.0, 0.5, 0.3]
