"""Desired and reported state of a device."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import IntEnum

from protos.contract import ids
from protos.contract.errors import InvalidValue
from protos.contract.ids import Digest, ModelName
from protos.contract.manifest import check_version
from protos.contract.telemetry import MAX_SEQUENCE, MAX_TEXT, Lane, check_epoch, check_text, check_time, to_ms
from protos.contract.update import UpdateState

MAX_MANIFEST_BYTES = 256 * 1024
MAX_PACKAGE_BYTES = 8 << 30
MAX_WINDOWS = 16
DAY_MINUTES = 24 * 60


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


class PackageKind(IntEnum):
    """Numbers are the wire's (``twin.proto``)."""

    CONFIG = 1
    AGENT = 2
    FIRMWARE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageAssignment:
    """One file that is no model: a setting, an agent, a firmware image."""

    kind: PackageKind
    name: str
    version: str
    digest: Digest
    size_bytes: int
    rollout_id: str = field(default="", compare=False)  # the same package for another rollout is the same package

    def __post_init__(self) -> None:
        _check_texts(self.rollout_id)
        ids.model_name(self.name)
        ids.package_version(self.version)
        if not 1 <= self.size_bytes <= MAX_PACKAGE_BYTES:
            raise InvalidValue(f"a package must have 1..{MAX_PACKAGE_BYTES} bytes, got {self.size_bytes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceWindow:
    """A part of a day in which updates may become active."""

    start_minute: int  # since midnight, inclusive
    end_minute: int  # exclusive; not after the start: on the next day
    days: frozenset[int] = frozenset(range(7))  # on which it starts; 0: Monday
    local: bool = False  # by the device's own time zone; else UTC

    def __post_init__(self) -> None:
        if not (0 <= self.start_minute < DAY_MINUTES and 0 <= self.end_minute <= DAY_MINUTES):
            raise InvalidValue(f"a window must lie in 0..{DAY_MINUTES} minutes, got {self.start_minute}..{self.end_minute}")
        if not self.days or not self.days <= frozenset(range(7)):
            raise InvalidValue(f"the days of a window must be in 0..6, got {sorted(self.days)}")

    def holds(self, at: datetime) -> bool:
        """Whether ``at``, in the time zone this window means, lies in it."""
        minute, day = at.hour * 60 + at.minute, at.weekday()
        if self.start_minute < self.end_minute:
            return day in self.days and self.start_minute <= minute < self.end_minute
        return (day in self.days and minute >= self.start_minute) or ((day - 1) % 7 in self.days and minute < self.end_minute)


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenger:
    """A model that looks at a share of the frames beside the one that runs; its answers are compared, never used."""

    model: ModelAssignment
    share: float = 0.1  # of the frames
    max_share_of_time: float = 0.25  # of the device's inference time that it may take

    def __post_init__(self) -> None:
        if not (0.0 < self.share <= 1.0 and 0.0 < self.max_share_of_time <= 1.0):
            raise InvalidValue("a challenger's shares must be in 0..1 and not 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredTwin:
    generation: int  # grows with every change for this device; the newest wins
    model: ModelAssignment | None = None  # None: keep what runs, and call off what is under way
    rollout_id: str = ""
    renew_before: datetime | None = None  # a certificate that was issued before this is to be renewed now
    packages: tuple[PackageAssignment, ...] = ()  # by kind; a kind that is absent stays as it is
    challenger: Challenger | None = None
    windows: tuple[MaintenanceWindow, ...] = ()  # when what this twin asks for may become active; none: at any time
    not_before: datetime | None = None  # and not before this time

    def __post_init__(self) -> None:
        _check_counts(generation=self.generation)
        _check_texts(self.rollout_id)
        for name in ("renew_before", "not_before"):
            at = getattr(self, name)
            if at is not None:
                check_time(at)
                if not to_ms(at):
                    raise InvalidValue(f"{name} must be after 1970 began: the wire has 0 for none")
        _check_packages(self.packages)
        if len(self.windows) > MAX_WINDOWS:
            raise InvalidValue(f"a twin has {len(self.windows)} windows, more than {MAX_WINDOWS}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How a model's file does on the device it is for, by its golden run there."""

    p50_ms: float
    p95_ms: float
    peak_bytes: int  # of the process that ran it
    error: float  # largest |output - expected| in units of the tolerance: above 1 it is not used
    agreement: float  # share of the golden frames with the expected label

    def __post_init__(self) -> None:
        _check_counts(peak_bytes=self.peak_bytes)
        if not all(math.isfinite(value) and value >= 0 for value in (self.p50_ms, self.p95_ms, self.error, self.agreement)):
            raise InvalidValue("a fit must be finite and not negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStatus:
    generation: int
    state: UpdateState
    model: ModelAssignment
    at: datetime
    rollout_id: str = ""
    attempts: int = 0
    reason: str = ""  # why it failed or rolled back; the wire carries the first MAX_TEXT characters
    fit: Fit | None = None  # from the golden run on

    def __post_init__(self) -> None:
        _check_counts(generation=self.generation, attempts=self.attempts)
        _check_texts(self.rollout_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageStatus:
    generation: int
    state: UpdateState
    package: PackageAssignment
    at: datetime
    attempts: int = 0
    reason: str = ""  # as ``UpdateStatus``

    def __post_init__(self) -> None:
        _check_counts(generation=self.generation, attempts=self.attempts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowReport:
    """What a challenger did, since it began on this device."""

    model: ModelAssignment
    since: datetime
    frames: int = 0  # both models saw
    agreed: int = 0  # of them
    skipped: int = 0  # sampled, but there was no time for them
    errors: int = 0
    champion_confidence: float = 0.0  # means over these frames
    challenger_confidence: float = 0.0
    champion_p95_ms: float = 0.0
    challenger_p50_ms: float = 0.0
    challenger_p95_ms: float = 0.0
    captured: int = 0  # disagreements that were kept for the hub
    problem: str = ""  # why it does not run
    fit: Fit | None = None  # from its golden run on

    def __post_init__(self) -> None:
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("model", "since", "problem", "fit")}
        _check_counts(**{name: value for name, value in values.items() if isinstance(value, int)})
        if not all(math.isfinite(value) and value >= 0 for value in values.values()) or self.agreed > self.frames:
            raise InvalidValue("the figures of a shadow report must be finite, not negative, and agree with each other")


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
    packages: tuple[PackageAssignment, ...] = ()  # installed, by kind
    package_updates: tuple[PackageStatus, ...] = ()  # the newest of each kind
    shadow: ShadowReport | None = None  # None: no challenger was asked for

    def __post_init__(self) -> None:
        _check_counts(generation=self.generation)
        _check_texts(self.boot_id, self.agent_version, self.board, *self.runtimes)
        if len(self.held) > len(Lane):
            raise InvalidValue(f"a twin tells of {len(self.held)} lanes, more than {len(Lane)}")
        _check_packages(self.packages)
        _check_packages([update.package for update in self.package_updates])


def _check_packages(packages: Sequence[PackageAssignment]) -> None:
    if len({package.kind for package in packages}) != len(packages):
        raise InvalidValue("a twin has two packages of one kind")


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if not 0 <= count <= MAX_SEQUENCE:
            raise InvalidValue(f"{name} must be in 0..2^63-1, got {count}")


def _check_texts(*texts: str) -> None:
    for text in texts:
        if len(text) > MAX_TEXT:
            raise InvalidValue(f"a name in a twin is longer than {MAX_TEXT} characters: {text[:80]!r}...")
    check_text(*texts)
