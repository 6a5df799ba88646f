"""Desired and reported state of a device."""

import math
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import IntEnum

from protos.contract.errors import InvalidValue
from protos.contract.ids import Digest, ModelName
from protos.contract.manifest import check_version
from protos.contract.telemetry import MAX_SEQUENCE, MAX_TEXT, Lane, check_epoch, check_text, check_time, to_ms
from protos.contract.update import UpdateState

MAX_MANIFEST_BYTES = 256 * 1024


class Presence(IntEnum):
    """Numbers are the wire's (``twin.proto``)."""

    ONLINE = 1
    STOPPED = 2  # said goodbye
    OFFLINE = 3  # the broker noticed


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    presence: Presence
    boot_id: str
    agent_version: str
    at: datetime

    def __post_init__(self) -> None:
        _check_texts(self.boot_id, self.agent_version)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAssignment:
    """Which manifest to run; the manifest says the rest."""

    name: ModelName
    version: int
    manifest_digest: Digest
    manifest_size_bytes: int

    def __post_init__(self) -> None:
        check_version(self.version)
        if not 1 <= self.manifest_size_bytes <= MAX_MANIFEST_BYTES:
            raise InvalidValue(f"manifest size must be in 1..{MAX_MANIFEST_BYTES} bytes, got {self.manifest_size_bytes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredTwin:
    generation: int  # grows with every change for this device; the newest wins
    model: ModelAssignment | None = None  # None: keep what runs
    rollout_id: str = ""
    renew_before: datetime | None = None  # a certificate that was issued before this is to be renewed now

    def __post_init__(self) -> None:
        _check_counts(generation=self.generation)
        _check_texts(self.rollout_id)
        if self.renew_before is not None:
            check_time(self.renew_before)
            if not to_ms(self.renew_before):
                raise InvalidValue("renew_before must be after 1970 began: the wire has 0 for none")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStatus:
    generation: int
    state: UpdateState
    model: ModelAssignment
    at: datetime
    rollout_id: str = ""
    attempts: int = 0
    reason: str = ""  # why it failed or rolled back; the wire carries the first MAX_TEXT characters

    def __post_init__(self) -> None:
        _check_counts(generation=self.generation, attempts=self.attempts)
        _check_texts(self.rollout_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Counters since the process started, except sizes, which are now."""

    started_at: datetime
    rss_bytes: int = 0
    disk_free_bytes: int = 0
    spool_records: int = 0
    spool_bytes: int = 0
    dropped_records: int = 0
    inferences: int = 0
    inference_errors: int = 0
    captures_pending: int = 0
    latency_p50_ms: float = 0.0
    latency_p95_ms: float = 0.0
    disk_total_bytes: int = 0  # 0: not told
    spool_limit_bytes: int = 0  # 0: not told
    temperature_c: float | None = None  # of the hottest zone; None where the board does not say

    def __post_init__(self) -> None:
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("started_at", "temperature_c")}
        _check_counts(**{name: value for name, value in values.items() if isinstance(value, int)})
        if not all(math.isfinite(value) and value >= 0 for value in values.values()):
            raise InvalidValue("health latencies must be finite and not negative")
        if self.temperature_c is not None and not -100.0 <= self.temperature_c <= 1000.0:
            raise InvalidValue(f"temperature_c must be in -100..1000, got {self.temperature_c}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the spool holds of one lane: sequences ``oldest``..``next - 1``. What is before was forgotten as marks allowed."""

    epoch: str
    lane: Lane
    oldest: int
    next: int  # first sequence not yet given out

    def __post_init__(self) -> None:
        check_epoch(self.epoch)
        _check_counts(oldest=self.oldest, next=self.next)
        if self.oldest > self.next:
            raise InvalidValue(f"held range starts at {self.oldest}, beyond its end {self.next}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedTwin:
    generation: int  # last desired generation acted on; 0: none
    boot_id: str
    agent_version: str
    board: str
    at: datetime
    health: Health
    runtimes: tuple[str, ...] = field(default=())
    model: ModelAssignment | None = None
    update: UpdateStatus | None = None
    held: tuple[Held, ...] = ()  # by lane; empty: not told

    def __post_init__(self) -> None:
        _check_counts(generation=self.generation)
        _check_texts(self.boot_id, self.agent_version, self.board, *self.runtimes)
        if len(self.held) > len(Lane):
            raise InvalidValue(f"a twin tells of {len(self.held)} lanes, more than {len(Lane)}")


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if not 0 <= count <= MAX_SEQUENCE:
            raise InvalidValue(f"{name} must be in 0..2^63-1, got {count}")


def _check_texts(*texts: str) -> None:
    for text in texts:
        if len(text) > MAX_TEXT:
            raise InvalidValue(f"a name in a twin is longer than {MAX_TEXT} characters: {text[:80]!r}...")
    check_text(*texts)
