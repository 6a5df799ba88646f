"""What a command prints: tables for people, JSON for scripts; progress on stderr."""

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"


class RowFormat(StrEnum):
    """Of rows that may be many."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class Output:
    def __init__(self, format: Format) -> None:
        self.json = format is Format.JSON

    def document(self, value: Any) -> None:
        """One JSON document."""
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def line(self, value: Any) -> None:
        """One JSON value of a stream, out at once."""
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def rows(self, rows: Iterable[Row], columns: Sequence[str], *, empty: str) -> None:
        """A list: all fields as JSON, or the named ones as a table; ``a.b`` is field b of field a."""
        rows = list(rows)
        if self.json:
            self.document(rows)
        elif rows:
            self.table(rows, columns)
        else:
            self.note(empty)

    def table(self, rows: Iterable[Row], columns: Sequence[str]) -> None:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column.replace(".", " ").replace("_", " ").upper(), overflow="fold")
        for row in rows:
            table.add_row(*(Text(_cell(_at(row, column))) for column in columns))
        _console(stderr=False).print(table)

    def record(self, value: Row) -> None:
        """One thing: the whole as JSON, or a line per field; nested fields by their path."""
        if self.json:
            self.document(value)
            return
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for path, field in _flat(value):
            table.add_row(Text(path.replace("_", " ")), Text(_cell(field)))
        _console(stderr=False).print(table)

    def csv(self, rows: Iterable[Row], *, at_once: bool = False) -> None:
        """All fields, with a header where there is a row; ``at_once``: each is out before the next one is awaited."""
        writer = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(sys.stdout, fieldnames=list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow(row)
            if at_once:
                sys.stdout.flush()

    def done(self, sentence: str, value: Row) -> None:
        """The result of a change."""
        if self.json:
            self.document(value)
        else:
            sys.stdout.write(printable(sentence) + "\n")

    def each(self, sentence: str, value: Row) -> None:
        """One thing of many that come over time, out at once."""
        if self.json:
            self.line(value)
        else:
            self.told(sentence)

    def told(self, sentence: str) -> None:
        """A line of a stream for people, out at once."""
        sys.stdout.write(printable(sentence) + "\n")
        sys.stdout.flush()

    def note(self, sentence: str) -> None:
        """For people; never mixed into what a script reads."""
        sys.stderr.write(printable(sentence) + "\n")
        sys.stderr.flush()

    @property
    def draws(self) -> bool:
        """Whether there is a terminal to draw on."""
        return not self.json and sys.stdout.isatty()

    def show(self, picture: RenderableType) -> None:
        """Something made for people, once."""
        _console(stderr=False).print(picture)

    def live(self) -> Live:
        """Where a picture is drawn anew in its place; the last one stays."""
        return Live(console=_console(stderr=False), auto_refresh=False, vertical_overflow="ellipsis")

    def progress(self, what: str, total: float) -> "Bar":
        return Bar(what, total)


class Bar(AbstractContextManager["Bar"]):
    """A progress bar on a terminal; elsewhere a plain line for every tenth of the way. Both on stderr."""

    def __init__(self, what: str, total: float) -> None:
        self._what = what
        self._total = total
        self._told = -1
        self._bar: Progress | None = None
        self._inner: TaskID | None = None
        console = _console(stderr=True)
        if console.is_terminal:
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty())
            self._task = self._bar.add_task(printable(what), total=total)

    def within(self, done: float, what: str) -> None:
        """A second bar below, ``done`` 0..1, for what goes on inside this step; an empty ``what`` hides it. Terminals only."""
        if not self._bar:
            return
        if self._inner is None:
            self._inner = self._bar.add_task("", total=1.0)
        self._bar.update(self._inner, completed=done, description="  " + printable(what), visible=bool(what))

    def __enter__(self) -> "Bar":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def at(self, done: float, what: str = "") -> None:
        what = what or self._what
        if self._bar:
            self._bar.update(self._task, completed=done, description=printable(what))
            return
        tenth = int(10 * done / self._total) if self._total else 10
        if tenth != self._told:
            self._told = tenth
            sys.stderr.write(f"{printable(what)}: {10 * tenth} %\n")
            sys.stderr.flush()


def printable(text: str) -> str:
    """Devices and files name things; none of them gets to steer a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 1000  # a script's table is never folded
    return Console(file=stream, width=width, highlight=False, soft_wrap=False)


def _at(row: Row, path: str) -> Any:
    value: Any = row
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _flat(value: Row, prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, field in value.items():
        if isinstance(field, Mapping) and field:
            yield from _flat(field, f"{prefix}{key} ")
        else:
            yield prefix + key, field


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return " ".join(f"{key}={_cell(item)}" for key, item in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(_cell(item) for item in value) or "-"
    return printable(str(value)).replace("\n", " ")
