"""What it costs that models run in a jailed process: latency against the same runtime in this process, in turns, and recovery.

Two networks, one as small as a digit's and one of a MobileNet's cost at 96 x 96, as ONNX and TensorFlow Lite, one thread each.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.ports import Runtime
from edge_agent.infer import jail
from edge_agent.infer.remote import RemoteRuntime
from edge_agent.infer.runtimes import load
from protos.contract.inputs import Layout
from protos.contract.manifest import Format, Manifest
from scripts.benches._figures import figure
from scripts.benches._networks import manifest_for, onnx_network, tflite_network

BENCH = "inference-worker"
TURN = 25  # inferences of one way before the other: one by one, each would find the other's weights in the caches
SIZES = {"a digit's network, 28 x 28": (28, 16), "a MobileNet's cost, 96 x 96": (96, 72)}  # side, width
MAKERS = {Format.ONNX: (onnx_network, Layout.NCHW, "onnx"), Format.TFLITE: (tflite_network, Layout.NHWC, "litert")}
JAIL = """
import time
import numpy, onnxruntime
from edge_agent.infer import jail
started = time.perf_counter()
jail.enter(memory_bytes=1 << 30)
print((time.perf_counter() - started) * 1e3)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    print(f"the jail here: {jail.summary()}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        for format, (make, layout, engine) in MAKERS.items():
            for name, (side, width) in SIZES.items():
                model = make(side=side, width=width)
                manifest = manifest_for(model, side=side, format=format, layout=layout)
                path = Path(folder) / "model"
                path.write_bytes(model)
                _measure(f"{engine}, {name}", manifest, path, rounds=300 if quick else 3000)
    times = [float(subprocess.run([sys.executable, "-c", JAIL], capture_output=True, check=True).stdout) for _ in range(5)]
    figure(BENCH, "entering the jail", statistics.median(times), "ms")


def _measure(name: str, manifest: Manifest, path: Path, *, rounds: int) -> None:
    here = load(manifest.format, path.read_bytes(), 1)
    remote = RemoteRuntime(manifest, path)
    try:
        tensor = np.random.default_rng(0).normal(0, 1, manifest.input.shape).astype(np.float32)
        ours, bare = _in_turns(remote, here, tensor, rounds)
        for share in (50, 95):
            far, near = (float(np.percentile(times, share)) for times in (ours, bare))
            aim = "<= 1.1, or <= 0.2 ms more" if share == 50 else ""
            figure(BENCH, f"{name}: p{share} of an inference ({far - near:+.3f} ms)", far, "ms", reference=near, aim=aim)
        figure(BENCH, f"{name}: CPU of an idle worker", _idle(remote), "ms per s", aim="0")
        again = statistics.median(_recover(remote, tensor) for _ in range(3))
        figure(BENCH, f"{name}: from a kill to the next answer, with the pause before a restart", again, "s", aim="<= 1")
    finally:
        remote.close()


def _in_turns(remote: Runtime, here: Runtime, tensor: NDArray[np.float32], rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each inference."""

    def timed(run: Callable[[NDArray[np.float32]], object]) -> float:
        started = time.perf_counter()
        run(tensor)
        return (time.perf_counter() - started) * 1e3

    ours: list[float] = []
    bare: list[float] = []
    for turn in range(rounds // TURN + 1):
        for run, kept in ((remote.run, ours), (here.run, bare)):
            times = [timed(run) for _ in range(TURN)]
            kept += times if turn else []  # the first turn pays for lazy allocation
    return ours, bare


def _idle(remote: RemoteRuntime, seconds: float = 3.0) -> float:
    before = _cpu_s(remote.pid)
    time.sleep(seconds)
    return (_cpu_s(remote.pid) - before) / seconds * 1e3


def _cpu_s(pid: int | None) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _recover(remote: RemoteRuntime, tensor: NDArray[np.float32]) -> float:
    pid = remote.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    started = time.perf_counter()
    while remote.pid in (None, pid):
        time.sleep(0.002)
    remote.run(tensor)
    return time.perf_counter() - started


if __name__ == "__main__":
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    main()
