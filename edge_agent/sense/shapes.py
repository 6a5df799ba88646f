"""Lines of text -> what a model looks at: texts and rows. Windows are in ``series``."""

import csv
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from edge_agent.core.config import SourceConfig
from edge_agent.core.errors import BadFrame, SourceUnavailable
from edge_agent.core.model import Content
from edge_agent.sense.feeds import SOCKET, Line
from protos.contract import samples
from protos.contract.errors import ContractError
from protos.contract.inputs import MAX_COLUMNS
from protos.contract.samples import MAX_TEXT_CHARS, Cell, cell_of
from protos.contract.telemetry import MAX_TIME_MS, check_time, from_ms

JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
_MILLISECONDS_FROM = 1e11  # Unix times from here on are milliseconds: as seconds they were in the year 5138


class Shaped(NamedTuple):
    content: Content
    at: datetime | None  # None: the line does not say
    name: str  # empty: the place in the file is its name


class Shape(Protocol):
    def of(self, line: Line) -> Iterator[Shaped]:
        """What this line completes. Raises BadFrame for a line that cannot be used, SourceUnavailable for such a file."""


class Texts:
    """Every line that is not empty is a text."""

    def of(self, line: Line) -> Iterator[Shaped]:
        text = line.text.strip()
        if len(text) > MAX_TEXT_CHARS:
            raise BadFrame(f"a text of {len(text)} characters, more than {MAX_TEXT_CHARS}")
        if text:
            yield Shaped(text, None, "")


class Rows:
    """CSV with a header, a record in each line, or JSON objects. Empty lines, and a header that comes again, mean nothing."""

    def __init__(self, config: SourceConfig) -> None:
        self._time, self._name = config.time_column, config.name_column
        self._json = is_json(config)
        self.header: tuple[str, ...] = ()  # of a CSV file, once its first line came

    def of(self, line: Line) -> Iterator[Shaped]:
        if not line.text.strip():
            return
        if self._json:
            row = _object(line.text)
        else:
            cells = _cells(line.text)
            if line.first:
                self.header = _header(cells, (self._time, self._name))
            if len(cells) == len(self.header) + 1 and not cells[-1].strip():
                cells.pop()  # many a logger ends each record with a comma
            if tuple(cell.strip() for cell in cells) == self.header:
                return
            if len(cells) != len(self.header):
                raise BadFrame(f"{len(cells)} cells under {len(self.header)} columns")
            row = {name: cell_of(cell) for name, cell in zip(self.header, cells, strict=True)}
        at = time_of(row.get(self._time)) if self._time else None
        yield Shaped(row, at, _name_of(row.get(self._name)) if self._name else "")


def is_json(config: SourceConfig) -> bool:
    if config.format:
        return config.format == "jsonl"
    return config.path.startswith(SOCKET) or config.path.lower().endswith(JSON_ENDINGS)


def time_of(cell: Cell) -> datetime:
    """Unix seconds or milliseconds, or ISO 8601, which is UTC where it names no zone. Raises BadFrame."""
    try:
        if isinstance(cell, str):
            at = datetime.fromisoformat(cell)
            at = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).astimezone(UTC)
            check_time(at)
            return at
        if isinstance(cell, float | int):
            ms = cell if abs(cell) >= _MILLISECONDS_FROM else cell * 1e3
            if 0 <= ms < MAX_TIME_MS and math.isfinite(ms):
                return from_ms(int(ms))
    except (ContractError, ValueError, OverflowError) as error:
        raise BadFrame(f"{str(cell)[:40]!r} is no time") from error
    raise BadFrame(f"{str(cell)[:40]!r} is no time")


def _object(text: str) -> dict[str, Cell]:
    try:
        return samples.decode_row(text.encode("utf-8", "replace"))
    except ContractError as error:
        raise BadFrame(str(error)) from error


def _cells(text: str) -> list[str]:
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as error:
        raise BadFrame(f"no record of CSV: {error}") from error


def _header(cells: Sequence[str], needed: Sequence[str]) -> tuple[str, ...]:
    header = tuple(cell.strip() for cell in cells)
    if not header[-1]:
        header = header[:-1]
    if not header or not all(header) or len(set(header)) != len(header) or len(header) > MAX_COLUMNS:
        raise SourceUnavailable(f"the first line must name 1..{MAX_COLUMNS} different columns")
    if missing := [name for name in needed if name and name not in header]:
        raise SourceUnavailable(f"there is no column {missing[0]!r}")
    return header


def _name_of(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, float | int):
        return samples.named(cell)
    raise BadFrame("the row has no name")
