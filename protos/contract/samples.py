"""Samples that are no pictures: as values, and as the bytes that devices send and data sets hold. The same value gives the same
bytes, so that a digest names what was seen."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protos.contract.errors import InvalidMessage, InvalidValue
from protos.contract.inputs import MAX_CATEGORIES, MAX_CHANNELS, MAX_COLUMNS, MAX_FEATURES

MAX_SAMPLE_BYTES = 4 << 20  # as datasets.proto promises
MAX_TEXT_CHARS = 65_536
_MAGIC = b"TLW1"
_MOST = 1e30  # of a number in a row
_MISSING = frozenset(("", "NA", "N/A", "NaN", "nan", "null", "NULL"))
_NUMBER = re.compile(r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", re.ASCII)
_CODE = re.compile(r"[0-9]{16,}", re.ASCII)

Cell = float | str | Sequence[str] | None  # a number, a category, several of them, or missing
Row = Mapping[str, Cell]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """Readings of several channels at equal times. NaN: missing."""

    channels: tuple[str, ...]
    values: NDArray[np.float32]  # (steps, channels)

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.dtype != np.float32 or self.values.shape[1] != len(self.channels):
            raise InvalidValue(f"a window of {len(self.channels)} channels cannot be {self.values.shape} {self.values.dtype}")
        if not 1 <= len(self.channels) <= MAX_CHANNELS or len(set(self.channels)) != len(self.channels):
            raise InvalidValue(f"channels must be 1..{MAX_CHANNELS} different names, got {len(self.channels)}")
        if not len(self.values) >= 1 or self.values.size > MAX_FEATURES:
            raise InvalidValue(f"a window holds 1..{MAX_FEATURES} values, got {self.values.size}")


def encode_window(window: Window) -> bytes:
    """``TLW1``, the length of a JSON list of channel names (4 bytes, little-endian), the list, then float32 little-endian.

    Raises InvalidValue.
    """
    names = json.dumps(list(window.channels), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return _bounded(_MAGIC + len(names).to_bytes(4, "little") + names + np.ascontiguousarray(window.values, "<f4").tobytes())


def decode_window(data: bytes) -> Window:
    """Raises InvalidMessage; infinity counts as missing."""
    if len(data) > MAX_SAMPLE_BYTES or data[:4] != _MAGIC or len(data) < 8:
        raise InvalidMessage("not a window of readings")
    end = 8 + int.from_bytes(data[4:8], "little")
    try:
        names = json.loads(data[8:end])
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names) or not names:
            raise InvalidMessage("a window's channels must be a list of names")
        "".join(names).encode()  # JSON may hold lone surrogates, UTF-8 does not
        values = np.frombuffer(data, "<f4", offset=end).reshape(-1, len(names)).astype(np.float32)
        values[np.isinf(values)] = np.nan
        return Window(channels=tuple(names), values=values)
    except (ValueError, RecursionError, InvalidValue) as error:  # what JSON, frombuffer and reshape raise
        raise InvalidMessage(f"not a window of readings: {error}") from error


def encode_row(row: Row) -> bytes:
    """JSON with sorted keys; missing values are left out. Raises InvalidValue."""
    cells = {name: cell for name, cell in row.items() if cell is not None and not _nan(cell)}
    text = json.dumps(checked_row(cells), sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _bounded(text.encode("utf-8", "replace"))


def decode_row(data: bytes) -> dict[str, Cell]:
    """Raises InvalidMessage."""
    if len(data) > MAX_SAMPLE_BYTES:
        raise InvalidMessage(f"a row of {len(data)} bytes, more than {MAX_SAMPLE_BYTES}")
    try:
        cells = json.loads(data)
        if not isinstance(cells, dict):
            raise InvalidMessage("a row must be a JSON object")
        row = checked_row(cells)
        if b"\\u" in data:
            json.dumps(row, ensure_ascii=False).encode()  # JSON may hold lone surrogates, UTF-8 does not
        return row
    except (ValueError, RecursionError, InvalidValue) as error:
        raise InvalidMessage(f"not a row: {error}") from error


def checked_row(cells: Mapping[str, object]) -> dict[str, Cell]:
    """Numbers as floats, lists as tuples. Raises InvalidValue naming the column."""
    if not 1 <= len(cells) <= MAX_COLUMNS:
        raise InvalidValue(f"a row has 1..{MAX_COLUMNS} columns, got {len(cells)}")
    row: dict[str, Cell] = {}
    for name, cell in cells.items():
        if isinstance(cell, bool):
            row[name] = float(cell)
        elif cell is None or isinstance(cell, str):
            row[name] = cell
        elif isinstance(cell, int | float) and abs(cell) < _MOST:  # neither NaN nor infinity is
            row[name] = float(cell)
        elif isinstance(cell, list | tuple) and len(cell) <= MAX_CATEGORIES and all(isinstance(each, str) for each in cell):
            row[name] = tuple(cell)
        else:
            raise InvalidValue(f"column {name!r} must hold a finite number, a text, a list of texts or nothing")
    return row


def named(code: float) -> str:
    """A category that is written as a number, as a text: 3.0 is "3"."""
    return str(int(code)) if code == int(code) else repr(code)


def cell_of(text: str) -> float | str | None:
    """What a cell of a CSV file holds: a number, nothing, or a text.

    Codes are no numbers: what begins with a needless 0, or is longer than a float can tell apart, stays a text.
    """
    text = text.strip()
    if text in _MISSING:
        return None
    if _NUMBER.fullmatch(text) and not _CODE.fullmatch(text):
        number = float(text)
        return number if abs(number) < _MOST else text
    return text


def encode_text(text: str) -> bytes:
    """Raises InvalidValue."""
    if len(text) > MAX_TEXT_CHARS:
        raise InvalidValue(f"a text of {len(text)} characters, more than {MAX_TEXT_CHARS}")
    return text.encode("utf-8", "replace")


def decode_text(data: bytes) -> str:
    """Raises InvalidMessage."""
    if len(data) > 4 * MAX_TEXT_CHARS:
        raise InvalidMessage(f"a text of {len(data)} bytes, more than {4 * MAX_TEXT_CHARS}")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidMessage(f"a text is not UTF-8: {error}") from error


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_SAMPLE_BYTES:
        raise InvalidValue(f"a sample of {len(data)} bytes, more than {MAX_SAMPLE_BYTES}")
    return data


def _nan(cell: Cell) -> bool:
    return isinstance(cell, float) and math.isnan(cell)
