"""Deltas that know which bytes are numbers; the format stands in ``edge_agent.core.delta``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import zstandard
from numpy.typing import NDArray

from cloud_hub.delta import onnx_file, patch, tflite_file
from cloud_hub.delta.tensor import Tensor
from edge_agent.core import delta as form
from edge_agent.core.delta import BLOCK_BYTES, MAGIC, MAX_ROWS, ROW, UNSIGNED, Kind, Words

_LEVEL = 19
_WINDOW_LOG = form.MAX_WINDOW_BYTES.bit_length() - 1
_LEAST_BYTES = 32  # a row takes some bytes itself


@dataclass(frozen=True, slots=True)
class _Row:
    kind: Kind
    start: int  # in the target
    length: int
    base_start: int = 0
    width: int = 1


def encode(base: bytes, target: bytes) -> bytes | None:
    """None where not both are models of one kind, or they have no tensors in common."""
    pairs = _pairs(_tensors(base), _tensors(target))
    rows = list(_rows(pairs, base, target))
    if not pairs or len(rows) > MAX_ROWS:
        return None
    table = _table(rows)
    text = b"".join(target[row.start : row.start + row.length] for row in rows if row.kind is Kind.TEXT)
    residuals = b"".join(_residuals(row, base, target) for row in rows if row.kind in (Kind.INT, Kind.FLOAT))
    table_frame = _compress(table.tobytes())
    text_frame = patch.encode(form.gap_bytes(table, base), text)
    head = MAGIC + np.array([len(table_frame), len(text_frame)], "<u4").tobytes()
    return head + table_frame + text_frame + _compress(residuals)


def _tensors(data: bytes) -> Sequence[Tensor]:
    found = tflite_file.tensors(data) if tflite_file.is_one(data) else onnx_file.tensors(data)
    return [tensor for tensor in found if tensor.length >= _LEAST_BYTES]


def _pairs(old: Sequence[Tensor], new: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Tensors of one name, or else of one place among those of their size: exporters number what they have no name for."""
    by_name = {(tensor.name, tensor.length, tensor.width): tensor for tensor in old}
    pairs, left = [], []
    for tensor in new:
        same = by_name.pop((tensor.name, tensor.length, tensor.width), None)
        if same is not None:
            pairs.append((same, tensor))
        else:
            left.append(tensor)
    others = sorted(by_name.values(), key=lambda tensor: tensor.start)
    for tensor in left:
        alike = next((other for other in others if (other.length, other.width) == (tensor.length, tensor.width)), None)
        if alike is not None:
            others.remove(alike)
            pairs.append((alike, tensor))
    return sorted(pairs, key=lambda pair: pair[1].start)


def _rows(pairs: Sequence[tuple[Tensor, Tensor]], base: bytes, target: bytes) -> Iterator[_Row]:
    at = 0
    for old, new in pairs:
        if new.start < at:  # two names for the same bytes
            continue
        if new.start > at:
            yield _Row(Kind.TEXT, at, new.start - at)
        yield from _blocks(old, new, base, target)
        at = new.start + new.length
    if at < len(target):
        yield _Row(Kind.TEXT, at, len(target) - at)


def _blocks(old: Tensor, new: Tensor, base: bytes, target: bytes) -> Iterator[_Row]:
    if base[old.start : old.start + old.length] == target[new.start : new.start + new.length]:
        yield _Row(Kind.COPY, new.start, new.length, old.start)
        return
    kind = Kind.FLOAT if new.is_float else Kind.INT
    for at in range(0, new.length, BLOCK_BYTES):
        yield _Row(kind, new.start + at, min(BLOCK_BYTES, new.length - at), old.start + at, new.width)


def _table(rows: Sequence[_Row]) -> NDArray[np.void]:
    table, at = np.zeros(len(rows), ROW), 0
    for i, row in enumerate(rows):
        skip = 0
        if row.kind is not Kind.TEXT:
            skip, at = row.base_start - at, row.base_start + row.length
        table[i] = (row.kind, row.width, row.length, skip)
    return table


def _residuals(row: _Row, base: bytes, target: bytes) -> bytes:
    dtype = UNSIGNED[row.width]
    old = np.frombuffer(base, dtype, row.length // row.width, row.base_start)
    new = np.frombuffer(target, dtype, row.length // row.width, row.start)
    if row.kind is Kind.FLOAT:
        old, new = form.ordered(old), form.ordered(new)
    change = _zigzag(new - old)
    return np.ascontiguousarray(change.view(np.uint8).reshape(-1, row.width).T).tobytes()


def _zigzag(words: Words) -> Words:
    """0, -1, 1, -2, 2 -> 0, 1, 2, 3, 4, modulo the width."""
    one, top = words.dtype.type(1), words.dtype.type(words.dtype.itemsize * 8 - 1)
    changed: Words = (words << one) ^ (~(words >> top) + one)
    return changed


def _compress(data: bytes) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL, source_size=len(data), window_log=_WINDOW_LOG, write_content_size=True, write_checksum=False
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)
