"""Where the weights lie in a TensorFlow Lite file, by the wire format of FlatBuffers: tables that name where things are.

Numbers of fields are those of ``schema.fbs``. Files are the hub's own, yet nothing here trusts an offset that it read.
"""

import struct
from collections.abc import Iterator, Sequence

from cloud_hub.delta.tensor import Tensor

_IDENTIFIER = b"TFL3"
_MODEL_SUBGRAPHS, _MODEL_BUFFERS = 2, 4
_SUBGRAPH_TENSORS = 0
_TENSOR_TYPE, _TENSOR_BUFFER, _TENSOR_NAME = 1, 2, 3
_BUFFER_DATA, _BUFFER_OFFSET, _BUFFER_SIZE = 0, 1, 2
_MAX_ITEMS = 1 << 20  # of one vector
_TYPES = {  # TensorType -> (bytes of one, whether it is a float)
    0: (4, True), 1: (2, True), 2: (4, False), 3: (1, False), 4: (8, False), 6: (1, False), 7: (2, False),
    9: (1, False), 10: (8, True), 12: (8, False), 15: (4, False), 16: (2, False), 18: (2, True),
}  # fmt: skip


def is_one(data: bytes) -> bool:
    return data[4:8] == _IDENTIFIER


def tensors(data: bytes) -> Sequence[Tensor]:
    """Empty where it cannot be read as one. A buffer that several tensors name stands there once."""
    try:
        found = {tensor.start: tensor for tensor in _tensors(data)}
    except (struct.error, ValueError, UnicodeDecodeError):
        return []
    return [found[start] for start in sorted(found)]


def _tensors(data: bytes) -> Iterator[Tensor]:
    model = _offset(data, 0)
    buffers = list(_tables(data, model, _MODEL_BUFFERS))
    for subgraph in _tables(data, model, _MODEL_SUBGRAPHS):
        for tensor in _tables(data, subgraph, _SUBGRAPH_TENSORS):
            place = _field(data, tensor, _TENSOR_BUFFER)
            number = struct.unpack_from("<I", data, place)[0] if place else 0
            if not 0 < number < len(buffers):  # buffer 0 is empty by rule
                continue
            start, length = _bytes(data, buffers[number])
            kind = _field(data, tensor, _TENSOR_TYPE)
            width, is_float = _TYPES.get(data[kind] if kind else 0, (1, False))
            if length and length % width == 0 and start + length <= len(data):
                name_at, name_length = _vector(data, tensor, _TENSOR_NAME)
                name = data[name_at : name_at + name_length].decode()
                yield Tensor(name=name, start=start, length=length, width=width, is_float=is_float)


def _bytes(data: bytes, buffer: int) -> tuple[int, int]:
    """(where they begin, how many there are): within the tables, or behind them, as converters write large ones."""
    offset, size = (_field(data, buffer, field) for field in (_BUFFER_OFFSET, _BUFFER_SIZE))
    if offset and size:
        return int(struct.unpack_from("<Q", data, offset)[0]), int(struct.unpack_from("<Q", data, size)[0])
    return _vector(data, buffer, _BUFFER_DATA)


def _tables(data: bytes, table: int, field: int) -> Iterator[int]:
    """Positions of the tables in a vector of tables."""
    start, count = _vector(data, table, field)
    if count > _MAX_ITEMS:
        raise ValueError(f"a vector of {count} tables")
    for at in range(start, start + 4 * count, 4):
        yield _offset(data, at)


def _vector(data: bytes, table: int, field: int) -> tuple[int, int]:
    """(where its items begin, how many there are) of a vector or a string; no items where the field is absent."""
    at = _field(data, table, field)
    if not at:
        return 0, 0
    start = _offset(data, at)
    return start + 4, int(struct.unpack_from("<I", data, start)[0])


def _field(data: bytes, table: int, number: int) -> int:
    """Where a field of a table stands; 0: it has its default."""
    vtable = table - int(struct.unpack_from("<i", data, table)[0])
    size = struct.unpack_from("<H", data, vtable)[0]
    place = 4 + 2 * number
    if place + 2 > size:
        return 0
    offset = int(struct.unpack_from("<H", data, vtable + place)[0])
    return table + offset if offset else 0


def _offset(data: bytes, at: int) -> int:
    return at + int(struct.unpack_from("<I", data, at)[0])
