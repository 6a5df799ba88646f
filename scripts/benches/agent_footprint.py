"""What the agent with its worker costs: memory (PSS) while it infers, and time from start to first inference, with no network.

The reference is a bare Python process that imports the same runtime and runs the same model file in a loop.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from edge_agent.infer import golden, runtimes
from edge_agent.update.slots import SlotRecord, Slots
from protos.contract import codec
from protos.contract.ids import ModelName, digest_of
from protos.contract.twin import ModelAssignment
from scripts.benches._figures import figure
from scripts.benches._networks import manifest_for, onnx_network

SIDE = 96
BARE = """
import os, sys
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(open(sys.argv[1], "rb").read(), options, providers=["CPUExecutionProvider"])
tensor = numpy.zeros((1, 3, 96, 96), numpy.float32)
session.run(None, {"input": tensor})
print("first inference", flush=True)
for _ in range(200):
    session.run(None, {"input": tensor})
print("steady", flush=True)
sys.stdin.read()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    rounds = 3 if parser.parse_args().quick else 9
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        model = _install(home)
        pairs = [(_agent(home), _bare(model)) for _ in range(rounds)]
    pss, start = ([(ours[i], bare[i]) for ours, bare in pairs] for i in (0, 1))
    for name, unit, values, aim in (
        ("PSS of the agent and its worker, a model loaded, inferring 10 frames/s", "MB", pss, "<= 100 MB"),
        ("process start to first inference, no network", "s", start, "< 1 s"),
    ):
        ours, bare = (statistics.median(pair[i] for pair in values) for i in (0, 1))
        figure("agent-footprint", name, ours, unit, reference=bare, aim=aim)


def _install(home: Path) -> Path:
    """Frames to look at and a committed model in a slot, as an update leaves them; returns the model file."""
    (home / "frames").mkdir()
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (20, SIDE, SIDE, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(home / "frames" / f"{i:02d}.png")
    model = onnx_network(side=SIDE, width=24)
    draft = manifest_for(model, side=SIDE)
    runtime = runtimes.load(draft.format, model, 1)
    expected = codec.encode_golden(golden.make([np.zeros((SIDE, SIDE, 3), np.uint8)], runtime, draft.input))
    manifest = codec.encode_manifest(manifest_for(model, side=SIDE, golden=expected))
    slots = Slots(home / "data" / "models")
    slot = slots.other()
    assignment = ModelAssignment(
        name=ModelName("bench"), version=1, manifest_digest=digest_of(manifest), manifest_size_bytes=len(manifest)
    )
    slots.prepare(slot, SlotRecord(assignment=assignment, generation=1, good=True))
    for path, data in ((slot.manifest, manifest), (slot.model, model), (slot.golden, expected)):
        path.write_bytes(data)
    slots.activate(slot)
    return slot.model


def _agent(home: Path) -> tuple[float, float]:
    """(PSS in MB of it and its worker, seconds to first inference)."""
    (home / "agent.yaml").write_text(
        f"data_dir: {home / 'data'}\nsource: {{kind: folder, path: {home / 'frames'}, loop: true, fps: 10}}\n"
    )
    command = [str(Path(sys.executable).parent / "edge-agent"), "run", "--config", str(home / "agent.yaml")]
    started = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        first = _until(process, process.stderr, "first inference") - started
        time.sleep(3)  # every thread is up, the spool has committed
        return sum(map(_pss_mb, (process.pid, *_children(process.pid)))), first
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _bare(model: Path) -> tuple[float, float]:
    started = time.perf_counter()
    command = [sys.executable, "-c", BARE, str(model)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    first = _until(process, process.stdout, "first inference") - started
    _until(process, process.stdout, "steady")
    pss = _pss_mb(process.pid)
    process.communicate("")
    return pss, first


def _until(process: "subprocess.Popen[str]", stream: object, word: str) -> float:
    for line in stream:  # type: ignore[attr-defined]
        if word in line:
            return time.perf_counter()
    raise SystemExit(f"agent-footprint: the process ended with {process.wait()} before '{word}'")


def _children(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


def _pss_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1024 / 1e6


if __name__ == "__main__":
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    main()
