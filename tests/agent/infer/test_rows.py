"""A row becomes what training made of it."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.errors import BadFrame
from edge_agent.infer.rows import RowEncoder
from protos.contract.inputs import CLIP, CategoryColumn, NumericColumn, RowInput
from protos.contract.samples import Cell, Row, named
from tests.protos import values

INPUT = RowInput(
    columns=(
        NumericColumn(name="age", mean=40.0, std=10.0),
        CategoryColumn(name="job", values=("clerk", "3", "driver")),
        NumericColumn(name="sum", mean=0.0, std=1.0, indicator=True),
    )
)


def tensor(row: dict[str, Any]) -> list[float]:
    return [round(each, 6) for each in RowEncoder(INPUT)(row)[0].tolist()]


def reference(row: Row, input: RowInput) -> list[float]:
    """As the contract says it, column by column."""
    out: list[float] = []
    for column in input.columns:
        cell = row.get(column.name)
        if isinstance(column, NumericColumn):
            there = cell is not None
            scaled = (float(cell) - column.mean) / column.std if isinstance(cell, int | float) else 0.0
            out += [max(-CLIP, min(CLIP, scaled)), *([0.0 if there else 1.0] if column.indicator else [])]
        else:
            words = {named(cell)} if isinstance(cell, int | float) else {cell} if isinstance(cell, str) else set(cell or ())
            hits = [value in words for value in column.values]
            out += [1 / math.sqrt(sum(hits)) if hit else 0.0 for hit in hits]
    return out


@st.composite
def pairs(draw: st.DrawFn) -> tuple[dict[str, Cell], RowInput]:
    input = draw(values.row_inputs())
    row: dict[str, Cell] = draw(values.rows)
    for column in input.columns:
        known: st.SearchStrategy[Any]
        if isinstance(column, NumericColumn):
            known = st.none() | values.numbers | st.integers(-(10**20), 10**20)
        else:
            word = st.sampled_from(column.values) | values.texts
            known = st.none() | word | st.lists(word, max_size=4) | values.numbers
        row[column.name] = draw(known)
    return row, input


@given(pairs())
def test_it_is_the_reference(pair: tuple[dict[str, Cell], RowInput]) -> None:
    row, input = pair
    made = RowEncoder(input)(row)
    assert made.shape == input.shape and made.dtype == np.float32
    np.testing.assert_allclose(made[0], reference(row, input), rtol=1e-6, atol=1e-6)


def test_numbers_are_scaled_and_categories_are_marked() -> None:
    assert tensor({"age": 50, "job": "driver", "sum": -2.0, "more": "x"}) == [1, 0, 0, 1, -2, 0]


def test_what_is_missing_is_0_and_told_where_training_wanted_it() -> None:
    assert tensor({}) == tensor({"age": None, "job": None, "sum": math.nan}) == [0, 0, 0, 0, 0, 1]


def test_several_categories_share_a_length_of_1_and_unknown_ones_are_none() -> None:
    assert tensor({"job": ("clerk", "clerk", "driver", "king"), "sum": 0.0})[1:4] == [0.707107, 0, 0.707107]
    assert tensor({"job": "king", "sum": 0.0})[1:4] == [0, 0, 0]


def test_codes_that_are_numbers_are_categories_too() -> None:
    assert tensor({"job": 3.0, "sum": 0})[1:4] == [0, 1, 0]
    codes = RowInput(columns=(CategoryColumn(name="id", values=("1234567", "12345678")),))
    assert RowEncoder(codes)({"id": 1234567.0})[0].tolist() == [1, 0]


def test_a_typing_error_drowns_nothing() -> None:
    assert tensor({"age": 1e29, "sum": -1e29}) == [CLIP, 0, 0, 0, -CLIP, 0]


@pytest.mark.parametrize("cell", ["old", "2o", ("1",), math.inf])
def test_what_is_no_number_is_missing_as_in_training(cell: Any) -> None:
    assert tensor({"age": cell, "job": "clerk", "sum": cell}) == tensor({"job": "clerk"}) == [0, 1, 0, 0, 0, 1]


@pytest.mark.parametrize("cell", [{}, [1], [["clerk"]], object()])
def test_what_is_no_category_is_named(cell: Any) -> None:
    with pytest.raises(BadFrame, match="'job' must hold a text"):
        RowEncoder(INPUT)({"job": cell})
