"""What a sample holds, for people and scripts."""

from typing import Any

from protos.v1 import datasets_pb2 as pb

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 40  # of a curve
_SHOWN = 32  # channels


def shown(content: bytes, kind: int) -> Any:
    """A row as it is, a text as it is, of a window each channel's range and curve; of an image its size in bytes."""
    from protos.contract.errors import InvalidMessage
    from protos.contract.samples import decode_row, decode_text, decode_window

    try:
        if kind == pb.SAMPLE_KIND_TEXT:
            return decode_text(content)
        if kind == pb.SAMPLE_KIND_ROW:
            return {name: list(cell) if isinstance(cell, tuple) else cell for name, cell in decode_row(content).items()}
        if kind == pb.SAMPLE_KIND_WINDOW:
            window = decode_window(content)
            told: dict[str, Any] = {"steps": len(window.values)}
            for name, values in list(zip(window.channels, window.values.T, strict=True))[:_SHOWN]:
                told[name] = _curve(values)
            return told
    except InvalidMessage as error:
        return f"cannot be read: {error}"
    return f"{len(content)} bytes"


def _curve(values: Any) -> str:
    import numpy as np

    there = values[np.isfinite(values)]
    if not len(there):
        return "missing"
    low, high = float(there.min()), float(there.max())
    parts = [part[np.isfinite(part)] for part in np.array_split(values, min(_WIDTH, len(values)))]
    heights = [(float(part.mean()) - low) / ((high - low) or 1.0) if len(part) else None for part in parts]
    curve = "".join(" " if height is None else _BARS[round(height * (len(_BARS) - 1))] for height in heights)
    gaps = f", {len(values) - len(there)} missing" if len(there) < len(values) else ""
    return f"{curve} {low:.4g}..{high:.4g}{gaps}"
