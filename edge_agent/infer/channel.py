"""What the agent and its worker say to each other, and the memory they share.

Orders go one way and are believed. Reports come from a process that ran a hostile file: whatever its bytes are,
``Report.decode`` gives a report or raises ``Malformed``. A tensor and its answer lie in shared memory; a message only says that
they are there.
"""

import fcntl
import math
import mmap
import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

MAX_MESSAGE = 1024  # bytes; each message is one packet
MAX_TEXT = 600  # bytes of a reason
MAX_SIDES = 8  # of a tensor's shape

_ORDER = struct.Struct("<16sIIQQI8I")
_REQUEST = struct.Struct("<Q")
_REPORT = struct.Struct("<IIQQ")
_FLOAT = 4  # bytes
# Nobody can shrink what both have mapped: the other would die of SIGBUS.
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Malformed(ValueError):
    """Not a report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The model a worker is to load; its bytes and the shared memory come along as descriptors."""

    runtime: str  # one of ``boards.RUNTIMES``
    threads: int
    model_bytes: int
    memory_bytes: int  # what it may hold at most
    cpu_s: int = 0  # processor time in all; 0: no limit
    shape: tuple[int, ...]  # of the input, as the manifest makes it
    classes: int  # values in an answer

    def encode(self) -> bytes:
        sides = (*self.shape, *(0,) * (MAX_SIDES - len(self.shape)))
        head = (self.runtime.encode(), self.threads, self.classes, self.model_bytes, self.memory_bytes, self.cpu_s)
        return _ORDER.pack(*head, *sides)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        name, threads, classes, model_bytes, memory_bytes, cpu_s, *sides = _ORDER.unpack(data)
        return cls(
            runtime=name.rstrip(b"\0").decode(),
            threads=threads,
            model_bytes=model_bytes,
            memory_bytes=memory_bytes,
            cpu_s=cpu_s,
            shape=tuple(side for side in sides if side),
            classes=classes,
        )

    @property
    def input_bytes(self) -> int:
        return math.prod(self.shape) * _FLOAT

    @property
    def shared_bytes(self) -> int:
        """The input, and behind it the answer."""
        return self.input_bytes + self.classes * _FLOAT


class Kind(IntEnum):
    READY = 1  # loaded; ``shape`` is the model's own
    REFUSED = 2  # the runtime refuses the model; ``text``
    ANSWER = 3  # to request ``sequence``: ``values`` floats lie in shared memory
    FAILED = 4  # request ``sequence`` gave no answer; ``text``


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    kind: Kind
    sequence: int = 0
    values: int = 0
    nanoseconds: int = 0  # in the runtime
    shape: tuple[int, ...] = ()
    text: str = ""

    def encode(self) -> bytes:
        rest = self.text.encode("utf-8", "replace")[:MAX_TEXT]
        if self.kind is Kind.READY:
            rest = struct.pack(f"<{len(self.shape)}I", *self.shape)
        return _REPORT.pack(self.kind, self.values, self.sequence, self.nanoseconds) + rest

    @classmethod
    def decode(cls, data: bytes) -> Self:
        try:
            kind, values, sequence, nanoseconds = _REPORT.unpack_from(data)
            rest, kind = data[_REPORT.size :], Kind(kind)
        except (struct.error, ValueError) as error:
            raise Malformed(str(error)) from error
        shape: tuple[int, ...] = ()
        text = ""
        if kind is Kind.READY:
            if len(rest) % 4 or len(rest) > 4 * MAX_SIDES:
                raise Malformed(f"a shape of {len(rest)} bytes")
            shape = struct.unpack(f"<{len(rest) // 4}I", rest)
        else:
            text = _printable(rest)
        return cls(kind=kind, sequence=sequence, values=values, nanoseconds=nanoseconds, shape=shape, text=text)


def encode_request(sequence: int) -> bytes:
    return _REQUEST.pack(sequence)


def decode_request(data: bytes) -> int:
    return int(_REQUEST.unpack(data)[0])


def share(size: int) -> int:
    """A descriptor of anonymous memory of ``size`` bytes for ever; the caller closes it."""
    descriptor = os.memfd_create("tensors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor


def sealed(data: bytes) -> int:
    """A descriptor of ``data``, which nobody can change any more, at its start; the caller closes it."""
    descriptor = os.memfd_create("model", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS | fcntl.F_SEAL_WRITE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def attach(descriptor: int, size: int) -> mmap.mmap:
    """Its pages are there at once, so that no inference waits for them."""
    return mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)


def _printable(data: bytes) -> str:
    """Fit for a log: a hostile worker cannot forge lines of it."""
    text = data[:MAX_TEXT].decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else " " for letter in text)
