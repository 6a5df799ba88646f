"""Windows of streams."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from protos.contract.ids import DeviceId


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamWindow:
    """One window of a stream that is over; half-open, start inclusive."""

    stream: str
    device: DeviceId | None  # None: of all devices together
    origin: str  # "hub", or "device": made there, before it was sent
    key: str  # what the stream groups by, as "label=7"; empty: all readings together
    start: datetime
    end: datetime
    readings: int
    values: Mapping[str, float]  # by aggregate
    counts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # histograms, by aggregate
    holds: bool | None = None  # whether the stream's condition holds; None: it has none
    complete: bool = True  # False: readings of its beginning were folded, or lost, before the stream was there to count them


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowFilter:
    """Windows that overlap ``since..until``."""

    stream: str = ""  # empty: all
    device: DeviceId | None = None  # None: all
    since: datetime | None = None
    until: datetime | None = None
