"""Challengers on devices."""

from dataclasses import dataclass
from datetime import datetime

from protos.contract.ids import DeviceId, ModelName
from protos.contract.twin import ShadowReport


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowDevice:
    """A challenger on one device."""

    device: DeviceId
    target: str
    share: float  # of the frames, 0..1
    max_share_of_time: float
    started_by: str
    started_at: datetime
    stopped_at: datetime | None = None
    reported_at: datetime | None = None  # None: nothing was heard of it yet
    report: ShadowReport | None = None  # the last one


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowTotals:
    """A challenger on all of its devices together."""

    name: ModelName
    version: int
    devices: int  # asked, stopped ones too
    active: int  # not stopped
    reporting: int  # that have compared a frame
    troubled: int  # active ones that say why it does not run
    frames: int
    agreed: int
    skipped: int
    errors: int
    captured: int
    champion_confidence: float  # means over all frames
    challenger_confidence: float
    champion_p95_ms: float  # of the slowest device
    challenger_p95_ms: float
    started_at: datetime  # the first
