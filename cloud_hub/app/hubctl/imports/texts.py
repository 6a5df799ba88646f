"""Texts, one a line: ``label<TAB>text`` or a text alone."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from cloud_hub.app.hubctl.failure import refused
from cloud_hub.app.hubctl.imports.piece import Piece, Refusals
from protos.contract.errors import InvalidValue
from protos.contract.samples import encode_text


class TextSource:
    """A line without a tab is an unlabelled text where no line has one, else it is refused."""

    def __init__(self, path: Path, *, labels: Mapping[str, str] | None = None) -> None:
        self.refusals = Refusals()
        self._path = path
        self._labels = labels or {}
        self._count = self._tabs = 0
        with path.open("rb") as file:
            for line in file:
                self._count += 1
                self._tabs += b"\t" in line
        if not self._count:
            raise refused(f"{path} is empty")

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Piece]:
        try:
            with self._path.open(encoding="utf-8-sig", newline="\n") as file:
                for number, line in enumerate(file, start=1):
                    yield from self._piece(f"{self._path.name}:{number}", line.strip("\r\n"))
        except UnicodeDecodeError as error:
            raise refused(f"{self._path} is not UTF-8: {error}") from error

    def _piece(self, name: str, line: str) -> Iterator[Piece]:
        label, tab, text = line.partition("\t") if self._tabs else ("", "\t", line)
        if not tab or not text.strip():
            if line.strip():
                self.refusals.add(name, "not LABEL, a tab and a text")
            return
        try:
            data = encode_text(text)
        except InvalidValue as error:
            self.refusals.add(name, str(error))
            return
        yield Piece(name=name, data=data, label=self._labels.get(label, label), source=name)
