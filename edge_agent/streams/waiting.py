"""Rows kept as they came, because what they belong to is not known before the watermark has passed them."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.streams.columns import Columns, joined

MAX_ROWS = 10_000  # in one state


class Waiting:
    def __init__(self) -> None:
        self._parts: list[Columns] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, rows: Columns) -> None:
        if len(rows):
            self._parts.append(rows)
            self._count += len(rows)

    def rows(self) -> Columns | None:
        """All of them, in no order; None: there are none."""
        if len(self._parts) > 1:
            self._parts = [joined(self._parts)]
        return self._parts[0] if self._parts else None

    def take_before(self, at_ms: int) -> Columns | None:
        """Take out the rows from before; None: there are none."""
        rows = self.rows()
        if rows is None or not (before := rows.at_ms < at_ms).any():
            return None
        self._parts, self._count = [], 0
        self.add(_tidy(rows.take(~before)))
        return rows.take(before)

    def newest(self) -> int | None:
        return max((int(part.at_ms.max()) for part in self._parts), default=None)

    def dump(self) -> dict[str, Any] | None:
        rows = self.rows()
        if rows is None:
            return None
        rows = _tidy(rows)
        rows = rows.take(np.lexsort((rows.key, rows.sequence, rows.origin, rows.at_ms)))
        return {
            "at": rows.at_ms.tolist(),
            "sequence": rows.sequence.tolist(),
            "origin": rows.origin.tolist(),
            "origins": list(rows.origins),
            "key": rows.key.tolist(),
            "keys": [list(key) for key in rows.keys],
            "values": {name: list(map(_plain, column.tolist())) for name, column in sorted(rows.values.items())},
        }

    def load(self, state: dict[str, Any] | None) -> None:
        if state is None:
            return
        columns = (np.array(state[name], dtype=np.int64) for name in ("at", "sequence", "origin", "key"))
        at_ms, sequence, origin, key = columns
        self.add(
            Columns(
                at_ms=at_ms,
                sequence=sequence,
                origin=origin,
                origins=tuple(state["origins"]),
                key=key,
                keys=tuple(tuple(key) for key in state["keys"]),
                values={name: _column(values) for name, values in state["values"].items()},
            )
        )


def _tidy(rows: Columns) -> Columns:
    """The same rows without origins and keys that none of them has, those that are left in ascending order."""
    if not len(rows):
        return rows
    used = np.unique(rows.origin).tolist()
    keys = sorted((rows.keys[code], code) for code in np.unique(rows.key).tolist())
    return Columns(
        at_ms=rows.at_ms,
        sequence=rows.sequence,
        origin=np.searchsorted(used, rows.origin),
        origins=tuple(rows.origins[code] for code in used),
        key=_ranks(rows.key, [code for _, code in keys]),
        keys=tuple(key for key, _ in keys),
        values=rows.values,
    )


def _ranks(codes: NDArray[np.int64], order: list[int]) -> NDArray[np.int64]:
    rank = np.zeros(max(order) + 1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[codes]


def _plain(value: Any) -> Any:
    """JSON has no number that is not one."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _column(values: list[Any]) -> NDArray[Any]:
    if any(isinstance(value, str) for value in values):
        return np.array(values, dtype=object)
    if any(value is None or isinstance(value, float) for value in values):
        return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    return np.array(values)
