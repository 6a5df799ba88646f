"""CSV files from users, read line by line."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from cloud_hub.app.hubctl.failure import refused

Line = tuple[int, dict[str, str]]  # number in the file, column -> text


class Rows:
    """A CSV with a header. A missing cell is empty. Raises Failure naming the file and the line."""

    def __init__(self, path: Path, needed: Sequence[str]) -> None:
        self._path = path
        self.columns = self._header()
        missing = [column for column in needed if column not in self.columns]
        if missing:
            raise refused(f"{path} has no column {', '.join(missing)}; its columns: {', '.join(self.columns) or 'none'}")

    def __iter__(self) -> Iterator[Line]:
        with self._path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            try:
                for row in reader:
                    yield reader.line_num, {key: value or "" for key, value in row.items() if key is not None}
            except (csv.Error, UnicodeDecodeError) as error:
                raise refused(f"{self._path}, line {reader.line_num + 1}: not UTF-8 CSV: {error}") from error

    def _header(self) -> list[str]:
        with self._path.open(newline="", encoding="utf-8-sig") as file:
            try:
                return list(csv.DictReader(file).fieldnames or ())
            except (csv.Error, UnicodeDecodeError) as error:
                raise refused(f"{self._path} is not UTF-8 CSV: {error}") from error
