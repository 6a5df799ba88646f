"""Images to import, wherever they lie: folders, or archives with an index. Nothing is ever unpacked to disk."""

import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cloud_hub.app.hubctl.failure import refused
from cloud_hub.app.hubctl.imports.piece import MAX_SAMPLE_BYTES, SPLITS, Piece, Refusals
from cloud_hub.app.hubctl.rows import Rows

_SUFFIXES = {".png", ".jpg", ".jpeg", ".ppm", ".pgm", ".bmp"}
_ARCHIVES = (".tar", ".tar.gz", ".tgz")
_SHOWN = 3  # names in an error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """An image that is known, and not read yet."""

    label: str
    source: str
    split: str


class FolderSource:
    """``DIR/<label>/*`` or ``DIR/{train,val,test}/<label>/*``.

    Args:
        group: its first group, found in the relative path, is the image's source; None: each file is its own.
    """

    def __init__(self, folder: Path, group: re.Pattern[str] | None = None) -> None:
        self.refusals = Refusals()
        if not folder.is_dir():
            raise refused(f"{folder} is not a folder")
        self._files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
        self._folder = folder
        self._group = group
        tops = {path.relative_to(folder).parts[0] for path in self._files}
        self._split = bool(tops) and tops <= set(SPLITS)
        depth = 3 if self._split else 2
        wrong = [p for p in self._files if len(p.relative_to(folder).parts) < depth]
        if wrong or not self._files:
            found = f", found {wrong[0].relative_to(folder)}" if wrong else ", found no image"
            raise refused(f"{folder} must hold LABEL/IMAGE or {{train,val,test}}/LABEL/IMAGE{found}")

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[Piece]:
        for path in self._files:
            parts = path.relative_to(self._folder).parts
            name = "/".join(parts)
            split, label = (parts[0], parts[1]) if self._split else ("", parts[0])
            yield Piece(name=name, data=path.read_bytes(), label=label, source=self._source(name), split=split)

    def _source(self, name: str) -> str:
        if self._group is None:
            return name
        match = self._group.search(name)
        if match is None:
            raise refused(f"--source-pattern does not match {name}")
        return match[1] if match.re.groups else match[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which column of an index says what."""

    path: str = "path"
    label: str = "label"
    source: tuple[str, ...] = ("source",)  # joined by '/'; the default may be absent
    split: str = "split"  # may be absent


GTSRB = Columns(label="class_name", source=("class_id", "track"))  # track numbers start anew in every class


class IndexSource:
    """A CSV that names images relative to ``folder``, as files there or as members of tar archives there.

    Args:
        only: split in the index -> split here; other rows are left out. Empty: every row as it is.
    """

    def __init__(self, index: Path, folder: Path, columns: Columns, only: Mapping[str, str]) -> None:
        self.refusals = Refusals()
        self._folder = folder
        self._entries: dict[str, _Entry] = {}
        rows = Rows(index, _needed(columns, only))
        for number, row in rows:
            split = row.get(columns.split, "")
            if only and split not in only:
                continue
            source = "/".join(row.get(column, "") for column in columns.source)
            entry = _Entry(label=row[columns.label], source=source, split=only.get(split, split))
            self._add(f"{index}, line {number}", row[columns.path], entry)
        if not self._entries:
            raise refused(f"{index} names no image" + (f" of split {', '.join(only)}" if only else ""))

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Piece]:
        waiting = dict(self._entries)
        for name in [name for name in waiting if (self._folder / name).is_file()]:
            yield _piece(name, waiting.pop(name), (self._folder / name).read_bytes())
        for archive in sorted(p for p in self._folder.iterdir() if p.name.endswith(_ARCHIVES)):
            if not waiting:
                return
            for name, data in _members(archive, waiting):
                yield _piece(name, waiting.pop(name), data)
        if waiting:
            shown = ", ".join(list(waiting)[:_SHOWN])
            raise refused(f"{len(waiting)} images of the index are not in {self._folder}, for example {shown}")

    def _add(self, where: str, path: str, entry: _Entry) -> None:
        name = PurePosixPath(path)
        if not path or name.is_absolute() or ".." in name.parts:
            raise refused(f"{where}: a path must stay inside the folder, got {path!r}")
        if entry.split not in ("", *SPLITS):
            raise refused(f"{where}: split {entry.split!r} is none of {', '.join(SPLITS)}: map it with --only-split OLD=NEW")
        self._entries[str(name)] = entry


def _needed(columns: Columns, only: Mapping[str, str]) -> list[str]:
    sources = () if columns.source == Columns().source else columns.source
    return [columns.path, columns.label, *sources, *([columns.split] if only else [])]


def _piece(name: str, entry: _Entry, data: bytes) -> Piece:
    return Piece(name=name, data=data, label=entry.label, source=entry.source or name, split=entry.split)


def _members(archive: Path, wanted: Mapping[str, object]) -> Iterator[tuple[str, bytes]]:
    """Regular members with a wanted name, in the archive's order; links and oversized members are never read."""
    try:
        with tarfile.open(archive, "r|*") as tar:  # a stream: one pass, no index in memory
            for member in tar:
                name = str(PurePosixPath(member.name))
                if name not in wanted or not member.isreg():
                    continue
                if member.size > MAX_SAMPLE_BYTES:
                    raise refused(f"{archive.name}: {name} has {member.size} bytes, more than {MAX_SAMPLE_BYTES}")
                file = tar.extractfile(member)
                if file is not None:
                    yield name, file.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise refused(f"cannot read {archive}: {error}") from error
