"""What the stages promise each other. Each port has one suite of tests that runs over every implementation, fakes included."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.model import Capture, Item, Observation
from protos.contract.ids import Digest
from protos.contract.manifest import Blob, Chunks
from protos.contract.sources import BlobSource
from protos.contract.telemetry import Batch, Lane, Mark
from protos.contract.twin import Held

MAX_HANDED_BYTES = 16 << 20  # of batches in one answer


class Source(Protocol):
    """What there is to look at, one at a time."""

    def observations(self) -> Iterator[Observation]:
        """Yield until the source ends or ``close`` is called.

        What cannot be read is skipped and counted, never raised.

        Raises:
            SourceUnavailable: nothing now; calling ``observations`` again may work.
        """

    def close(self) -> None:
        """Wake and end ``observations``; safe from any thread, more than once."""


class Runtime(Protocol):
    """A loaded model. Not thread-safe."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """With batch 1."""

    @property
    def inner_ms(self) -> float | None:
        """What the last ``run`` took in a process of its own, as that process says; None: it runs in this one."""

    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """``input_shape`` float32 in, ``(classes,)`` float32 logits out; the result is the caller's own.

        Raises:
            InferenceError: the runtime failed, or the output holds NaN or infinity.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneStats:
    records: int  # stored, not yet committed by the hub
    bytes: int
    dropped: int  # in the life of the file
    gaps: int  # runs of dropped records that the hub has not heard of yet
    next: int  # first sequence not yet given out
    committed: int  # every sequence through it is forgotten; -1: none
    oldest_at: datetime | None  # event time of the oldest held; None: nothing is held


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolStats:
    records: int  # stored, not yet committed by the hub
    bytes: int
    dropped: int  # in the life of the file
    lanes: Mapping[Lane, LaneStats]
    epoch: str
    resets: int = 0  # epochs before this one, as far as is known
    file_bytes: int = 0  # on the disk, with what SQLite needs besides
    commit_ms: float = 0.0  # what the last group commit took
    failing: bool = False  # the last group commit found no room, or failed


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkStats:
    """Counters since the process started, except what is under way now."""

    in_flight: int = 0  # batches sent and not covered by a watermark
    in_flight_bytes: int = 0
    sent_batches: int = 0  # repeats too
    sent_bytes: int = 0  # of their payloads
    repeated_batches: int = 0
    stalls: int = 0
    connects: int = 0
    watermark_age_s: float | None = None  # None: none came yet
    traffic_bytes: int = 0  # of the connection to the broker, both ways, with all its headers
    metered: bool = False
    budget_left_bytes: int | None = None  # None: not metered
    over_budget_bytes: int = 0  # payloads of the critical lane that went beyond the budget


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateStats:
    """How this device's certificate stands."""

    serial: str = ""  # hexadecimal; empty: none can be read
    not_before: datetime | None = None
    not_after: datetime | None = None
    renew_at: datetime | None = None  # by this device's clock
    renewals: int = 0  # since the process started
    problem: str = ""  # why the last renewal failed; empty: it did not, or none was needed


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStats:
    """Since the start of the agent, over all streams."""

    readings: int = 0  # folded into windows
    left_out: int = 0  # readings that were not sent themselves
    windows: int = 0  # sent
    late: int = 0  # readings that came after their window was told, or found too much open
    open: int = 0  # windows and keys, or readings that wait for theirs


class Outlet(Protocol):
    """Where what a stage has to tell goes: the spool itself, or the streams before it."""

    def append(self, item: Item, lane: Lane = Lane.NORMAL) -> int | None:
        """As ``Spool.append``; None where a reading is told by its windows alone. Thread-safe."""


class Spool(Protocol):
    """A durable, bounded FIFO of numbered records per lane."""

    @property
    def epoch(self) -> str:
        """One life of the spool; sequences count within (epoch, lane), from 0."""

    def append(self, item: Item, lane: Lane = Lane.NORMAL) -> int:
        """Number it and return its sequence. Thread-safe.

        It survives a crash once the next group commit is through: at once for CRITICAL, within ``commit_interval_s`` otherwise.
        Never raises for a full disk: lower priority and older records are dropped first, each accounted for in a gap.
        """

    def flush(self) -> None:
        """On return everything appended so far survives a power cut."""

    def batches(
        self, *, after: Mark | None, lane: Lane, limit: int, limit_bytes: int = MAX_HANDED_BYTES
    ) -> Sequence[tuple[Batch, bytes]]:
        """The oldest uncommitted batches of ``lane`` behind ``after``, with their stored wire bytes; one, or what fits.

        A batch is cut once, when it is full or has lingered, and stored before it is returned: asking again gives the same
        bytes. A mark of another epoch than the current one stands before the oldest.
        """

    def discard(self, marks: Sequence[Mark]) -> None:
        """Forget what the hub has committed.

        A mark of this epoch beyond what was ever cut is somebody else's: all that is held moves to a new epoch, numbered from 0
        behind an event ``spool.foreign_mark`` in the critical lane. Marks of other epochs mean nothing.
        """

    def held(self) -> tuple[Held, ...]:
        """What each lane holds, all at one moment."""

    def on_batch(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` after every cut, from the thread that cut: it must not block, nor call the spool."""

    def stats(self) -> SpoolStats: ...

    def close(self) -> None:
        """Flush and close."""


class Captures(Protocol):
    """Frames kept for the hub, on disk, bounded by bytes."""

    def add(self, capture: Capture) -> bool:
        """Keep it durably; False where the budget is used up. The same digest twice is kept once."""

    def pending(self, limit: int) -> Sequence[Capture]:
        """Oldest first."""

    def remove(self, digest: Digest) -> None: ...

    def count(self) -> int: ...


class Repository(IntEnum):
    """Numbers are the wire's (``trust.proto``)."""

    IMAGE = 1  # which files there are
    DIRECTOR = 2  # what this device is to run


class Hub(Protocol):
    """The hub over gRPC, as an agent needs it."""

    def locate(self, digest: Digest, have: Sequence[Digest], max_decode_bytes: int) -> Sequence[BlobSource]:
        """Where the blob can be had besides ``download``, best first; ``have``: whole blobs that are here.

        Raises:
            LinkDown: not now.
            Refused: the hub does not know it, will not give it, or knows no sources.
        """

    def download(self, blob: Blob, path: Path, *, chunks: Chunks | None = None, url: str = "") -> None:
        """Put exactly ``blob`` at ``path``, resuming from a partial file left beside it by an earlier try.

        With ``chunks`` each is verified as it comes. ``url``: of a source; empty: from the hub itself.

        Raises:
            LinkDown: not now; what came so far is kept for the next try.
            TooSlow: as LinkDown, because it came slower than the lowest rate.
            Refused: the hub, or who is behind ``url``, does not know it or will not give it.
            Corrupt, Endless: size or a digest differ, or it goes on beyond its size; only verified chunks are kept.
            DiskFull: no room.
        """

    def metadata(self, repository: Repository, name: str, max_bytes: int) -> bytes:
        """A file of signed metadata, unverified.

        Raises:
            Absent: there is none of that name.
            LinkDown: not now.
            Refused: the hub will not give it.
            Endless: it has more than ``max_bytes``; no more than those were taken.
            TooSlow: it came slower than the lowest rate, or not whole in time.
        """

    def director(self, nonce: bytes) -> bytes:
        """The director's metadata for this device, made for this ``nonce`` of 16 to 32 bytes, unverified.

        Raises:
            LinkDown, Refused, Endless: as ``metadata``.
        """

    def upload(self, capture: Capture) -> None:
        """On return the hub has it durably; a repeat is harmless.

        Raises:
            LinkDown: try again later.
            Refused: it will never be taken.
        """

    def close(self) -> None: ...
