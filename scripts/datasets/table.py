"""``scripts/tasks``: every example trained on its real data, as a row of a table."""

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloud_hub.pipeline.retrain import Published, retrain
from scripts.datasets import Example, examples, folder

_TARGETS = ("onnx-fp32", "onnx-int8", "tflite-fp32", "tflite-int8")
_HEAD = (
    "example",
    "task",
    "data",
    "metric",
    "network",
    "onnx-int8",
    "tflite-int8",
    "reference",
    "KiB fp32/int8 onnx, tflite",
    "ms fp32/int8 onnx, tflite",
    "train s",
    "gate",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/tasks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="examples; without a name all of them")
    parser.add_argument("--quick", action="store_true", help="a few epochs each: shows that it works, not how well")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of Markdown")
    parser.add_argument("--list", action="store_true", help="the examples there are")
    asked = parser.parse_args()
    known = {each.name: each for each in examples()}
    if asked.list:
        print("\n".join(f"{each.name}: {each.data}" for each in known.values()))
        return 0
    if unknown := [name for name in asked.names if name not in known]:
        parser.error(f"no example {unknown[0]!r}; there are {', '.join(known)}")
    logging.disable(logging.WARNING)
    if not asked.json:
        print("| " + " | ".join(_HEAD) + " |\n|" + "---|" * len(_HEAD), flush=True)
    failed = False
    for name in asked.names or known:
        row = row_of(known[name], quick=asked.quick)
        print(json.dumps(row) if asked.json else _markdown(row), flush=True)
        failed |= bool(row["reason"]) and not asked.quick
    return int(failed)


def row_of(example: Example, *, quick: bool) -> dict[str, Any]:
    """Train, export and verify it; the row as JSON."""
    spec = example.spec(quick=quick)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        made = retrain(spec, example.labels, example.samples(folder()), folder=Path(scratch), reserve=lambda: 1)
    report: Any = made.report
    metric = report["metric"]
    own, variants = report["student"]["test"], report["variants"]
    return {
        "example": example.name,
        "task": spec.task,
        "data": example.data,
        "samples": report["data"]["splits"],
        "metric": metric,
        "teacher": report["teacher"]["test"][metric],
        "network": own[metric],
        **{target: variants[target][metric] for target in _TARGETS if target in variants},
        "reference": example.reference,
        "figures": {name: own[name] for name in example.figures if name in own},
        "size_bytes": {target: item["size_bytes"] for target, item in variants.items()},
        "latency_p50_ms": {target: item["latency_p50_ms"] for target, item in variants.items()},
        "output_error": {target: item["output_error"] for target, item in variants.items()},
        "seconds": round(time.monotonic() - started, 1),
        "stages_s": report["stages_s"],
        "reason": "" if isinstance(made, Published) else made.reason,
        "refused": report["refused"],
    }


def _markdown(row: Mapping[str, Any]) -> str:
    figures = "".join(f"; {name} {_short(value)}" for name, value in row["figures"].items())
    cells = (
        row["example"],
        row["task"],
        row["data"],
        row["metric"],
        f"{row['network']:.4g}{figures}",
        *(f"{row[target]:.4g}" if target in row else "-" for target in ("onnx-int8", "tflite-int8")),
        row["reference"],
        _pairs(row["size_bytes"], lambda value: f"{value / 1024:.0f}"),
        _pairs(row["latency_p50_ms"], lambda value: f"{value:.3f}"),
        str(row["seconds"]),
        row["reason"] or ("; ".join(f"{name}: {why}" for name, why in row["refused"].items()) or "passes"),
    )
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"


def _pairs(values: Mapping[str, float], shown: Any) -> str:
    said = [
        [shown(values[f"{kind}-{form}"]) for form in ("fp32", "int8") if f"{kind}-{form}" in values]
        for kind in ("onnx", "tflite")
    ]
    return ", ".join("/".join(pair) for pair in said if pair)


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}: {_short(each)}" for name, each in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
