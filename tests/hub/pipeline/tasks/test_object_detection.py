"""Boxes in pictures: labels, cells, losses, the metric, and the way to a device. Scenes are composed from real digits."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import parse
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.retrain import Published
from cloud_hub.pipeline.tasks.object_detection.boxes import NONE, Unreadable, encode, overlap, read, stacked, write
from cloud_hub.pipeline.tasks.object_detection.loss import detection_distance, detection_loss
from cloud_hub.pipeline.tasks.object_detection.precision import average_precisions, match, mean_precision, overlaps
from cloud_hub.pipeline.tasks.object_detection.scenes import flipped, shifted
from edge_agent.core.model import Box
from edge_agent.infer.boxes import boxes_of
from protos.contract.outputs import NOTHING, Detection
from scripts.datasets import digit_scenes, raw, sign_scenes
from tests.hub.pipeline.tasks.trained import INT8, figure, fitted, on_device, on_test, published

LABELS = ("0", "1", "4")
COUNTS = {"train": 400, "val": 60, "test": 80}
SPEC = """
name: digits-in-scenes
task: object-detection
data: {dataset: digit_scenes, calibration: 64}
preprocess: {width: 64, height: 64, channels: 1, stride: 8, max_boxes: 6}
teacher: {width: 8, convs: 1, epochs: 8}
student: {width: 8, convs: 1, epochs: 9}
train: {batch_size: 16, lr: 0.008, label_smoothing: 0.0, augment: [brightness]}
gate: {bound: 0.3, min_speedup: 0}
"""
Pictures = list[tuple[list[Box], NDArray[np.float32]]]
GRID = Detection(classes=("a", "b"), rows=6, columns=8, stride=8)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Published:
    samples = digit_scenes.samples(counts=COUNTS, labels=LABELS)
    return published(parse(SPEC), LABELS, samples, tmp_path_factory.mktemp("scenes"))


# -- the way to a device --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", INT8)
def test_int8_finds_what_the_network_finds(made: Published, target: str) -> None:
    network = made.report["student"]["test"]["map50"]
    assert network > 0.4
    assert abs(figure(made, target, "map50") - network) < 0.04
    assert figure(made, target, "output_error") < 0.06


def test_boxes_are_as_tight_in_every_runtime(made: Published) -> None:
    task = tasks.make(parse(SPEC))
    splits = task.load(LABELS, digit_scenes.samples(counts=COUNTS, labels=LABELS))
    found = []
    for target, runtime in (("onnx-int8", "onnx"), ("tflite-int8", "tflite"), ("tflite-int8", "tflite-legacy")):
        model = on_device(made.package, target, runtime)
        said = [match(model.predict(frame).boxes, truth, 0.75) for frame, truth in zip(*_some(splits), strict=True)]
        found.append(mean_precision(said))
    assert max(found) - min(found) < 0.08
    labels = model.manifest.output.labels
    empty = model.predict(np.full((64, 64, 3), 30, np.uint8))
    assert labels[empty.label] == NOTHING and empty.confidence > 0.5 and empty.boxes == ()


def _some(splits: object) -> tuple[object, object]:
    return splits.test.contents[:40], splits.test.targets[:40]  # type: ignore[attr-defined]


def test_devices_keep_boxes_from_the_score_that_suits_the_validation_split(made: Published) -> None:
    output = on_device(made.package, "onnx-int8").manifest.output
    assert isinstance(output, Detection)
    assert 0.1 <= output.min_score <= 0.9 and output.classes == LABELS


# -- data -----------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_used_is_counted() -> None:
    good = list(digit_scenes.samples(counts={"train": 90, "val": 15, "test": 15}, labels=LABELS))
    box = {"label": "0", "box": [0.1, 0.1, 0.4, 0.4]}
    scenes = [each.content for each in digit_scenes.samples(counts={"test": 30, "train": 6}, labels=LABELS)][30:]
    bad = (
        "",
        "nonsense",
        json.dumps([{**box, "label": "9"}]),
        json.dumps([{**box, "box": [0.5, 0, 0.5, 1]}]),
        json.dumps([box] * 7),
    )
    odd = [raw(_other(content), label, name=f"odd-{i}") for i, (content, label) in enumerate(zip(scenes, bad, strict=False))]
    report = tasks.make(parse(SPEC)).load(LABELS, [*good, *odd]).report
    assert report.kept == len(good)
    assert set(report.dropped) == {
        "no label",
        "boxes are not JSON",
        "label '9' is not in the data set",
        "a box is empty, or outside its picture",
        "more than preprocess.max_boxes (6)",
    }


def _other(png: bytes) -> bytes:
    """The same picture turned, so that it is another one."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).transpose(Image.Transpose.ROTATE_90).save(buffer, "png")
    return buffer.getvalue()


def test_pictures_without_any_box_cannot_be_learned_from() -> None:
    empty = [replace(each, label="[]") for each in digit_scenes.samples(counts={"train": 100, "val": 10, "test": 10})]
    with pytest.raises(Invalid, match="no picture to train on has a box"):
        tasks.make(parse(SPEC)).load(LABELS, empty)


@pytest.mark.parametrize("change", ["width: 60", "stride: 5", "max_boxes: 0"])
def test_grids_that_cannot_be_are_refused(change: str) -> None:
    with pytest.raises(Invalid, match=r"preprocess\."):
        parse(f"name: a\ntask: object-detection\ndata: {{dataset: a}}\npreprocess: {{{change}}}\n")


@st.composite
def boxes(draw: st.DrawFn) -> NDArray[np.float32]:
    """``(n, 5)`` of GRID's classes, at least a cell and a half wide and high."""
    found = []
    for _ in range(draw(st.integers(0, 5))):
        width, height = draw(st.floats(0.2, 0.9)), draw(st.floats(0.26, 0.9))
        left, top = draw(st.floats(0, 1 - width)), draw(st.floats(0, 1 - height))
        found.append((draw(st.integers(0, 1)), left, top, left + width, top + height))
    return np.array(found, np.float32).reshape(-1, 5)


@given(boxes())
def test_boxes_are_read_as_they_were_written(given: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(read(write(given, ("a", "b")), ("a", "b")), given, atol=1e-5)


@pytest.mark.parametrize("label", ["{}", "[1]", '[{"label": "a"}]', '[{"label": "a", "box": [0, 0, 1, "1"]}]', "[" * 5000])
def test_labels_that_are_no_boxes_are_unreadable(label: str) -> None:
    with pytest.raises(Unreadable):
        read(label, ("a", "b"))


# -- cells ----------------------------------------------------------------------------------------------------------------


def _ideal(given: NDArray[np.float32], logit: float = 9.0) -> NDArray[np.float32]:
    """The outputs of a network that has learned it all."""
    sides, kinds = encode(torch.from_numpy(stacked([given], 6)), GRID)
    cells = np.full((GRID.rows * GRID.columns, 4 + len(GRID.classes)), -logit, np.float32)
    cells[:, :4] = sides[0].numpy()
    found = np.flatnonzero(kinds[0].numpy() >= 0)
    cells[found, 4 + kinds[0].numpy()[found]] = logit
    return cells


@given(boxes())
def test_a_device_decodes_the_boxes_that_were_encoded(given: NDArray[np.float32]) -> None:
    found, _ = boxes_of(_ideal(given).reshape(-1), GRID)
    for box in found:  # nothing that is not there
        same = given[given[:, 0] == box.label]
        assert overlaps(box, same).max() > 0.99
    if len(given) == 1:
        assert len(found) == 1


def test_boxes_apart_are_all_found() -> None:
    given = np.array(
        [[0, 0.02, 0.05, 0.3, 0.4], [1, 0.4, 0.1, 0.55, 0.45], [0, 0.6, 0.5, 0.98, 0.98], [1, 0.1, 0.6, 0.11, 0.62]]
    )
    found, _ = boxes_of(_ideal(given.astype(np.float32)).reshape(-1), GRID)
    assert len(found) == 4  # the last is smaller than a cell: it is found, if not told exactly


def test_of_boxes_over_each_other_the_smaller_gets_the_cell() -> None:
    given = stacked([np.array([[0, 0.0, 0.0, 1.0, 1.0], [1, 0.4, 0.3, 0.6, 0.7]], np.float32)], 4)
    _, kinds = encode(torch.from_numpy(given), GRID)
    assert kinds.reshape(GRID.rows, GRID.columns)[3, 4] == 1


def test_no_box_fills_no_cell() -> None:
    _, kinds = encode(torch.from_numpy(stacked([np.zeros((0, 5), np.float32)], 3)), GRID)
    assert (kinds == NONE).all()


# -- losses ---------------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.05, 5), min_size=8, max_size=8))
def test_overlap_of_sides_is_that_of_boxes(sides: list[float]) -> None:
    a, b = torch.tensor(sides[:4]), torch.tensor(sides[4:])
    left, top, right, bottom = (10 - a[0], 10 - a[1], 10 + a[2], 10 + a[3])
    box = Box(label=0, score=1.0, left=float(left), top=float(top), right=float(right), bottom=float(bottom))
    other = np.array([[0, 10 - b[0], 10 - b[1], 10 + b[2], 10 + b[3]]], np.float32)
    share, wide = overlap(a, b)
    assert float(share) == pytest.approx(overlaps(box, other)[0], abs=1e-4)
    assert float(wide) <= float(share) + 1e-6


@pytest.mark.parametrize("sides", ["giou", "l1"])
def test_the_loss_is_least_for_what_is_right(sides: str) -> None:
    given = np.array([[0, 0.1, 0.1, 0.5, 0.6], [1, 0.6, 0.3, 0.9, 0.9]], np.float32)
    right, truth = _ideal(given), torch.from_numpy(stacked([given], 6))
    wider, other = right.copy(), right.copy()
    wider[:, :4] += 1.0
    other[:, 4:] = other[:, [5, 4]]
    losses = [
        float(detection_loss(torch.from_numpy(each).reshape(1, -1), truth, GRID, sides=sides, smoothing=0.0))
        for each in (right, wider, other)
    ]
    assert losses[0] < 0.01 and losses[1] > 0.3 and losses[2] > 1
    nothing = torch.from_numpy(stacked([given[:0]], 6))
    assert np.isfinite(float(detection_loss(torch.from_numpy(right).reshape(1, -1), nothing, GRID, sides=sides, smoothing=0.0)))


def test_a_student_that_says_the_same_is_at_no_distance() -> None:
    outputs = torch.from_numpy(_ideal(np.array([[0, 0.1, 0.1, 0.5, 0.6]], np.float32))).reshape(1, -1)
    assert float(detection_distance(outputs, outputs, cells=48)) == pytest.approx(0, abs=1e-3)
    assert float(detection_distance(outputs * 0.5, outputs, cells=48)) > 0.1


# -- changes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [shifted, flipped])
def test_boxes_move_with_their_pictures(change: object) -> None:
    light = torch.zeros(16, 3, 64, 64)
    light[:, :, 20:36, 12:40] = 1.0
    given = torch.from_numpy(stacked([np.array([[1, 12 / 64, 20 / 64, 40 / 64, 36 / 64]], np.float32)] * 16, 3))
    new, moved = change(light, given, torch.Generator().manual_seed(1))  # type: ignore[operator]
    for picture, box in zip(new, moved, strict=True):
        y, x = np.nonzero(picture[0].numpy() > 0.5)
        seen = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) / 64
        assert box[0, 0] == 1
        np.testing.assert_allclose(box[0, 1:].numpy(), seen, atol=1.1 / 64)
        assert (box[1:, 0] == NONE).all()


def test_a_box_that_leaves_its_picture_is_gone() -> None:
    given = torch.from_numpy(stacked([np.array([[1, 0.0, 0.4, 0.06, 0.5]], np.float32)] * 64, 1))
    _, moved = shifted(torch.zeros(64, 3, 8, 8), given, torch.Generator().manual_seed(1))
    kinds = moved[:, 0, 0]
    assert (kinds == NONE).any() and (kinds == 1).any()
    assert ((moved[..., 1:] >= 0) & (moved[..., 1:] <= 1)).all()


# -- the metric -----------------------------------------------------------------------------------------------------------


def _box(label: int, score: float, left: float, top: float = 0.0) -> Box:
    return Box(label=label, score=score, left=left, top=top, right=left + 0.2, bottom=top + 0.2)


def _truth(*boxes: tuple[int, float]) -> NDArray[np.float32]:
    return np.array([(label, left, 0.0, left + 0.2, 0.2) for label, left in boxes], np.float32).reshape(-1, 5)


def test_precision_of_a_worked_example() -> None:
    """Three truths; scores 0.9 right, 0.8 wrong, 0.7 right: precision 1 up to a third of recall, 2/3 up to two thirds."""
    said = [match((_box(0, 0.9, 0.0), _box(0, 0.8, 0.7), _box(0, 0.7, 0.4)), _truth((0, 0.0), (0, 0.4), (0, 0.25)), 0.5)]
    assert average_precisions(said) == pytest.approx({0: 1 / 3 + 2 / 3 / 3})


def test_the_second_box_on_one_thing_is_wrong() -> None:
    said = match((_box(0, 0.9, 0.0), _box(0, 0.8, 0.01)), _truth((0, 0.0)), 0.5)
    assert said.right.tolist() == [True, False]


def test_a_box_of_another_class_is_wrong() -> None:
    assert mean_precision([match((_box(1, 0.9, 0.0),), _truth((0, 0.0)), 0.5)]) == 0.0


def test_classes_that_are_not_there_do_not_count() -> None:
    assert average_precisions([match((_box(1, 0.9, 0.5), _box(0, 0.8, 0.0)), _truth((0, 0.0)), 0.5)]) == {0: 1.0}
    assert mean_precision([match((), _truth(), 0.5)]) == 0.0


@st.composite
def answers(draw: st.DrawFn) -> Pictures:
    """Of pictures: boxes with scores of few levels, as int8 gives, and the truth."""
    places = st.sampled_from([0.0, 0.05, 0.25, 0.5, 0.7])
    pictures = []
    for _ in range(draw(st.integers(1, 5))):
        found = draw(st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.2, 0.5, 0.8]), places), max_size=5))
        truth = draw(st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.25, 0.5])), max_size=3, unique=True))
        pictures.append((sorted((_box(*each) for each in found), key=lambda box: -box.score), _truth(*truth)))
    return pictures


@given(answers(), st.randoms())
def test_the_metric_is_that_of_its_definition_in_any_order(
    pictures: list[tuple[list[Box], NDArray[np.float32]]], random: object
) -> None:
    said = [match(found, truth, 0.5) for found, truth in pictures]
    value = average_precisions(said)
    random.shuffle(said)
    assert average_precisions(said) == pytest.approx(value)
    for kind, area in value.items():
        truths = sum((each.truths == kind).sum() for each in said)
        points = []
        for least in (0.8, 0.5, 0.2):
            kept = [each.right[(each.label == kind) & (each.score >= least)] for each in said]
            count = sum(len(each) for each in kept)
            if count:
                hits = sum(each.sum() for each in kept)
                points.append((hits / truths, hits / count))
        expected, before = 0.0, 0.0
        for i, (recall, _) in enumerate(points):
            expected += (recall - before) * max(precision for _, precision in points[i:])
            before = recall
        assert area == pytest.approx(expected)


def test_a_bootstrap_sees_the_same_pictures_twice() -> None:
    task = tasks.make(parse(SPEC))
    splits = task.load(LABELS, digit_scenes.samples(counts={"train": 80, "val": 20, "test": 20}, labels=LABELS))
    outputs = np.random.default_rng(0).normal(size=(len(splits.test), 64 * 7)).astype(np.float32)
    empty = np.flatnonzero((splits.test.targets[..., 0] < 0).all(1))
    assert len(empty) and not task.comparable(splits.test.take(empty), splits.test)  # finding nothing there is no failure
    score = task.score(outputs, splits.test, splits)
    assert score.class_samples.keys() == score.by_class.keys()  # so that the gate looks at each
    assert sum(score.class_samples.values()) == score.details["boxes"]
    rows = np.array([0, 0, 3, 5, 5, 5])
    once = task.value(outputs[rows], splits.test.take(rows), splits)
    assert task.value(outputs[rows], splits.test.take(rows), splits) == once


def test_a_champion_is_asked_in_our_order_of_classes() -> None:
    task = tasks.make(parse(SPEC))
    splits = task.load(LABELS, digit_scenes.samples(counts={"train": 80, "val": 20, "test": 20}, labels=LABELS))
    ours = task.output(splits)
    theirs = replace(ours, classes=("4", "7", "0"))
    given = np.arange(64 * 7, dtype=np.float32).reshape(1, -1)
    turned = task.translated(given, theirs, splits).reshape(64, 7)
    assert turned[0].tolist() == [0, 1, 2, 3, 6, -100, 4]
    with pytest.raises(Invalid, match="another grid"):
        task.translated(given, replace(ours, rows=4, columns=16), splits)


@pytest.mark.data
@pytest.mark.slow
def test_signs_are_found_in_scenes(shared_data: Path, tmp_path: Path) -> None:
    text = (Path(__file__).parents[4] / "docs" / "examples" / "specs" / "signs-in-scenes.yaml").read_text()
    text = text.replace("convs: 1, epochs: 20", "convs: 1, epochs: 8")
    samples = sign_scenes.samples(shared_data, {"train": 1000, "val": 100, "test": 150})
    task, splits, network = fitted(text, sign_scenes.labels(shared_data), samples, tmp_path)
    assert task.value(on_test(task, splits, network), splits.test, splits) > 0.3
