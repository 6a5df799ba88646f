"""A number for a picture's name, small enough to send with every inference."""

from hashlib import blake2b


def frame_key(name: str) -> int:
    """64-bit hash of a file's path relative to its source, in posix form; never 0, which means "no name"."""
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big") or 1
