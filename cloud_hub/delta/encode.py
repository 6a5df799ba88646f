"""The smallest delta from one blob to another, in whatever encoding."""

from collections.abc import Sequence
from dataclasses import dataclass

from cloud_hub.delta import patch, tensors
from edge_agent.core import delta as decoder
from protos.contract.sources import Encoding

WORTH = 0.8  # of the whole blob: a delta that is not smaller than this is not worth its decoding


class NoDelta(Exception):
    """There is none that is worth it; the message says why."""


class BrokenEncoder(Exception):
    """A delta does not decode to what it was made for: a bug here, and nothing that may be served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    encoding: Encoding
    data: bytes
    decode_bytes: int  # memory that decoding takes, with everything


def smallest(base: bytes, target: bytes) -> Delta:
    """Takes a second for a megabyte or two, and some 25 times the blobs' memory.

    Raises:
        NoDelta, BrokenEncoder.
    """
    best = min(candidates(base, target), key=lambda delta: len(delta.data))
    if len(best.data) >= WORTH * len(target):
        raise NoDelta(f"{len(best.data)} bytes would be sent instead of {len(target)}")
    _check(base, target, best)
    return best


def candidates(base: bytes, target: bytes) -> Sequence[Delta]:
    """One of each encoding that both files are fit for."""
    made = [(Encoding.ZSTD_PATCH, patch.encode(base, target))]
    by_tensor = tensors.encode(base, target)
    if by_tensor is not None:
        made.append((Encoding.TENSOR, by_tensor))
    return [
        Delta(
            encoding=encoding,
            data=data,
            decode_bytes=decoder.decode_bytes(encoding, base, data) + decoder.OVERHEAD_BYTES,
        )
        for encoding, data in made
    ]


def _check(base: bytes, target: bytes, delta: Delta) -> None:
    try:
        decoded = b"".join(decoder.decode(delta.encoding, base, delta.data, len(target), delta.decode_bytes))
    except decoder.BadDelta as error:
        raise BrokenEncoder(f"{delta.encoding.name}: {error}") from error
    if decoded != target:
        raise BrokenEncoder(f"{delta.encoding.name} gave other bytes than it was made for")
