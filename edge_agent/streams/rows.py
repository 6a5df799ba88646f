"""What goes into a stream: readings as columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = NDArray[Any] | str | int | float | bool


class FieldKind(StrEnum):
    """What a field may be used for."""

    INTEGER = "integer"  # a class, a code: to group by, to count by, and a number
    NUMBER = "number"
    FLAG = "flag"  # true or false; as a number 1 or 0
    TEXT = "text"  # to group by, to compare for equality, to count the distinct ones


READING_FIELDS: Mapping[str, FieldKind] = {
    "label": FieldKind.INTEGER,  # class index in the model's label list
    "label_name": FieldKind.TEXT,
    "confidence": FieldKind.NUMBER,  # 0..1
    "latency_ms": FieldKind.NUMBER,  # of the runtime alone
    "value": FieldKind.NUMBER,  # told beside the label: a forecast, an error, a count; NaN where the model gives none
    "uncertain": FieldKind.FLAG,  # below the model's threshold
    "captured": FieldKind.FLAG,  # the frame is kept for the hub
    "model": FieldKind.TEXT,  # digest of its manifest
}  # what every reading has, on the device and on the hub


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Readings of one origin, each column ``(rows,)``. Any order, any repeats."""

    origin: str  # numbers its rows: "<device>/<epoch>/<lane>" on the hub, the agent's start on the device
    sequence: NDArray[np.int64]  # the same reading always has the same one; from 0
    at_ms: NDArray[np.int64]  # event time: Unix epoch, ms
    fields: Mapping[str, Column]  # by name, the keys and numbers that specs speak of; a plain value: the same in every row
