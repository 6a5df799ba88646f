"""Histograms with fixed buckets: they add up, whatever comes late, and give percentiles to within a bucket.

Confidence is in 0..1: CONFIDENCE_BUCKETS even buckets, a percentile is right to half of one. Latency spans nine decades:
buckets grow by LATENCY_GROWTH, a percentile is right to about half of that; what is below LATENCY_FLOOR_MS is one bucket.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE_BUCKETS = 200
LATENCY_GROWTH = 1.05
LATENCY_FLOOR_MS = 0.001

Histogram = Mapping[int, int]  # bucket -> readings

# the same for DuckDB, which makes those of readings that are not rolled up
SQL_BUCKET = {
    "confidence": f"least(floor(confidence::DOUBLE * {CONFIDENCE_BUCKETS}), {CONFIDENCE_BUCKETS - 1})::INTEGER",
    "latency_ms": (
        f"CASE WHEN latency_ms < {LATENCY_FLOOR_MS} THEN -1 "
        f"ELSE floor(ln(latency_ms::DOUBLE / {LATENCY_FLOOR_MS}) / {math.log(LATENCY_GROWTH)!r}) END::INTEGER"
    ),
}


def confidence_buckets(confidence: NDArray[Any]) -> NDArray[np.int32]:
    return np.asarray(np.minimum(np.floor(confidence.astype("f8") * CONFIDENCE_BUCKETS), CONFIDENCE_BUCKETS - 1), "i4")


def latency_buckets(latency_ms: NDArray[Any]) -> NDArray[np.int32]:
    latency = latency_ms.astype("f8")
    with np.errstate(divide="ignore"):
        buckets = np.floor(np.log(latency / LATENCY_FLOOR_MS) / math.log(LATENCY_GROWTH))
    return np.asarray(np.where(latency < LATENCY_FLOOR_MS, -1, buckets), "i4")


def percentile(field: str, histogram: Histogram, share: float) -> float:
    """The middle of the bucket that holds the value with ``share`` of all below it; the histogram is not empty."""
    wanted = share * (sum(histogram.values()) - 1)
    seen = 0
    for bucket in sorted(histogram):
        seen += histogram[bucket]
        if seen > wanted:
            return _middle(field, bucket)
    raise ValueError("the histogram is empty")


def added(left: Histogram, right: Histogram) -> dict[int, int]:
    return {bucket: left.get(bucket, 0) + right.get(bucket, 0) for bucket in left.keys() | right.keys()}


def _middle(field: str, bucket: int) -> float:
    if field == "confidence":
        return (bucket + 0.5) / CONFIDENCE_BUCKETS
    return LATENCY_FLOOR_MS / 2 if bucket < 0 else LATENCY_FLOOR_MS * LATENCY_GROWTH ** (bucket + 0.5)
