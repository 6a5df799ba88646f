"""Samples -> tensors, whatever they are."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edge_agent.core import model
from edge_agent.core.errors import BadFrame
from edge_agent.infer.preprocess import preprocess
from edge_agent.infer.rows import RowEncoder
from edge_agent.infer.texts import TextEncoder
from edge_agent.infer.windows import WindowEncoder
from protos.contract import samples
from protos.contract.errors import InvalidMessage, InvalidValue
from protos.contract.inputs import ImageInput, Input, RowInput, SampleKind, TextInput, WindowInput
from protos.contract.samples import Window

Content = model.Content
Encode = Callable[[Content], NDArray[np.float32]]


def encoder(input: Input) -> Encode:
    """What makes the model's tensor of a sample: make it once per model.

    It gives ``input.shape`` float32, C-contiguous, the caller's own, and raises BadFrame for what the model does not take.
    """
    match input:
        case ImageInput():
            return _only(np.ndarray, partial(preprocess, spec=input), input)
        case WindowInput():
            return _only(Window, WindowEncoder(input), input)
        case RowInput():
            return _only(dict, RowEncoder(input), input)
        case TextInput():
            return _only(str, TextEncoder(input), input)


def _only(kind: type, encode: Callable[..., NDArray[np.float32]], input: Input) -> Encode:
    def checked(content: Content) -> NDArray[np.float32]:
        if not isinstance(content, kind):
            raise BadFrame(f"the model takes a {input.kind.name.lower()}, not a {type(content).__name__}")
        return encode(content)

    return checked


def tensor_of(content: Content, input: Input) -> NDArray[np.float32]:
    """One sample's, see ``encoder``; for many ``tensors_of``. Raises BadFrame."""
    return encoder(input)(content)


def tensors_of(contents: Sequence[Content], input: Input) -> NDArray[np.float32]:
    """``(N, *input.shape[1:])``: each row is what ``tensor_of`` gives for that sample alone; raises BadFrame."""
    encode = encoder(input)
    tensors = np.empty((len(contents), *input.shape[1:]), np.float32)
    for tensor, content in zip(tensors, contents, strict=True):
        tensor[...] = encode(content)[0]
    return tensors


def encode_content(content: Content) -> bytes:
    """As data sets hold it; for all but pictures. Raises InvalidValue."""
    if isinstance(content, Window):
        return samples.encode_window(content)
    if isinstance(content, str):
        return samples.encode_text(content)
    if isinstance(content, dict):
        return samples.encode_row(content)
    raise InvalidValue(f"a {type(content).__name__} has no encoding here")


def decode_content(data: bytes, kind: SampleKind) -> Content:
    """What ``encode_content`` gave. Raises InvalidMessage."""
    match kind:
        case SampleKind.WINDOW:
            return samples.decode_window(data)
        case SampleKind.ROW:
            return samples.decode_row(data)
        case SampleKind.TEXT:
            return samples.decode_text(data)
    raise InvalidMessage(f"{kind.name.lower()} samples are not decoded here")
