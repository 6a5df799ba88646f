"""Columns and channels are read from the training split."""

import numpy as np
import pytest

from cloud_hub.core.errors import Invalid
from cloud_hub.pipeline.columns import fit_rows, fit_windows, spread
from edge_agent.infer.inputs import tensors_of
from protos.contract.inputs import MAX_COLUMNS, CategoryColumn, NumericColumn
from protos.contract.samples import Row, Window


def rows() -> list[Row]:
    made: list[Row] = [
        {"age": 20.0 + n % 10, "city": "abc"[n % 3], "same": 1.0, "gap": None if n % 4 else 2.0 * n} for n in range(200)
    ]
    return [{**row, "nothing": None} for row in made]


def test_each_column_is_taken_as_what_most_of_its_values_are() -> None:
    input, notes = fit_rows([*rows(), {"age": "2o", "city": "a", "same": 1.0}])
    age, city, gap = input.columns
    assert isinstance(age, NumericColumn) and age.indicator and age.mean == pytest.approx(24.5, abs=0.1)
    assert city == CategoryColumn(name="city", values=("a", "b", "c"))
    assert isinstance(gap, NumericColumn) and gap.indicator
    assert [note.partition(":")[0] for note in notes] == [
        "1 texts among the numbers, taken as missing",
        "sometimes missing",
        "mostly missing",
        "always missing, left out",
        "always the same, left out",
    ]
    assert tensors_of([dict(row) for row in rows()], input).std() > 0.1
    typing_error, missing = tensors_of([{"age": "2o", "city": "a"}, {"city": "a"}], input)  # also on the device
    assert np.array_equal(typing_error, missing)


def test_columns_that_each_row_has_anew_do_not_take_the_place_of_others() -> None:
    hostile: list[Row] = [{f"{i}-{j}": float(j) for j in range(500)} for i in range(10)]
    input, notes = fit_rows([*rows(), *hostile])
    assert {"age", "city"} <= {column.name for column in input.columns} and len(input.columns) <= MAX_COLUMNS
    assert any("columns are left out, more than" in note for note in notes)


def test_of_many_categories_the_most_frequent_are_kept() -> None:
    many: list[Row] = [{"id": f"n{n // 2 if n < 20 else n}"} for n in range(100)]
    input, notes = fit_rows(many, max_categories=10)
    assert input.shape == (1, 10) and "n3" in input.columns[0].values  # type: ignore[union-attr]
    assert "80.0% of what is there" in notes[0]


def test_a_table_that_says_nothing_is_refused() -> None:
    with pytest.raises(Invalid, match="no column says anything"):
        fit_rows([{"a": 1.0, "b": "x"}] * 10)
    with pytest.raises(Invalid):
        fit_rows([])
    with pytest.raises(Invalid):
        fit_windows([], 4)


def window(seed: int, *channels: str) -> Window:
    values = np.random.default_rng(seed).normal(size=(20, len(channels))).astype(np.float32)
    return Window(channels=channels, values=values)


def test_channels_that_change_and_that_every_window_has_are_taken() -> None:
    windows = [window(n, "x", "flat", "y", *(("rare",) if n else ())) for n in range(10)]
    for each in windows:
        each.values[:, 1] = 3.0
    windows[2].values[18, 0] = np.nan
    windows[3].values[19, 2] = 1e6
    input, notes = fit_windows(windows, 8)
    assert input.channels == ("x", "y") and input.steps == 8
    assert "in some windows only, left out: rare" in notes and "sometimes missing: x" in notes
    assert any(note.startswith("outliers") and "y (1)" in note for note in notes)
    assert fit_windows(windows, 8, ("y", "flat"))[0].channels == ("y", "flat")
    with pytest.raises(Invalid, match="'rare' is not in every window"):
        fit_windows(windows, 8, ("rare",))


def test_infinite_values_are_missing_and_break_nothing() -> None:
    facts = spread(np.array([1.0, 2.0, np.inf, -np.inf, 1e38, np.nan]))
    assert (facts.infinite, facts.missing, facts.mean) == (3, pytest.approx(4 / 6), 1.5)
    assert spread(np.array([np.nan])).constant and spread(np.zeros(0)).constant
