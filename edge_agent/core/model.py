"""The values that travel through the agent, in the order they are made."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from protos.contract.ids import Digest
from protos.contract.inputs import SampleKind
from protos.contract.samples import Row, Window

Content = NDArray[np.uint8] | Window | Row | str  # what a model looks at; pictures: (H, W, 3) RGB, C-contiguous


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observation:
    """What a source gave, once: a picture, a window of readings, a row or a text."""

    content: Content
    captured_at: datetime  # aware, UTC
    source: str  # camera, machine or file group: observations that share it are correlated
    name: str = ""  # file name, or the place in a file, where the source has names
    key: int = 0  # 64-bit hash of the name; 0 where the source has no names


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What one inference gave."""

    label: int
    confidence: float  # 0..1, of label
    latency_ms: float  # of the runtime alone
    value: float | None = None  # the number that is told beside the label: a forecast, an anomaly's error, how many boxes
    values: tuple[float, ...] = ()  # every number of a model that gives numbers
    boxes: tuple["Box", ...] = ()  # what was found in a picture, best first
    ranked: tuple[tuple[int, float], ...] = ()  # (label, confidence), best first


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Something found in a picture; sides as shares of the picture's width and height, 0..1."""

    label: int
    score: float  # 0..1
    left: float
    top: float
    right: float
    bottom: float


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
    value: float | None = None  # the prediction's, as far as 32 bits hold it


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
    """An observation kept for the hub."""

    digest: Digest  # of content
    content: bytes  # a PNG, or as ``protos.contract.samples`` encodes it
    kind: SampleKind
    captured_at: datetime
    source: str
    name: str
    reason: str  # "uncertain", "control"
    model: Digest
    predicted: str
    confidence: float
