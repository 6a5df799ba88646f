"""Where the bytes of a blob can be had."""

from dataclasses import dataclass
from enum import IntEnum

from protos.contract.errors import InvalidValue
from protos.contract.ids import Digest
from protos.contract.manifest import Blob

MAX_BASES = 8  # blobs that a device may name as what it has
MAX_SOURCES = 8
MAX_URL = 4096  # characters; a signed one has some hundreds


class Encoding(IntEnum):
    """Numbers are the wire's (``artifacts.proto``)."""

    WHOLE = 0  # the blob itself
    ZSTD_PATCH = 1  # zstd with the base as its dictionary
    TENSOR = 2  # differences per tensor, see ``edge_agent.core.delta``


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobSource:
    """One way to a blob. What comes of it is believed only by the digest of the blob that was wanted."""

    encoding: Encoding
    blob: Blob  # to download: the one that was wanted, or a delta
    base: Digest | None = None  # what a delta starts from
    decode_bytes: int = 0  # memory that decoding takes at most
    url: str = ""  # HTTP with Range; empty: ``Artifacts.Download``

    def __post_init__(self) -> None:
        if (self.encoding is Encoding.WHOLE) != (self.base is None):
            raise InvalidValue("a delta has a base, and a whole blob has none")
        if self.blob.size_bytes < 0 or self.decode_bytes < 0 or len(self.url) > MAX_URL:
            raise InvalidValue("sizes must not be negative, and a URL have 4096 characters at most")
