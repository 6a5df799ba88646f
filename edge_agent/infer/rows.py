"""Rows of a table -> tensors."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.errors import BadFrame
from protos.contract.inputs import CLIP, CategoryColumn, NumericColumn, RowInput
from protos.contract.samples import Cell, Row, named

_Numbers = tuple[str, int, float, float, int]  # name, feature, mean, std, feature of the indicator or -1
_Words = tuple[str, Mapping[str, int]]  # name, feature of each value


class RowEncoder:
    """``RowInput`` as code; made once per model, since a column may have tens of thousands of values."""

    def __init__(self, input: RowInput) -> None:
        self._shape = input.shape
        self._numbers: list[_Numbers] = []
        self._words: list[_Words] = []
        at = 0
        for column in input.columns:
            match column:
                case NumericColumn():
                    flag = at + 1 if column.indicator else -1
                    self._numbers.append((column.name, at, column.mean, column.std, flag))
                case CategoryColumn():
                    self._words.append((column.name, {value: at + i for i, value in enumerate(column.values)}))
            at += column.features

    def __call__(self, row: Row) -> NDArray[np.float32]:
        """``(1, features)``. What is no number where one is wanted is missing, here as in training: one typing error must not
        cost the whole row. Raises BadFrame where a category is no text, list of texts or number.
        """
        tensor = np.zeros(self._shape, np.float32)
        out = tensor[0]
        for name, at, mean, std, flag in self._numbers:
            cell = row.get(name)
            if isinstance(cell, float | int) and math.isfinite(cell):
                out[at] = min(CLIP, max(-CLIP, (cell - mean) / std))
            elif flag >= 0:
                out[flag] = 1.0
        for name, places in self._words:
            known = {place for word in _several(name, row.get(name)) if (place := places.get(word)) is not None}
            for at in known:
                out[at] = 1.0 / math.sqrt(len(known))
        return tensor


def _several(name: str, cell: Cell) -> Sequence[str]:
    if isinstance(cell, str):
        return (cell,)
    if cell is None:
        return ()
    if isinstance(cell, float | int):
        return (named(cell),) if math.isfinite(cell) else ()
    if isinstance(cell, list | tuple) and all(isinstance(word, str) for word in cell):
        return cell
    raise BadFrame(f"column {name!r} must hold a text or a list of texts, got {str(cell)[:40]!r}")
