"""A grid of cells becomes boxes."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent.infer.answers import answer
from edge_agent.infer.boxes import boxes_of
from protos.contract.outputs import NOTHING, Detection

GRID = Detection(classes=("car", "person"), rows=3, columns=4, stride=16)
Plain = tuple[int, float, tuple[float, ...]]  # label, score, left top right bottom


def cells(found: dict[tuple[int, int], tuple[float, float, float, float, float, float]]) -> NDArray[np.float32]:
    """Where nothing is said there is nothing."""
    grid = np.full((GRID.rows, GRID.columns, 6), -20.0, np.float32)
    for (row, column), said in found.items():
        grid[row, column] = said
    return grid.reshape(-1)


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, wide) * max(0.0, high)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def reference(outputs: NDArray[np.float32], output: Detection) -> list[Plain]:
    """Greedy suppression, one pair at a time."""
    found: list[Plain] = []
    for cell, said in enumerate(outputs.reshape(-1, 4 + len(output.classes)).astype(float)):
        middle = (cell % output.columns + 0.5, cell // output.columns + 0.5)
        low = [(middle[i] - max(0.0, said[i])) / size for i, size in enumerate((output.columns, output.rows))]
        high = [(middle[i] + max(0.0, said[2 + i])) / size for i, size in enumerate((output.columns, output.rows))]
        sides = tuple(min(1.0, max(0.0, side)) for side in (*low, *high))
        for label, logit in enumerate(said[4:]):
            score = 1 / (1 + math.exp(-max(-60.0, min(60.0, logit / output.temperature))))
            if score >= output.min_score and (sides[2] - sides[0]) * (sides[3] - sides[1]) > 0:
                found.append((label, score, sides))
    found.sort(key=lambda one: -one[1])
    kept: list[Plain] = []
    for one in found:
        if len(kept) < output.max_boxes and all(one[0] != k[0] or overlap(one[2], k[2]) <= output.max_overlap for k in kept):
            kept.append(one)
    return kept


@settings(max_examples=80)
@given(
    st.lists(st.floats(-4, 4, width=32), min_size=GRID.size, max_size=GRID.size),
    st.sampled_from([0.2, 0.5, 1.0]),
    st.integers(1, 5),
)
def test_it_is_greedy_suppression(figures: list[float], most: float, boxes: int) -> None:
    output = replace(GRID, max_overlap=most, max_boxes=boxes, temperature=2.0)
    given = np.array(figures, np.float32)
    found, best = boxes_of(given, output)
    wanted = reference(given, output)
    assert [(box.label, box.score) for box in found] == [(label, pytest.approx(score)) for label, score, _ in wanted]
    for box, (_, _, sides) in zip(found, wanted, strict=True):
        assert (box.left, box.top, box.right, box.bottom) == pytest.approx(sides)
    assert all(0 <= box.left < box.right <= 1 and 0 <= box.top < box.bottom <= 1 for box in found)
    assert all(box.score <= best + 1e-12 for box in found)


def test_the_sides_are_shares_of_the_picture() -> None:
    (box,), best = boxes_of(cells({(1, 2): (0.5, 0.5, 1.0, 1.0, 4.0, -9.0)}), GRID)
    assert (box.left, box.top, box.right, box.bottom) == pytest.approx((0.5, 1 / 3, 3.5 / 4, 2.5 / 3))
    assert box.label == 0 and box.score == best == pytest.approx(1 / (1 + math.exp(-4)))


def test_the_answer_is_that_of_the_best_box_and_counts_them() -> None:
    said = answer(cells({(0, 0): (1, 1, 1, 1, -9, 1.0), (2, 3): (1, 1, 1, 1, 3.0, -9)}), np.zeros(1, np.float32), GRID)
    assert (said.label, said.value, len(said.boxes)) == (0, 2.0, 2)
    assert said.confidence == said.boxes[0].score > said.boxes[1].score


def test_an_empty_picture_says_so_as_surely_as_it_can() -> None:
    said = answer(cells({(0, 0): (1, 1, 1, 1, -2.0, -9)}), np.zeros(1, np.float32), GRID)
    assert (GRID.labels[said.label], said.value, said.boxes) == (NOTHING, 0.0, ())
    assert said.confidence == pytest.approx(1 - 1 / (1 + math.exp(2)))


def test_a_box_without_an_area_is_none() -> None:
    assert boxes_of(cells({(0, 0): (0, 0, 0, 0, 9.0, 9.0), (1, 1): (-5, -5, -5, -5, 9.0, 9.0)}), GRID)[0] == ()


def test_a_model_that_sees_things_everywhere_does_not_hold_up_the_device() -> None:
    output = Detection(classes=("a",), rows=400, columns=500, stride=1, max_boxes=1000, max_overlap=1.0)
    outputs = np.tile(np.array([3e38, 1, 1, 1, 3e38], np.float32), 200_000)
    started = time.monotonic()
    found, _ = boxes_of(outputs, output)
    assert 1 <= len(found) <= 1000
    assert time.monotonic() - started < 5.0
