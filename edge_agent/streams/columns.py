"""Rows of any origins as columns, and groups of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.streams.rows import Column
from edge_agent.streams.spec import InvalidSpec

LIMIT = 2.0**32  # a number beyond it either way is as unusable as one that is not finite

Key = tuple[str | int, ...]
Times = int | NDArray[np.int64]  # in ms: one, or one of each row
Usable = tuple[NDArray[np.float64], NDArray[np.bool_] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Rows that count, each column ``(rows,)``."""

    at_ms: NDArray[np.int64]
    sequence: NDArray[np.int64]
    origin: NDArray[np.int64]  # index into origins
    origins: tuple[str, ...]  # ascending, so that the index orders as the text does
    key: NDArray[np.int64]  # index into keys
    keys: tuple[Key, ...]
    values: Mapping[str, NDArray[Any]]  # by field

    def __len__(self) -> int:
        return len(self.at_ms)

    def take(self, rows: NDArray[Any]) -> "Columns":
        """Those rows, by mask or index."""
        return Columns(
            at_ms=self.at_ms[rows],
            sequence=self.sequence[rows],
            origin=self.origin[rows],
            origins=self.origins,
            key=self.key[rows],
            keys=self.keys,
            values={name: column[rows] for name, column in self.values.items()},
        )


class Block:
    """Rows in groups that stand one behind the other, each in the order of (time, origin, sequence)."""

    def __init__(self, columns: Columns, group: NDArray[np.int64]) -> None:
        """``group``: ``(rows,)`` any numbers; there is at least one row."""
        if not _in_order(columns, group):
            order = np.lexsort((columns.sequence, columns.origin, columns.at_ms, group))
            columns, group = columns.take(order), group[order]
        breaks = np.flatnonzero(group[1:] != group[:-1]) + 1
        self.starts: NDArray[np.int64] = np.concatenate(([0], breaks))
        self.ends: NDArray[np.int64] = np.concatenate((breaks, [len(group)]))
        self.sizes: list[int] = (self.ends - self.starts).tolist()
        self.groups: list[int] = group[self.starts].tolist()
        self.columns = columns
        self._numbers: dict[str, Usable] = {}

    def __len__(self) -> int:
        return len(self.sizes)

    def numbers(self, field: str) -> Usable:
        """``(rows,)`` float64, and which of them are usable; None: all are. What is not usable reads as 0."""
        found = self._numbers.get(field)
        if found is None:
            values = np.asarray(self.columns.values[field], dtype=np.float64)
            usable = np.abs(values) <= LIMIT  # False for what is not a number
            found = (values, None) if bool(usable.all()) else (np.where(usable, values, 0.0), usable)
            self._numbers[field] = found
        return found

    def group_of_rows(self) -> NDArray[np.int64]:
        """``(rows,)`` position of each row's group."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def stamp(self, row: int) -> list[Any]:
        """(time, origin, sequence) of a row: no two rows have the same."""
        columns = self.columns
        return [int(columns.at_ms[row]), columns.origins[int(columns.origin[row])], int(columns.sequence[row])]


def joined(parts: Sequence[Columns]) -> Columns:
    """All rows of all parts; there is at least one part."""
    if len(parts) == 1:
        return parts[0]
    origins = tuple(sorted({origin for part in parts for origin in part.origins}))
    keys: dict[Key, int] = {}
    for part in parts:
        for key in part.keys:
            keys.setdefault(key, len(keys))
    return Columns(
        at_ms=np.concatenate([part.at_ms for part in parts]),
        sequence=np.concatenate([part.sequence for part in parts]),
        origin=np.concatenate([_recoded(part.origin, [origins.index(origin) for origin in part.origins]) for part in parts]),
        origins=origins,
        key=np.concatenate([_recoded(part.key, [keys[key] for key in part.keys]) for part in parts]),
        keys=tuple(keys),
        values={name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values},
    )


def _recoded(index: NDArray[np.int64], codes: list[int]) -> NDArray[np.int64]:
    return np.array(codes, dtype=np.int64)[index] if codes else index


def _in_order(columns: Columns, group: NDArray[np.int64]) -> bool:
    """Whether the rows stand in the order of a block already, told by what is cheap to see."""
    if len(columns.origins) > 1:
        return False
    return bool(
        (group[1:] == group[:-1]).all()
        and (columns.at_ms[1:] >= columns.at_ms[:-1]).all()
        and (columns.sequence[1:] > columns.sequence[:-1]).all()
    )


def columns_of(
    values: Mapping[str, Column],
    *,
    at_ms: NDArray[Any],
    sequence: NDArray[Any],
    origin: NDArray[np.int64],
    origins: tuple[str, ...],
    by: Sequence[str],
    fields: Iterable[str],
) -> Columns:
    """Rows that count, grouped ``by`` fields, with the ``fields`` that are folded; both stand in ``values``."""
    key, keys = _keys([values[name] for name in by], len(at_ms))
    return Columns(
        at_ms=np.asarray(at_ms, dtype=np.int64),
        sequence=np.asarray(sequence, dtype=np.int64),
        origin=origin,
        origins=origins,
        key=key,
        keys=keys,
        values={name: _whole(values[name], len(at_ms)) for name in fields},
    )


def picked(column: Column, rows: NDArray[Any]) -> Column:
    return column[rows] if isinstance(column, np.ndarray) else column


def column_of_all(columns: Sequence[Column], sizes: Sequence[int]) -> Column:
    """One column of all; a plain value where it is the same in all."""
    arrays = [column for column in columns if isinstance(column, np.ndarray)]
    if len(arrays) == len(columns):
        return np.concatenate(arrays)
    if not arrays and len(set(columns)) == 1:
        return columns[0]
    together: NDArray[Any] = np.concatenate([_whole(column, size) for column, size in zip(columns, sizes, strict=True)])
    return together


def _whole(column: Column, rows: int) -> NDArray[Any]:
    """As an array of one type whatever it came as: what is kept must not tell 32 bits from 64."""
    if not isinstance(column, np.ndarray):
        return np.full(rows, column, dtype=object if isinstance(column, str) else None)
    if column.dtype.kind == "f":
        return column.astype(np.float64)
    return column.astype(object) if column.dtype.kind == "U" else column


def _keys(columns: Sequence[Column], rows: int) -> tuple[NDArray[np.int64], tuple[Key, ...]]:
    """The number of each row's key, and the keys by number."""
    if not columns:
        return np.zeros(rows, dtype=np.int64), ((),)
    if not any(isinstance(column, np.ndarray) for column in columns):
        return np.zeros(rows, dtype=np.int64), (tuple(map(_key_value, columns)),)
    if len(columns) == 1 and isinstance(columns[0], np.ndarray) and columns[0].dtype.kind in "iu":
        found, inverse = np.unique(columns[0], return_inverse=True)
        return inverse.astype(np.int64, copy=False), tuple((value,) for value in found.tolist())
    lists = [column.tolist() if isinstance(column, np.ndarray) else [column] * rows for column in columns]
    numbers: dict[Key, int] = {}
    number = [numbers.setdefault(key, len(numbers)) for key in zip(*lists, strict=True)]
    return np.array(number, dtype=np.int64), tuple(tuple(map(_key_value, key)) for key in numbers)


def _key_value(value: Any) -> str | int:
    if isinstance(value, float):
        raise InvalidSpec(f"rows cannot be grouped by a field of broken numbers such as {value!r}")
    return int(value) if isinstance(value, bool) else value
