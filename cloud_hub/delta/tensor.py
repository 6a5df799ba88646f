"""One tensor in the bytes of a model file."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    name: str
    start: int
    length: int  # bytes
    width: int  # bytes of one number: 1, 2, 4 or 8
    is_float: bool
