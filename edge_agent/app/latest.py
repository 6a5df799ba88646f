"""What the model said last, whole: the hub is told one label and one number of it, people on the device see all."""

import math
from collections.abc import Mapping
from typing import Any

from edge_agent.app.perceive import Seen
from protos.contract.outputs import Values

MOST = 100  # values or boxes


def latest(seen: Seen | None) -> dict[str, Any] | None:
    """As JSON; None: nothing was said yet."""
    if seen is None:
        return None
    prediction, labels = seen.prediction, seen.labels
    told: dict[str, Any] = {
        "at": seen.outcome.captured_at.isoformat(timespec="milliseconds"),
        "source": seen.observation.source,
        "name": seen.observation.name,
        "model": seen.outcome.model,
        "label": seen.outcome.label_name,
        "confidence": round(prediction.confidence, 6),
        "value": seen.outcome.value,
        "uncertain": seen.outcome.uncertain,
        "latency_ms": round(prediction.latency_ms, 3),
    }
    if prediction.ranked:
        told["ranked"] = [{"label": labels[item], "confidence": round(share, 6)} for item, share in prediction.ranked[:MOST]]
    if prediction.boxes:
        told["boxes"] = [
            {
                "label": labels[box.label],
                "score": round(box.score, 6),
                "box": [round(side, 6) for side in (box.left, box.top, box.right, box.bottom)],
            }
            for box in prediction.boxes[:MOST]
        ]
    if prediction.values:
        told["values"] = _named(seen)
    return told


def _named(seen: Seen) -> Mapping[str, float | None]:
    names = seen.output.names if isinstance(seen.output, Values) else ()
    pairs = zip(names[:MOST], seen.prediction.values, strict=False)
    return {name: value if math.isfinite(value) else None for name, value in pairs}
