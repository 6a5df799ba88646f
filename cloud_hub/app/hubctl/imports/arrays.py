"""Pictures in an ``.npz``, read one at a time: a small file may say that it unpacks to more than any machine holds."""

import io
import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from cloud_hub.app.hubctl.failure import refused
from cloud_hub.app.hubctl.imports.piece import Piece, Refusals

MAX_BYTES = 64 << 30  # of 'images', unpacked: a hundred times a large data set of small pictures
MAX_PICTURE_BYTES = 100 << 20  # of one of them
MAX_PICTURES = 10_000_000  # each has a label in memory, though it may be of one pixel
MAX_COLUMN_BYTES = 1 << 30  # of 'labels' and the others, which are held whole
_COLUMNS = ("labels", "source", "split")
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile unpacks the others without a bound
_UNREADABLE = (
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
)  # RuntimeError: encrypted


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """What an array says of itself."""

    shape: tuple[int, ...]
    by_column: bool  # Fortran's order
    dtype: "np.dtype[Any]"

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class ArraySource:
    """An ``.npz``: ``images`` u8 (N, H, W[, 3]), ``labels`` (N,) names or indices into ``known``; ``source``, ``split``.

    Raises Failure; what an array claims to hold is looked at before room is made for it.
    """

    def __init__(self, path: Path, known: Sequence[str]) -> None:
        self.refusals = Refusals()
        self._path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self._images = _read_header(archive, "images")
                self._check()
                names = set(archive.namelist())
                columns = {name: self._column(archive, name) for name in _COLUMNS if f"{name}.npy" in names}
        except KeyError as error:
            raise refused(f"{path} has no array 'images'") from error
        except _UNREADABLE as error:
            raise refused(f"{path} is not an .npz of plain arrays: {error}") from error
        labels = columns.get("labels")
        self._labels = [""] * len(self) if labels is None else [_label(path, value, known) for value in labels]
        self._sources = [str(value) for value in columns.get("source", ())]
        self._splits = [str(value) for value in columns.get("split", ())]

    def __len__(self) -> int:
        return self._images.shape[0]

    def __iter__(self) -> Iterator[Piece]:
        for i, image in enumerate(self._pictures()):
            name = f"{self._path.name}#{i}"
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            source = self._sources[i] if self._sources else name
            split = self._splits[i] if self._splits else ""
            yield Piece(name=name, data=buffer.getvalue(), label=self._labels[i], source=source, split=split)

    def _pictures(self) -> Iterator[NDArray[np.uint8]]:
        count, *shape = self._images.shape
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open("images.npy") as file:
                _header_of(file)
                for i in range(count):
                    data = file.read(math.prod(shape))
                    if len(data) < math.prod(shape):
                        raise EOFError(f"'images' ends after {i} of {count}")
                    yield np.frombuffer(data, np.uint8).reshape(shape)
        except _UNREADABLE as error:
            raise refused(f"{self._path} cannot be read: {error}") from error

    def _check(self) -> None:
        images = self._images
        shape, plain = images.shape, images.dtype == np.uint8 and len(images.shape) in (3, 4)
        if not plain or shape[3:] not in ((), (3,)) or min(shape) < 1:
            raise refused(f"{self._path}: 'images' must be uint8 (N, H, W) or (N, H, W, 3), got {images.dtype} {shape}")
        if images.by_column:
            raise refused(f"{self._path}: 'images' must be in C order: save numpy.ascontiguousarray of it")
        _bounded(self._path, "one of 'images'", math.prod(shape[1:]), MAX_PICTURE_BYTES)
        _bounded(self._path, "'images'", images.size_bytes, MAX_BYTES)
        if len(self) > MAX_PICTURES:
            raise refused(f"{self._path}: {len(self)} 'images' are more than {MAX_PICTURES}: import them in parts")

    def _column(self, archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
        header = _read_header(archive, name)
        if header.shape != (len(self),):
            raise refused(f"{self._path}: '{name}' must have shape ({len(self)},), got {header.shape}")
        _bounded(self._path, f"'{name}'", header.size_bytes, MAX_COLUMN_BYTES)
        with archive.open(f"{name}.npy") as file:
            array: NDArray[Any] = np.load(file, allow_pickle=False)
        return array


def _read_header(archive: zipfile.ZipFile, name: str) -> _Header:
    if archive.getinfo(f"{name}.npy").compress_type not in _PACKED:
        raise ValueError(f"'{name}' is packed in another way than numpy's own")
    with archive.open(f"{name}.npy") as file:
        return _header_of(file)


def _header_of(file: IO[bytes]) -> _Header:
    """``file`` then stands at the first value. Raises ValueError."""
    version = npy.read_magic(file)  # type: ignore[no-untyped-call]
    if version != (1, 0):  # the headers of others may have gigabytes; plain arrays are never written so
        raise ValueError(f"an array of format {version[0]}.{version[1]}")
    shape, by_column, dtype = npy.read_array_header_1_0(file)  # type: ignore[no-untyped-call]
    if dtype.hasobject:
        raise ValueError("an array holds Python objects")
    return _Header(shape=shape, by_column=by_column, dtype=dtype)


def _bounded(path: Path, what: str, size: int, most: int) -> None:
    if size > most:
        raise refused(f"{path}: {what} would take {size} bytes, more than {most}: import it in parts")


def _label(path: Path, value: Any, known: Sequence[str]) -> str:
    if not isinstance(value, np.integer):
        return str(value)
    if not 0 <= value < len(known):
        raise refused(f"{path}: label index {value} is outside the {len(known)} labels of the dataset")
    return known[int(value)]
