"""Two processes of this machine that train one network together, against one with all the cores: rate, accuracy, start.

Over the network's own seconds, as its checkpoint counts them; what starting the processes takes stands beside it. Both see the
same batches and train until the network knows its classes: only then does its accuracy say whether they learn as much.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from cloud_hub.core.spec import parse
from cloud_hub.pipeline import learn, parallel
from cloud_hub.pipeline import task as tasks
from scripts.benches._figures import figure
from scripts.benches.quantized import _digits, _signs

BENCH = "ddp"
SPEC = """
name: bench
data: {dataset: bench}
preprocess: {width: 32, height: 32}
teacher: {width: WIDTH, epochs: EPOCHS}
train: {augment: [shift], patience: 1000, batch_size: BATCH}
"""
_PROCESSES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="scikit-learn's digits and a small network: rougher figures")
    quick = parser.parse_args().quick
    sizes = {"WIDTH": "8", "EPOCHS": "6", "BATCH": "64"} if quick else {"WIDTH": "32", "EPOCHS": "20", "BATCH": "256"}
    text = SPEC
    for name, size in sizes.items():
        text = text.replace(name, size)
    task = tasks.make(parse(text))
    samples = list(_digits() if quick else _signs() or _digits())
    labels = tuple(sorted({sample.label for sample in samples}))
    splits = task.load(labels, samples)
    rates, scores, waits = {}, {}, {}
    for count in (1, _PROCESSES):
        with tempfile.TemporaryDirectory(prefix="bench-ddp-") as name:
            folder = Path(name)
            lesson = learn.teachers(task, splits, folder)[0]
            fit = learn.alone if count == 1 else parallel.by_processes(count, folder, None)
            started = time.perf_counter()
            fitted = fit(lesson, splits, lambda fraction, line: None, parallel.unheard)
            waits[count] = time.perf_counter() - started - fitted.seconds
            rates[count] = len(splits.train) * fitted.epochs / fitted.seconds
            scores[count] = fitted.value
    cores = f"{torch.get_num_threads()} threads"
    figure(BENCH, f"{_PROCESSES} processes, {cores} in all", rates[_PROCESSES], "samples/s", reference=rates[1], aim=">= 1.1")
    figure(BENCH, "validation accuracy", scores[_PROCESSES], "share", reference=scores[1], aim=">= 0.97")
    figure(BENCH, "start of the processes", waits[_PROCESSES], "s", reference=waits[1])


if __name__ == "__main__":
    main()
