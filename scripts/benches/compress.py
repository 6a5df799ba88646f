"""What pruning, distillation and int8 save together: the front of the search on digits and on traffic signs.

Everything is held against the uncompressed student in fp32: on the validation split by the search itself, the files it picks on
the test split too. Latency is that of one thread, all files in turns. Traffic signs are left out where they are not at hand
(``TIDELINE_DATA`` or ``../shared/data``).
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from cloud_hub.core.spec import TrainingSpec, parse
from cloud_hub.pipeline import networks, train
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.checkpoint import Checkpoint
from cloud_hub.pipeline.clean import RawSample
from cloud_hub.pipeline.compress.points import Point
from cloud_hub.pipeline.compress.search import search
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.distil import distillation
from cloud_hub.pipeline.progress import SEARCHED, Stages
from cloud_hub.pipeline.task import Loss, Task
from cloud_hub.pipeline.verify import run
from edge_agent.infer.runtimes import load
from scripts.benches._figures import figure
from scripts.benches.quantized import _digits, _signs

BENCH = "compress"
SPEC = """
name: bench
data: {dataset: bench, calibration: 256}
teacher: {width: 24, epochs: EPOCHS}
student: {width: 16, epochs: EPOCHS}
train: {augment: [brightness, noise, shift], patience: 100}
compress: {search: SEARCH, prune: [0, 0.3, 0.5, 0.7], finetune_epochs: TUNED, budget_minutes: 20}
gate: {bound: 0.3, max_drop: 0.02}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few epochs and a small search: rougher figures")
    parser.add_argument("--data", choices=("digits", "gtsrb32"), help="one of the two, for a run in pieces")
    asked = parser.parse_args()
    quick, wanted = asked.quick, [asked.data] if asked.data else ["digits", "gtsrb32"]
    values = {"EPOCHS": "12" if quick else "20", "TUNED": "4" if quick else "8", "SEARCH": "small" if quick else "full"}
    text = SPEC
    for name, value in values.items():
        text = text.replace(name, value)
    if "digits" in wanted:
        _measure("digits", parse(text), list(_digits()))
    if "gtsrb32" in wanted:
        if (signs := _signs()) is None:
            print("compress: gtsrb32 is left out: its files are not at hand", file=sys.stderr)
        else:
            _measure("gtsrb32", parse(text), list(signs)[:: 2 if quick else 1])


def _measure(name: str, spec: TrainingSpec, samples: list[RawSample]) -> None:
    task = tasks.make(spec)
    splits = task.load(tuple(sorted({sample.label for sample in samples})), samples)
    with tempfile.TemporaryDirectory(prefix="bench-compress-") as folder:
        here = Path(folder)
        teacher = _trained(task, splits, spec.teacher, task.loss(splits), here / "teacher")
        student = _trained(task, splits, spec.student, distillation(task, teacher, splits), here / "student")
        stages = Stages(lambda stage, fraction, line, step=None: _tell(fraction, line), shares=SEARCHED)
        with stages.stage("compress"):
            found = search(task, teacher, student, splits, here, stages)
    plain = {point.artifact.target: point for point in found.table if not point.cut.ratio and point.how is None}
    table = found.marked()
    for point in table:
        if point.on_front and point.how is not None:
            _point(f"{name}, front: {_words(point)}", point, plain[_full(point)])
    for point in table:
        if point.picked:
            _picked(f"{name}, picked: {_words(point)}", point, plain[_full(point)], task, splits)
    figure(BENCH, f"{name}: files refused by the gate", sum(bool(point.refused) for point in table), "files")


def _trained(task: Task, splits: Splits, section: Any, loss: Loss, path: Path) -> nn.Module:
    network = task.network(section, splits).to(networks.device())
    checkpoint = Checkpoint(path.with_suffix(".safetensors"), BENCH)
    train.fit(task, network, splits, epochs=section.epochs, loss=loss, checkpoint=checkpoint, tell=_tell)
    return network


def _point(name: str, point: Point, plain: Point) -> None:
    """On the validation split."""
    figure(BENCH, f"{name}: accuracy", point.score.value, "share", reference=plain.score.value)
    figure(BENCH, f"{name}: output error", point.output_error, "of |outputs|", aim="<= 0.1")
    figure(BENCH, f"{name}: file", len(point.artifact.data), "bytes", reference=len(plain.artifact.data))
    latency_ms = point.against_plain[1] * plain.latency_p50_ms
    figure(BENCH, f"{name}: latency (p50, 1 thread)", latency_ms, "ms", reference=plain.latency_p50_ms)


def _picked(name: str, point: Point, plain: Point, task: Task, splits: Splits) -> None:
    """On the test split, which the search has not seen."""
    ours, theirs = (
        task.value(run(load(a.format, a.data), splits.test.contents, splits.input_for(a.layout)), splits.test, splits)
        for a in (point.artifact, plain.artifact)
    )
    _, latency = point.against_plain
    figure(BENCH, f"{name}: test accuracy", ours, "share", reference=theirs, aim=">= 0.98")
    figure(BENCH, f"{name}: file", len(point.artifact.data), "bytes", reference=len(plain.artifact.data), aim="<= 0.35")
    figure(BENCH, f"{name}: speed", 1 / latency, "times fp32", reference=1.0, aim=">= 1")
    figure(BENCH, f"{name}: parameters", point.cut.parameters, "", reference=plain.cut.parameters)
    figure(BENCH, f"{name}: operations", point.cut.macs, "MACs", reference=plain.cut.macs)


def _words(point: Point) -> str:
    return f"{point.cut}, {point.artifact.target} by {point.how}"


def _full(point: Point) -> str:
    return point.artifact.target.replace("int8", "fp32")


def _tell(fraction: float, line: str) -> None:
    if line:  # else only a step is new
        print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
