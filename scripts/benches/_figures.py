"""How a bench says what it measured: one JSON line per figure."""

import json


def figure(
    bench: str, name: str, value: float, unit: str, *, reference: float | None = None, ratio: float | None = None, aim: str = ""
) -> None:
    """``reference`` was measured in the same run; ``ratio`` defaults to value / reference."""
    if ratio is None and reference:
        ratio = value / reference
    line = {"bench": bench, "figure": name, "value": _short(value), "unit": unit, "reference": _short(reference)}
    print(json.dumps(line | {"ratio": _short(ratio), "aim": aim}), flush=True)


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
