"""From the moment a device is asked for a new model to the first frame that model has answered, with nothing left out.

A real hub with its broker and a real agent, as they are run: the desired twin goes through the outbox and the broker, both
repositories are asked and checked, the files come over gRPC with mTLS, the golden run is made in its jail, the model is put on
trial. Probation comes after that and is not in the figure. The reference, in turns with it, is what no agent can do without:
two fresh processes that import the runtime, load the same file and infer once, one after the other, because what was never run
may not run in the worker that serves.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from cloud_hub.app import setup
from cloud_hub.app.bootstrap import make_services
from cloud_hub.core import config as configuration
from cloud_hub.core.model import Baseline, ModelVersion, Principal, Role, Variant
from cloud_hub.rpc.services import Services
from cloud_hub.services.readings import ReadingFilter
from cloud_hub.services.registry import PublishedVersion
from cloud_hub.store.database import Database
from edge_agent.core.clock import SystemClock
from edge_agent.infer import golden, runtimes
from protos.contract import codec
from protos.contract.ids import DeviceId, digest_of
from protos.contract.twin import ModelAssignment
from scripts.benches._figures import figure
from scripts.benches._networks import CLASSES, manifest_for, onnx_network
from scripts.demonstration.processes import Hubctl, Programs, free_port, write_yaml

SIDE, WIDTH = 96, 24
FPS = 50.0
DEVICE = DeviceId("bench-1")
BOARD = "camera-x86"
ADMIN = Principal(role=Role.ADMIN, name="bench")
DEADLINE_S = 120.0
PROBATION_S = 0.5
BARE = """
import os, sys
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(open(sys.argv[1], "rb").read(), options, providers=["CPUExecutionProvider"])
session.run(None, {"input": numpy.zeros((1, 3, 96, 96), numpy.float32)})
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """What is measured, and how it is asked."""

    programs: Programs
    database: Database
    services: Services


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    rounds = 3 if parser.parse_args().quick else 9
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        programs = Programs(home)
        try:
            field = _begin(home, programs)
            network = onnx_network(side=SIDE, width=WIDTH)
            _update(field, network, 0)  # the first model of a new device
            pairs = [(_update(field, network, number), _bare(home, network)) for number in range(1, rounds + 1)]
        finally:
            programs.stop()
    ours, bare = ([pair[i] for pair in pairs] for i in (0, 1))
    name = f"offer to first inference on the new model, {len(network) >> 10} KiB"
    figure("update-time", f"{name}, median of {rounds}", statistics.median(ours), "s", reference=statistics.median(bare))
    figure("update-time", f"{name}, slowest of {rounds}", max(ours), "s", reference=max(bare))


def _begin(home: Path, programs: Programs) -> Field:
    """A hub that serves, an agent that is enrolled with it and runs."""
    hub = {
        "data_dir": str(home / "hub"),
        "grpc": {"port": free_port(), "enroll_port": free_port(), "token_port": free_port()},
        "broker": {"port": free_port(), "kind": "mosquitto"},
        "metrics": {"port": free_port()},
    }
    config_path = write_yaml(home / "hub.yaml", hub)
    programs.run("init", "cloud-hub", "init", "--config", config_path)
    programs.start("hub", "cloud-hub", "serve", "--config", config_path)
    _wait(lambda: '"message": "ready"' in (home / "hub.log").read_text(), "a ready hub", programs)
    hubctl = Hubctl(home / "hub" / "admin" / "hubctl.yaml")
    hubctl("trust", "init", "--keys", home / "root-keys")
    hubctl("device", "create", DEVICE, "--board", BOARD, "--ticket", home / "ticket.json")
    programs.run("enroll", "edge-agent", "enroll", "--ticket", home / "ticket.json", "--data-dir", home / "agent")
    programs.start("agent", "edge-agent", "run", "--config", _agent(home))
    config = configuration.load(config_path, {})
    database = setup.open_database(config)
    services = make_services(config, database, setup.open_authority(config), SystemClock())
    return Field(programs=programs, database=database, services=services)


def _agent(home: Path) -> Path:
    (home / "frames").mkdir()
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (20, SIDE, SIDE, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(home / "frames" / f"{i:02d}.png")
    return write_yaml(
        home / "agent.yaml",
        {
            "data_dir": str(home / "agent"),
            "source": {"kind": "folder", "path": str(home / "frames"), "loop": True, "fps": FPS},
            "capture": {"control_rate": 0.0},
            "spool": {"linger_s": 0.2},
            "sync": {"report_s": 1.0},
            "update": {"probation_s": PROBATION_S, "probation_inferences": 5, "max_latency_ratio": 1e6},
        },
    )


def _update(field: Field, network: bytes, number: int) -> float:
    """Seconds, by the clock that agent and hub share."""
    services, programs = field.services, field.programs
    published = _publish(services, network, number)
    variant = published.variants[0]
    assignment = ModelAssignment(
        name=published.name,
        version=published.version,
        manifest_digest=variant.manifest_digest,
        manifest_size_bytes=variant.manifest_size_bytes,
    )
    asked = datetime.now(UTC)
    with field.database.write() as tx:  # as a rollout does
        services.fleet.set_desired(tx, DEVICE, assignment)
    _wait(lambda: _committed(services, assignment), f"the commit of version {published.version}", programs)
    return (_first(services, assignment, asked, programs) - asked).total_seconds()


def _publish(services: Services, network: bytes, number: int) -> ModelVersion:
    """A version with other bytes than all before it."""
    model = onnx.load_from_string(network)
    model.doc_string = f"number {number}"
    artifact = model.SerializeToString()
    draft = manifest_for(artifact, side=SIDE)
    frames = [np.zeros((SIDE, SIDE, 3), np.uint8)]
    expected = codec.encode_golden(golden.make(frames, runtimes.load(draft.format, artifact, 1), draft.input))
    version = services.registry.reserve(draft.name)
    manifest = codec.encode_manifest(replace(manifest_for(artifact, side=SIDE, golden=expected), version=version))
    for blob in (manifest, artifact, expected):
        services.artifacts.put(blob)
    variant = Variant(
        target="onnx-fp32",
        manifest_digest=digest_of(manifest),
        manifest_size_bytes=len(manifest),
        artifact_digest=digest_of(artifact),
        artifact_size_bytes=len(artifact),
        golden_digest=digest_of(expected),
        score=0.9,
        metric="accuracy",
        latency_p50_ms=1.0,
        output_error=0.0,
    )
    share = (1 / CLASSES,) * CLASSES
    labels = draft.output.labels
    return services.registry.publish(
        PublishedVersion(
            name=draft.name,
            version=version,
            task=draft.task,
            variants=(variant,),
            baseline=Baseline(labels=labels, label_share=share, confidence_share=(0.1,) * 10, confidence_mean=0.5, samples=100),
            report={},
            job_id=f"bench-{number}",
        )
    )


def _committed(services: Services, assignment: ModelAssignment) -> bool:
    twin = services.fleet.get(ADMIN, DEVICE).reported
    if twin is None or twin.update is None or twin.update.model != assignment:
        return False
    if twin.update.reason:
        raise SystemExit(f"update-time: the device says {twin.update.state.name}: {twin.update.reason}")
    return twin.model == assignment and twin.update.state.name == "COMMITTED"


def _first(services: Services, assignment: ModelAssignment, since: datetime, programs: Programs) -> datetime:
    """When the first frame was seen that the model has answered, once everything of that time has come."""
    wanted = ReadingFilter(device=DEVICE, since=since, until=since + timedelta(days=1), model=assignment.manifest_digest)

    def found() -> list[datetime]:
        pages = services.readings.query(ADMIN, wanted, limit=100_000)
        return [reading.captured_at for page in pages for reading in page]

    _wait(lambda: len(found()) > FPS * PROBATION_S, "telemetry of the new model", programs)
    return min(found())


def _bare(home: Path, network: bytes) -> float:
    path = home / "bare.onnx"
    path.write_bytes(network)
    started = time.perf_counter()
    for _ in range(2):
        subprocess.run([sys.executable, "-c", BARE, str(path)], check=True)
    return time.perf_counter() - started


def _wait(condition: Callable[[], object], what: str, programs: Programs) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        programs.check()
        if time.monotonic() > deadline:
            raise SystemExit(f"update-time: waited {DEADLINE_S:.0f} s for {what}")
        time.sleep(0.02)


if __name__ == "__main__":
    main()
