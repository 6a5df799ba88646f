"""What the agent adds to inference: frames a second through perceive -> decide -> durable spool, against the bare runtime loop.

The agent has its model in a worker process; the bare loop runs the same 96x96 network in this one, in the same ONNX Runtime
session settings (one thread), on the same frames, in turns: one network of a MobileNet's cost, and a much smaller one, on which
every microsecond shows.
"""

import argparse
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import numpy as np

from edge_agent.app.keep import Keeper
from edge_agent.app.meter import Meter
from edge_agent.app.perceive import Active, Perceiver
from edge_agent.core.budget import Budget
from edge_agent.core.clock import SystemClock
from edge_agent.core.config import CaptureConfig, SpoolConfig
from edge_agent.core.model import Observation
from edge_agent.core.ports import Runtime
from edge_agent.decide.policy import Policy
from edge_agent.decide.store import CaptureFolder
from edge_agent.infer import runtimes
from edge_agent.infer.model import Model
from edge_agent.infer.preprocess import preprocess
from edge_agent.infer.remote import RemoteRuntime
from edge_agent.spool.sqlite import SqliteSpool
from protos.contract.manifest import Manifest
from scripts.benches._figures import figure
from scripts.benches._networks import manifest_for, onnx_network

SIDE = 96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    rounds = 11 if parser.parse_args().quick else 41
    for width, frames, aim in ((72, 100, ">= 0.95 of the bare runtime loop"), (24, 1000, "")):  # turns of a third of a second
        with tempfile.TemporaryDirectory() as folder:
            _run(Path(folder), rounds, frames, width, aim)


def _run(folder: Path, rounds: int, count: int, width: int, aim: str) -> None:
    model = onnx_network(side=SIDE, width=width)
    manifest = manifest_for(model, side=SIDE)
    pixels = np.random.default_rng(0).integers(0, 256, (64, SIDE, SIDE, 3), dtype=np.uint8)
    spool = SqliteSpool(folder / "spool.sqlite", SpoolConfig(), SystemClock())
    keeper = Keeper(CaptureFolder(folder / "captures", 1 << 20), spool, Budget(0, SystemClock()))
    perceiver = Perceiver(spool, keeper, SystemClock())
    path = folder / "model"
    path.write_bytes(model)
    remote = RemoteRuntime(manifest, path)
    perceiver.swap(_active(manifest, remote))
    bare = runtimes.load(manifest.format, model, 1)
    tensors = [preprocess(frame, manifest.input) for frame in pixels]
    now = datetime.now(UTC)
    frames = [Observation(content=p, captured_at=now, source="bench") for p in pixels]

    def reference() -> float:
        started = time.perf_counter()
        for i in range(count):
            bare.run(tensors[i % 64])
        return count / (time.perf_counter() - started)

    def ours() -> float:
        started = time.perf_counter()
        for i in range(count):
            perceiver.see(frames[i % 64])
        spool.flush()  # what is still to be written is paid for in this turn, not in the other way's
        return count / (time.perf_counter() - started)

    reference(), ours()
    pairs = [(ours(), reference()) for _ in range(rounds)]
    assert spool.stats().records == (rounds + 1) * count, "a frame left no record"
    spool.close()
    remote.close()
    alone = statistics.median(b for _, b in pairs)
    figure(
        "agent-overhead",
        f"frames through the agent, each stored in the spool; a network of {1e3 / alone:.1f} ms",
        statistics.median(a for a, _ in pairs),
        "frames/s",
        reference=alone,
        ratio=statistics.median(a / b for a, b in pairs),
        aim=aim,
    )


def _active(manifest: Manifest, runtime: Runtime) -> Active:
    classifier = Model(manifest, runtime)
    capture = CaptureConfig(control_rate=0.0)
    digest = manifest.artifact.digest
    policy = Policy(manifest.output, capture, Random(0), Budget(0, SystemClock()), model=digest)
    return Active(digest=digest, loaded=classifier, policy=policy, meter=Meter())


if __name__ == "__main__":
    main()
