"""A hub as a process of its own, as it is run in earnest, and a version of a model to roll out from it."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cloud_hub.app import setup
from cloud_hub.app.bootstrap import make_services
from cloud_hub.core import config as configuration
from cloud_hub.core.model import Baseline, ModelVersion, Principal, Role, Rollout, Variant
from cloud_hub.rpc.services import Services
from cloud_hub.services.registry import PublishedVersion
from edge_agent.core.clock import SystemClock
from protos.contract import codec
from protos.contract.ids import digest_of, model_name
from protos.contract.inputs import ImageInput, Layout
from protos.contract.manifest import Blob, Format, GoldenRef, Manifest, Precision
from protos.contract.outputs import Classification
from scripts.demonstration.processes import Hubctl, Programs, free_port, write_yaml

START_S = 60.0
MODEL = model_name("bench")
LABELS = ("none", "car", "bicycle", "person")
_ADMIN = Principal(role=Role.ADMIN, name="bench")
_TICKS = os.sysconf("SC_CLK_TCK")


class ServingHub:
    """Serves from its making until ``stop``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.data_dir = folder / "data"
        path = write_yaml(
            folder / "hub.yaml",
            {
                "data_dir": str(self.data_dir),
                "grpc": {"port": free_port(), "enroll_port": free_port(), "token_port": free_port()},
                "broker": {"port": free_port(), "kind": "mosquitto"},
                "metrics": {"port": free_port()},
            },
        )
        self.config = configuration.load(path, {})
        self._programs = Programs(folder)
        self._programs.run("init", "cloud-hub", "init", "--config", path)
        self._programs.start("hub", "cloud-hub", "serve", "--config", path)
        wait(lambda: '"message": "ready"' in (folder / "hub.log").read_text(), "a ready hub", START_S, self._programs.check)
        self.admin = self.data_dir / "admin" / "hubctl.yaml"
        Hubctl(self.admin)("trust", "init", "--keys", folder / "root-keys")
        self._database = setup.open_database(self.config)
        self._services = make_services(self.config, self._database, setup.open_authority(self.config), SystemClock())

    def stop(self) -> None:
        self._database.close()
        self._programs.stop()

    @property
    def services(self) -> Services:
        """Of the same database, in this process."""
        return self._services

    @property
    def pid(self) -> int:
        return self._programs.running["hub"].pid

    @property
    def broker_pid(self) -> int:
        return int((self.data_dir / "broker" / "mosquitto.pid").read_text())

    def rollout(self, id: str) -> Rollout:
        return self._services.rollouts.get(_ADMIN, id)

    def publish(self, model: bytes, golden: bytes) -> ModelVersion:
        """A version whose files are these; nothing looks into them but a device that would run them."""
        registry, store = self._services.registry, self._services.artifacts
        number = registry.reserve(MODEL)
        manifest = codec.encode_manifest(_manifest(number, model, golden))
        for blob in (manifest, model, golden):
            store.put(blob)
        variant = Variant(
            target="onnx-fp32",
            manifest_digest=digest_of(manifest),
            manifest_size_bytes=len(manifest),
            artifact_digest=digest_of(model),
            artifact_size_bytes=len(model),
            golden_digest=digest_of(golden),
            score=0.9,
            metric="accuracy",
            latency_p50_ms=1.0,
            output_error=0.0,
        )
        share = (1 / len(LABELS),) * len(LABELS)
        baseline = Baseline(labels=LABELS, label_share=share, confidence_share=(0.1,) * 10, confidence_mean=0.5, samples=100)
        return registry.publish(
            PublishedVersion(
                name=MODEL,
                version=number,
                task="image-classification",
                variants=(variant,),
                baseline=baseline,
                report={"accuracy": 0.9},
                job_id=f"bench-{number}",
            )
        )


def cpu_s(pid: int) -> float:
    """That a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_mb(pid: int) -> float:
    """The most memory a process ever held."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def wait(condition: Callable[[], bool], what: str, within_s: float, check: Callable[[], None] = lambda: None) -> None:
    deadline = time.monotonic() + within_s
    while True:
        check()
        with suppress(OSError):
            if condition():
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {within_s:.0f} s for {what}")
        time.sleep(0.02)


def _manifest(number: int, model: bytes, golden: bytes) -> Manifest:
    return Manifest(
        name=MODEL,
        version=number,
        task="image-classification",
        artifact=Blob(digest=digest_of(model), size_bytes=len(model)),
        format=Format.ONNX,
        precision=Precision.FP32,
        input=ImageInput(width=8, height=8, channels=3, layout=Layout.NCHW, mean=(0.5,) * 3, std=(0.5,) * 3),
        output=Classification(labels=LABELS, min_confidence=0.5),
        golden=GoldenRef(blob=Blob(digest=digest_of(golden), size_bytes=len(golden)), tolerance=0.1),
    )
