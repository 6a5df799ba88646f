"""What a device says about its own work.

A record has a sequence within (epoch, lane). A batch accounts for every sequence in ``first..last`` exactly once: by an
inference, an event, a window or a gap. It is cut once and never cut again, so it is the unit of durability and of
deduplication.
"""

from protos.contract.telemetry.batch import Batch, BatchHead, Mark
from protos.contract.telemetry.bounds import (
    EPOCH_BYTES,
    MAX_BATCH_BYTES,
    MAX_LATENCY_MS,
    MAX_NAME,
    MAX_ROWS,
    MAX_SEQUENCE,
    MAX_TEXT,
    MAX_TIME_MS,
    MAX_VALUE,
    MAX_VALUES,
    check_epoch,
    check_text,
    check_time,
    first_gap_free,
    from_ms,
    to_ms,
)
from protos.contract.telemetry.records import Event, Gap, Inference, Lane, Window
from protos.contract.telemetry.table import FLAG_CAPTURED, FLAG_UNCERTAIN, NO_INFERENCES, InferenceTable

__all__ = [
    "EPOCH_BYTES",
    "FLAG_CAPTURED",
    "FLAG_UNCERTAIN",
    "MAX_BATCH_BYTES",
    "MAX_LATENCY_MS",
    "MAX_NAME",
    "MAX_ROWS",
    "MAX_SEQUENCE",
    "MAX_TEXT",
    "MAX_TIME_MS",
    "MAX_VALUE",
    "MAX_VALUES",
    "NO_INFERENCES",
    "Batch",
    "BatchHead",
    "Event",
    "Gap",
    "Inference",
    "InferenceTable",
    "Lane",
    "Mark",
    "Window",
    "check_epoch",
    "check_text",
    "check_time",
    "first_gap_free",
    "from_ms",
    "to_ms",
]
