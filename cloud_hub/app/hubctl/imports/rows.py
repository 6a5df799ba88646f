"""Rows of tables -> samples, each column of numbers or of categories throughout."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cloud_hub.app.hubctl.failure import refused
from cloud_hub.app.hubctl.imports.piece import SPLITS, Piece, Refusals
from cloud_hub.app.hubctl.imports.table import MISSING, Line, Table
from cloud_hub.app.hubctl.imports.times import Clock, to_ms
from protos.contract.errors import InvalidValue
from protos.contract.samples import Cell, cell_of, encode_row, encode_text, named

_NUMBERS = 0.99  # of the cells that are there: a column with a few typing errors is still one of numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class RowColumns:
    """Which column says what; what is named nowhere is content."""

    label: tuple[str, ...] = ()  # several: a list of numbers
    source: tuple[str, ...] = ()  # joined by '/'; none: each row is its own
    split: str = ""
    time: str = ""
    name: str = ""
    drop: tuple[str, ...] = ()
    text: str = ""  # of tables of texts

    @property
    def named(self) -> tuple[str, ...]:
        return (
            *self.label,
            *self.source,
            *(name for name in (self.split, self.time, self.name, self.text) if name),
            *self.drop,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How cells are read."""

    numeric: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    missing: tuple[str, ...] = MISSING
    labels: Mapping[str, str] = field(default_factory=dict)  # text in the file -> label; none: as it is
    values: bool = False  # labels are numbers
    clock: Clock = field(default_factory=Clock)


class RowSource:
    """Reads the table twice: which columns hold numbers, then the rows. Memory holds one."""

    def __init__(self, table: Table, columns: RowColumns, reading: Reading) -> None:
        table.need(*columns.named, *reading.numeric, *reading.category)
        self.refusals = Refusals()
        self._table = table
        self._columns = columns
        self._reading = reading
        self._missing = {marker.lower() for marker in reading.missing}
        self._place = {name: i for i, name in enumerate(table.columns)}
        self._content = [name for name in table.columns if name not in columns.named]
        if not self._content and not columns.text:
            raise refused(f"{table.name} has no column left that is content")
        self._numeric, self._count = self._types()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Piece]:
        for line in self._table.rows(self.refusals):
            name = self._cell(line, self._columns.name) or f"{self._table.name}:{line.number}"
            try:
                yield self._piece(line, name)
            except (ValueError, InvalidValue) as error:
                self.refusals.add(name, str(error))

    def _types(self) -> tuple[set[str], int]:
        there = dict.fromkeys(self._content, 0)
        fit = dict.fromkeys(self._content, 0)
        count = 0
        for line in self._table.rows():
            count += 1
            for name in self._content:
                cell = line.cells[self._place[name]]
                if cell.lower() not in self._missing:
                    there[name] += 1
                    fit[name] += _number(cell) is not None
        numeric = {name for name in self._content if there[name] and fit[name] >= _NUMBERS * there[name]}
        numeric = (numeric | set(self._reading.numeric)) - set(self._reading.category)
        for name in sorted(numeric):
            if wrong := there.get(name, 0) - fit.get(name, 0):
                self.refusals.notes.append(f"column {name}: {wrong} cells are no numbers and are taken as missing")
        return numeric, count

    def _piece(self, line: Line, name: str) -> Piece:
        """Raises ValueError, InvalidValue."""
        columns = self._columns
        split = self._cell(line, columns.split)
        if split not in ("", *SPLITS):
            raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
        time = self._cell(line, columns.time)
        return Piece(
            name=name,
            data=self._data(line),
            label=self._label([self._cell(line, column) for column in columns.label]),
            source="/".join(self._cell(line, column) for column in columns.source) or name,
            split=split,
            at_ms=to_ms(self._reading.clock.seconds(time)) if time else 0,
        )

    def _data(self, line: Line) -> bytes:
        if self._columns.text:
            return encode_text(self._cell(line, self._columns.text))
        row: dict[str, Cell] = {}
        for name in self._content:
            cell = line.cells[self._place[name]]
            if cell.lower() not in self._missing:
                row[name] = _number(cell) if name in self._numeric else _text(cell)
        return encode_row(row)

    def _label(self, cells: Sequence[str]) -> str:
        if not cells or all(cell.lower() in self._missing for cell in cells):
            return ""
        if not self._reading.values:
            return self._reading.labels.get("/".join(cells), "/".join(cells))
        numbers = [float(cell) for cell in cells]
        return json.dumps(numbers if len(numbers) > 1 else numbers[0], allow_nan=False)

    def _cell(self, line: Line, column: str) -> str:
        return line.cells[self._place[column]] if column else ""


def _number(cell: str) -> float | None:
    """As a device reads it from a table of its own, and with a decimal comma, which devices take for a text."""
    value = cell_of(cell.replace(",", ".") if cell.count(",") == 1 and "." not in cell else cell)
    return value if isinstance(value, float) else None


def _text(cell: str) -> str | None:
    """A category as a device would read it from a table of its own."""
    value = cell_of(cell)
    return named(value) if isinstance(value, float) else value
