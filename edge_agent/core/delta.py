"""Deltas between two files, in the two encodings of ``protos.contract.sources``: what a decoder does with them.

``ZSTD_PATCH`` is one zstd frame that has the base as its dictionary.

``TENSOR`` knows which bytes are numbers. It is, all little-endian::

    magic (5 bytes) | u32 table length | u32 text length | table | text | residuals

The table, a zstd frame of ``ROW``s, makes the target from its start to its end: COPY takes bytes of the base, TEXT the next
bytes of the text, INT and FLOAT add the next residuals to numbers of the base. The text is a zstd frame whose dictionary is
what no row takes from the base. The residuals, one zstd frame, hold for each row the differences modulo the numbers' width,
with the sign in the lowest bit, first all lowest bytes, then all next ones: where numbers changed little, the higher bytes are
zeros.

A delta comes from the network and is nothing to rely on: every size in it is bounded before anything is made of that size, and
what it decodes to is believed only by its digest.
"""

import io
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from protos.contract.sources import Encoding

MAGIC = b"TLDT\x01"
BLOCK_BYTES = 1 << 20  # of one row of numbers at most
MAX_ROWS = 1 << 16
MAX_WINDOW_BYTES = 8 << 20  # of the residuals' frame
OVERHEAD_BYTES = 8 << 20  # what a decoder takes besides what ``decode_bytes`` counts: zstd's tables, a block in its stages
ROW = np.dtype(
    [("kind", "u1"), ("width", "u1"), ("length", "<u4"), ("skip", "<i8")]
)  # skip: from where the last row's base ended
UNSIGNED: dict[int, np.dtype[np.unsignedinteger[Any]]] = {width: np.dtype(f"<u{width}") for width in (1, 2, 4, 8)}

_HEAD_BYTES = len(MAGIC) + 8
_PIECE_BYTES = 256 << 10

Bytes = bytes | memoryview
Words = NDArray[np.unsignedinteger[Any]]


class Kind(IntEnum):
    COPY = 0
    TEXT = 1
    INT = 2
    FLOAT = 3  # sign and magnitude, as IEEE 754 has it


class BadDelta(ValueError):
    """It is not a delta, not one of this base, or would take more memory than it may."""


def decode(encoding: Encoding, base: Bytes, delta: Bytes, size_bytes: int, max_bytes: int) -> Iterator[bytes]:
    """The target, ``size_bytes`` of it, in pieces; it holds at most ``max_bytes`` and OVERHEAD_BYTES besides base and delta.

    Raises:
        BadDelta: also after some pieces.
    """
    make = _patched if encoding is Encoding.ZSTD_PATCH else _from_tensors
    made = 0
    try:
        for piece in make(base, delta, size_bytes, max_bytes):
            made += len(piece)
            if made > size_bytes:
                raise BadDelta(f"it makes more than {size_bytes} bytes")
            yield piece
    except zstandard.ZstdError as error:
        raise BadDelta(f"zstd: {error}") from error
    if made != size_bytes:
        raise BadDelta(f"it makes {made} bytes instead of {size_bytes}")


def decode_bytes(encoding: Encoding, base: Bytes, delta: Bytes) -> int:
    """Memory that ``decode`` needs, besides OVERHEAD_BYTES: by the delta's own word, which decoding holds it to. BadDelta."""
    if encoding is Encoding.ZSTD_PATCH:
        return len(base) + _frame(delta, "patch").window_size
    rows, text, residuals = _parts(delta)
    gaps = sum(end - start for start, end in _gaps(rows, len(base)))
    return rows.nbytes + gaps + _frame(text, "text").content_size * 2 + _frame(residuals, "residuals").window_size


def unzigzag(words: Words) -> Words:
    """0, 1, 2, 3, 4 -> 0, -1, 1, -2, 2, modulo the width."""
    one = words.dtype.type(1)
    changed: Words = (words >> one) ^ (~(words & one) + one)
    return changed


def ordered(words: Words) -> Words:
    """Floats as integers that lie as far apart as the floats do; twice is the identity."""
    top = words.dtype.itemsize * 8 - 1
    low = words.dtype.type((1 << top) - 1)
    flipped: Words = words ^ low
    return np.where(words >> words.dtype.type(top) != 0, flipped, words)


def gap_bytes(rows: NDArray[np.void], base: Bytes) -> bytes:
    """What no row takes from the base: the dictionary of the text. Raises BadDelta."""
    return b"".join(base[start:end] for start, end in _gaps(rows, len(base)))


def _patched(base: Bytes, delta: Bytes, size_bytes: int, max_bytes: int) -> Iterator[bytes]:
    frame = _frame(delta, "patch")
    if frame.content_size != size_bytes:
        raise BadDelta(f"the patch is for {frame.content_size} bytes instead of {size_bytes}")
    _check_memory(len(base) + frame.window_size, max_bytes)
    dictionary = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    decoder = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=_window_limit(frame.window_size))
    yield from decoder.read_to_iter(delta, read_size=_PIECE_BYTES, write_size=_PIECE_BYTES)


def _from_tensors(base: Bytes, delta: Bytes, size_bytes: int, max_bytes: int) -> Iterator[bytes]:
    rows, text_frame, residual_frame = _parts(delta)
    numbers = rows["kind"] >= Kind.INT
    lengths = rows["length"].astype(np.int64)
    if int(lengths.sum()) != size_bytes:
        raise BadDelta(f"its rows make {int(lengths.sum())} bytes instead of {size_bytes}")
    _check_rows(rows)
    _expect(text_frame, "text", int(lengths[rows["kind"] == Kind.TEXT].sum()))
    window = _expect(residual_frame, "residuals", int(lengths[numbers].sum()))
    if window > MAX_WINDOW_BYTES:
        raise BadDelta(f"its residuals want a window of {window} bytes, more than {MAX_WINDOW_BYTES}")
    _check_memory(decode_bytes(Encoding.TENSOR, base, delta), max_bytes)
    text = io.BytesIO(_text(rows, base, text_frame))
    decoder = zstandard.ZstdDecompressor(max_window_size=_window_limit(window))
    with decoder.stream_reader(residual_frame) as residuals:
        for row, start in zip(rows, _starts(rows, len(base)), strict=True):
            kind, length = int(row["kind"]), int(row["length"])
            if kind == Kind.TEXT:
                yield text.read(length)
            elif kind == Kind.COPY:
                for at in range(start, start + length, _PIECE_BYTES):
                    yield bytes(base[at : min(at + _PIECE_BYTES, start + length)])
            else:
                yield _added(kind, UNSIGNED[int(row["width"])], base[start : start + length], _read(residuals, length))


def _added(kind: int, dtype: np.dtype[np.unsignedinteger[Any]], base: Bytes, planes: bytes) -> bytes:
    old = np.frombuffer(base, dtype)
    in_order = np.frombuffer(planes, np.uint8).reshape(dtype.itemsize, -1).T
    change = unzigzag(np.ascontiguousarray(in_order).view(dtype).ravel())
    if kind == Kind.FLOAT:
        return ordered(ordered(old) + change).tobytes()
    return (old + change).tobytes()


def _read(stream: zstandard.ZstdDecompressionReader, length: int) -> bytes:
    data: bytes = stream.read(length)
    while len(data) < length and (more := stream.read(length - len(data))):
        data += more
    if len(data) != length:
        raise BadDelta("its residuals end early")
    return data


def _text(rows: NDArray[np.void], base: Bytes, frame: Bytes) -> bytes:
    gaps = gap_bytes(rows, base)
    if not gaps:
        return zstandard.ZstdDecompressor().decompress(frame)
    dictionary = zstandard.ZstdCompressionDict(gaps, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdDecompressor(dict_data=dictionary).decompress(frame)


def _parts(delta: Bytes) -> tuple[NDArray[np.void], Bytes, Bytes]:
    """(rows, text frame, residual frame)."""
    if delta[: len(MAGIC)] != MAGIC or len(delta) < _HEAD_BYTES:
        raise BadDelta("it does not begin as a tensor delta does")
    table_bytes, text_bytes = (int(n) for n in np.frombuffer(delta[len(MAGIC) : _HEAD_BYTES], "<u4"))
    if _HEAD_BYTES + table_bytes + text_bytes > len(delta):
        raise BadDelta("it is shorter than it says")
    table_frame = delta[_HEAD_BYTES : _HEAD_BYTES + table_bytes]
    size = _frame(table_frame, "table").content_size
    if size % ROW.itemsize or not 0 < size <= MAX_ROWS * ROW.itemsize:
        raise BadDelta(f"its table has {size} bytes")
    try:
        table = zstandard.ZstdDecompressor().decompress(table_frame)
    except zstandard.ZstdError as error:
        raise BadDelta(f"zstd: {error}") from error
    text_end = _HEAD_BYTES + table_bytes + text_bytes
    return np.frombuffer(table, ROW), delta[text_end - text_bytes : text_end], delta[text_end:]


def _check_rows(rows: NDArray[np.void]) -> None:
    numbers = rows[rows["kind"] >= Kind.INT]
    if (rows["kind"] > Kind.FLOAT).any() or not np.isin(numbers["width"], list(UNSIGNED)).all():
        raise BadDelta("a row is of no known kind or width")
    if (numbers["length"] > BLOCK_BYTES).any() or (numbers["length"] % np.maximum(numbers["width"], 1)).any():
        raise BadDelta("a row of numbers is too long, or ends within a number")


def _starts(rows: NDArray[np.void], base_bytes: int) -> list[int]:
    """Where each row's bytes begin in the base, inside which they lie; 0 for text."""
    starts, at = [], 0
    for kind, length, skip in zip(rows["kind"].tolist(), rows["length"].tolist(), rows["skip"].tolist(), strict=True):
        if kind == Kind.TEXT:
            starts.append(0)
            continue
        at += skip
        if at < 0 or at + length > base_bytes:
            raise BadDelta("a row reaches beyond the base")
        starts.append(at)
        at += length
    return starts


def _gaps(rows: NDArray[np.void], base_bytes: int) -> list[tuple[int, int]]:
    """Parts of the base that no row takes, in order."""
    taken = sorted(
        (start, start + int(row["length"]))
        for row, start in zip(rows, _starts(rows, base_bytes), strict=True)
        if row["kind"] != Kind.TEXT
    )
    gaps, at = [], 0
    for start, end in taken:
        if start > at:
            gaps.append((at, start))
        at = max(at, end)
    return [*gaps, (at, base_bytes)] if at < base_bytes else gaps


def _frame(data: Bytes, what: str) -> zstandard.FrameParameters:
    try:
        frame = zstandard.get_frame_parameters(data[:32])  # a header has 18 bytes at most
    except zstandard.ZstdError as error:
        raise BadDelta(f"its {what} is no zstd frame: {error}") from error
    if frame.content_size in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR):
        raise BadDelta(f"its {what} does not say its size")
    return frame


def _expect(data: Bytes, what: str, size: int) -> int:
    """The window of a frame of just this size. Raises BadDelta."""
    frame = _frame(data, what)
    if frame.content_size != size:
        raise BadDelta(f"its {what} has {frame.content_size} bytes instead of {size}")
    return int(frame.window_size)


def _window_limit(window: int) -> int:
    return max(1 << 10, 1 << (window - 1).bit_length())


def _check_memory(needed: int, allowed: int) -> None:
    if needed > allowed:
        raise BadDelta(f"decoding would take {needed} bytes of memory, allowed are {allowed}")
