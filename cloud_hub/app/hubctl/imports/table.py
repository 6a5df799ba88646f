"""Tables in text files, read line by line: whatever separates their cells, with or without a header."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cloud_hub.app.hubctl.failure import refused
from cloud_hub.app.hubctl.imports.piece import Refusals

BLANK = "blank"  # any run of blanks separates
MISSING = ("", "?", "na", "n/a", "nan", "null", "none", "-")  # in upper or lower case
_SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", BLANK: BLANK}
_GUESSED = (",", ";", "\t", "|")


class Line(NamedTuple):
    number: int  # in the file, from 1
    cells: list[str]  # stripped; as many as there are columns


class Table:
    """
    Args:
        separator: a character or its name; empty: the one that the first line has most of.
        columns: names for a file without a header; with ``header`` False and none given they are c1, c2, ...
    """

    def __init__(self, path: Path, *, separator: str = "", header: bool = True, columns: Sequence[str] = ()) -> None:
        self._path = path
        self._header = header
        first = self._first()
        self._separator = _SEPARATORS.get(separator, separator) or _guessed(path, first)
        if len(self._separator) != 1 and self._separator != BLANK:
            raise refused(f"--separator must be one character or one of {', '.join(_SEPARATORS)}, got {separator!r}")
        cells = self._split(first)
        if header:
            self.columns = tuple(_without_tail(cells))
        else:
            self.columns = tuple(columns) or tuple(f"c{i + 1}" for i in range(len(cells)))
        if not all(self.columns) or len(set(self.columns)) != len(self.columns):
            raise refused(f"{path} must have a name for each column, each another one, got {', '.join(self.columns[:20])}")

    @property
    def name(self) -> str:
        return self._path.name

    def need(self, *names: str) -> None:
        """Raises Failure naming the columns there are."""
        if absent := [name for name in names if name not in self.columns]:
            raise refused(f"{self._path} has no column {', '.join(absent)}; its columns: {', '.join(self.columns[:50])}")

    def rows(self, refusals: Refusals | None = None) -> Iterator[Line]:
        """Those with as many cells as columns; one more at the end may be there, as long as it is empty."""
        with self._path.open(newline="", encoding="utf-8-sig") as file:
            reader = self._reader(file)
            number = 0
            try:
                for number, cells in reader:
                    if (self._header and number == 1) or not any(cells):
                        continue
                    cells = _without_tail(cells) if len(cells) > len(self.columns) else cells
                    if len(cells) == len(self.columns):
                        yield Line(number, cells)
                    elif refusals is not None:
                        refusals.add(f"{self.name}:{number}", f"{len(cells)} cells, the table has {len(self.columns)} columns")
            except (csv.Error, UnicodeDecodeError) as error:
                raise refused(f"{self._path}, line {number + 1}: not a table in UTF-8: {error}") from error

    def _reader(self, file: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
        if self._separator == BLANK:
            yield from ((number, line.split()) for number, line in enumerate(file, start=1))
            return
        # in files that are separated by tabs a quote is a quote
        if self._separator == "\t":
            reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            reader = csv.reader(file, delimiter=self._separator)
        for number, cells in enumerate(reader, start=1):
            yield number, [cell.strip() for cell in cells]

    def _first(self) -> str:
        try:
            with self._path.open(encoding="utf-8-sig") as file:
                line = file.readline(1 << 20)
        except UnicodeDecodeError as error:
            raise refused(f"{self._path} is not a table in UTF-8: {error}") from error
        if not line.strip():
            raise refused(f"{self._path} is empty")
        return line

    def _split(self, line: str) -> list[str]:
        return next(self._reader(iter([line])))[1]


def _guessed(path: Path, line: str) -> str:
    if path.suffix == ".tsv":
        return "\t"
    best = max(_GUESSED, key=line.count)
    return best if line.count(best) else BLANK if len(line.split()) > 1 else ","


def _without_tail(cells: list[str]) -> list[str]:
    """Some programs end each row with a separator."""
    return cells[:-1] if len(cells) > 1 and not cells[-1] else cells
