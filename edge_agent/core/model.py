"""The values that travel through the agent, in the order they are made."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from protos.contract.ids import Digest


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One picture from a source."""

    pixels: NDArray[np.uint8]  # (H, W, 3) RGB, C-contiguous
    captured_at: datetime  # aware, UTC
    source: str  # camera or file group: frames that share it are correlated
    name: str = ""  # file name where the source has names
    key: int = 0  # 64-bit hash of source and name; 0 where the source has no names


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What one inference gave."""

    label: int
    confidence: float  # 0..1, of label
    latency_ms: float  # of the runtime alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One inference with what was decided about it, before anyone has numbered it."""

    captured_at: datetime
    model: Digest  # of the manifest
    label: int
    confidence: float
    latency_ms: float
    captured: bool = False
    uncertain: bool = False
    frame_key: int = 0
    label_name: str = ""  # as the model's manifest has it; it stays on the device


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """Something worth telling that is not an inference, before anyone has numbered it."""

    at: datetime
    kind: str  # dotted: "update.rolled_back"
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a stream said about one window of readings, before anyone has numbered it; half-open, start inclusive."""

    stream: str  # name of its spec
    start: datetime
    end: datetime
    readings: int
    values: tuple[tuple[str, float], ...]  # (aggregate, value), by name
    key: str = ""  # what the stream groups by, as "label=7"
    complete: bool = True  # False: some readings of its time may be missing


Item = Outcome | Happening | Summary  # what is appended to a spool


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """A frame kept for the hub."""

    digest: Digest  # of png
    png: bytes
    captured_at: datetime
    source: str
    name: str
    reason: str  # "uncertain", "control"
    model: Digest
    predicted: str
    confidence: float
