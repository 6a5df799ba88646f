"""Where the weights lie in an ONNX file, by the wire format of protobuf: parsers do not tell offsets.

Numbers of fields are those of ``onnx.proto``. Files are the hub's own, yet nothing here trusts a length that it read.
"""

from collections.abc import Iterator, Sequence

from cloud_hub.delta.tensor import Tensor

_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_INITIALIZER = 7, 1, 5
_NODE_OUTPUT, _NODE_ATTRIBUTE, _ATTRIBUTE_TENSOR = 2, 5, 5
_TENSOR_TYPE, _TENSOR_FLOATS, _TENSOR_NAME, _TENSOR_RAW = 2, 4, 8, 9
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_TYPES = {  # TensorProto.DataType -> (bytes of one, whether it is a float)
    1: (4, True), 2: (1, False), 3: (1, False), 4: (2, False), 5: (2, False), 6: (4, False), 7: (8, False),
    9: (1, False), 10: (2, True), 11: (8, True), 12: (4, False), 13: (8, False), 16: (2, True),
}  # fmt: skip

_Field = tuple[int, int, int, int]  # number, wire type, start and end of the content; of a varint: 0 and its value


def tensors(data: bytes) -> Sequence[Tensor]:
    """Empty where it is no ONNX file, or none of its weights stand in it as raw bytes."""
    try:
        return list(_tensors(data))
    except (IndexError, ValueError, UnicodeDecodeError):
        return []


def _tensors(data: bytes) -> Iterator[Tensor]:
    for number, kind, start, end in _fields(data, 0, len(data)):
        if (number, kind) != (_MODEL_GRAPH, _BYTES):
            continue
        for part, wire, from_, to in _fields(data, start, end):
            if (part, wire) == (_GRAPH_INITIALIZER, _BYTES):
                yield from _tensor(data, from_, to, "")
            elif (part, wire) == (_GRAPH_NODE, _BYTES):
                yield from _constants(data, from_, to)


def _constants(data: bytes, start: int, end: int) -> Iterator[Tensor]:
    """A node's own tensors, by the name of its first output."""
    parts = list(_fields(data, start, end))
    name = next((data[a:b].decode() for number, kind, a, b in parts if (number, kind) == (_NODE_OUTPUT, _BYTES)), "")
    for number, kind, a, b in parts:
        if (number, kind) == (_NODE_ATTRIBUTE, _BYTES):
            for part, wire, from_, to in _fields(data, a, b):
                if (part, wire) == (_ATTRIBUTE_TENSOR, _BYTES):
                    yield from _tensor(data, from_, to, name)


def _tensor(data: bytes, start: int, end: int, name: str) -> Iterator[Tensor]:
    kind, span = 0, None
    for number, wire, from_, to in _fields(data, start, end):
        if (number, wire) == (_TENSOR_TYPE, _VARINT):
            kind = to
        elif (number, wire) == (_TENSOR_NAME, _BYTES):
            name = data[from_:to].decode() or name
        elif wire == _BYTES and number in (_TENSOR_RAW, _TENSOR_FLOATS):  # floats packed are raw floats
            span = (from_, to)
    width, is_float = _TYPES.get(kind, (1, False))
    if span is not None and (span[1] - span[0]) % width == 0:
        yield Tensor(name=name, start=span[0], length=span[1] - span[0], width=width, is_float=is_float)


def _fields(data: bytes, at: int, end: int) -> Iterator[_Field]:
    """Raises ValueError or IndexError where it is not protobuf."""
    while at < end:
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, kind, 0, value
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if number == 0 or at + length > end:
            raise ValueError("a field reaches beyond its message")
        yield number, kind, at, at + length
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a varint of more than ten bytes")
