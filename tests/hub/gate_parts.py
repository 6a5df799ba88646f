"""A fleet in the field under gates: devices run versions, see things and report; a hub folds and judges on its own clock."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from cloud_hub.archive.engine import Engine
from cloud_hub.archive.files import open_files
from cloud_hub.core.config import DriftConfig, TelemetryConfig
from cloud_hub.core.datasets import Holding, LabelOrigin
from cloud_hub.core.gates import GateVerdict
from cloud_hub.core.model import DeviceEvent, Rollout, RolloutState, Sample
from cloud_hub.core.rollout_spec import of_values
from cloud_hub.core.tasks import Annotation
from cloud_hub.services.folding import Fold
from cloud_hub.services.gate_judge import GateJudge
from cloud_hub.store import datasets, events, landing
from cloud_hub.store.database import Tx
from protos.contract import codec, ids
from protos.contract.ids import Digest
from protos.contract.inputs import SampleKind
from protos.contract.telemetry import FLAG_UNCERTAIN, Batch, Event, InferenceTable, Lane, to_ms
from protos.contract.twin import Health, ReportedTwin
from tests.hub.fleet_parts import ADMIN, LABELS, SIGNS, TENANT, Device, Hub

STEP_S = 5.0
FPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """How a version does on what is before the cameras."""

    confidence: float = 0.9
    uncertain: float = 0.1  # share of the readings
    latency_ms: float = 4.0
    errors: float = 0.0  # share of the inferences
    labels: tuple[float, float] = (0.5, 0.5)


@dataclass
class Camera:
    """A device, and what it has sent and counted."""

    device: Device
    sequence: int = 0
    inferences: int = 0
    errors: int = 0
    boot: str = "b1"
    on: bool = True

    @property
    def version(self) -> int:
        return self.device.runs.version if self.device.runs is not None else 0


@dataclass
class Field:
    """``sight`` says how each version does; it may be changed at any time."""

    folder: Path
    database_url: str
    devices: int = 4
    sight: dict[int, Sight] = field(default_factory=lambda: {1: Sight(), 2: Sight()})
    ahead_s: float = 0.0  # of the clocks of devices, in what they say besides readings

    def __post_init__(self) -> None:
        self.hub = Hub(self.folder, database_url=self.database_url)
        self.clock = self.hub.clock
        for _ in self.sight:
            self.hub.publish()
        self.rng = np.random.default_rng(4)
        telemetry = TelemetryConfig()
        self.engine = Engine(open_files(telemetry, self.folder), telemetry, self.folder / "spill")
        self.fold, self.judge = self.folding(), GateJudge(self.hub.db, self.engine, self.clock, busy=lambda: 0.0)
        self.cameras = [Camera(self.hub.device(f"cam-{i}")) for i in range(self.devices)]
        for camera in self.cameras:
            camera.device.online()
        self.hub.rollouts.create(ADMIN, SIGNS, 1, {})
        self.settle()

    def folding(self) -> Fold:
        """Another process that folds."""
        return Fold(self.hub.db, DriftConfig(), self.clock)

    def close(self) -> None:
        self.hub.db.close()

    # -- what happens --------------------------------------------------------------------------------------------------

    def roll_out(self, *gates: dict[str, Any], canary: int = 2, soak_s: int = 60, **more: Any) -> str:
        """Version 2, to so many devices first; the id."""
        values = {"model": SIGNS, "version": 2, "waves": [{"count": canary}], "soak_s": soak_s, "gates": list(gates)}
        id = self.hub.rollouts.launch(ADMIN, of_values(values | more)).id
        self.settle()
        return id

    def settle(self) -> None:
        """Every device that is asked for something takes it."""
        self.hub.tick()
        for camera in self.cameras:
            if camera.on and camera.device.receives() is not None and camera.device.desired().model is not None:
                camera.device.commits()

    def goes_by(self, seconds: float, *, until: Callable[[], bool] = lambda: False) -> None:
        """Frames come, devices report, the hub does its rounds."""
        for _ in range(round(seconds / STEP_S)):
            self.clock.advance(STEP_S)
            running = [camera for camera in self.cameras if camera.on and camera.device.runs is not None]
            self._land([(camera, self._infers(camera)) for camera in running])
            with self.hub.db.write() as tx:
                for camera in running:
                    self._reports(tx, camera)
            self.rounds()
            self.settle()
            if until():
                return

    def rounds(self) -> None:
        self.fold.tick()
        self.judge.tick(self.clock.now())
        self.hub.rollouts.tick(self.clock.now())

    def device_now(self) -> datetime:
        return self.clock.now() + timedelta(seconds=self.ahead_s)

    def restarts(self, camera: Camera) -> None:
        """Its counters begin again."""
        camera.boot, camera.inferences, camera.errors = f"{camera.boot}x", 0, 0

    def tells(self, camera: Camera, kind: str, detail: str = "") -> None:
        """An event of the device, now."""
        event = Event(sequence=camera.sequence, at=self.device_now(), kind=kind, detail=detail)
        last = camera.sequence
        self._land([(camera, Batch(epoch="e1", lane=Lane.NORMAL, first_sequence=last, last_sequence=last, events=(event,)))])

    def sampled(
        self,
        cameras: Iterable[int],
        *,
        share_right: float,
        count: int,
        reason: str = "control",
        origin: LabelOrigin = LabelOrigin.HUMAN,
    ) -> None:
        """So many samples, taken just now by these cameras in turn, come with their labels."""
        which = list(cameras)
        with self.hub.db.write() as tx:
            if datasets.labels_of(tx, TENANT, "signs") is None:
                holding = Holding(name="signs", kind=SampleKind.IMAGE, annotation=Annotation.CLASS, labels=LABELS)
                datasets.add(tx, TENANT, holding, self.clock.now())
            for number in range(count):
                right = number < round(share_right * count)
                digest = ids.digest_of(f"image {reason} {origin} {self.clock.now()} {number}".encode())
                datasets.add_sample(tx, TENANT, self._sample(which[number % len(which)], digest, right, reason, origin))

    def _sample(self, camera: int, digest: Digest, right: bool, reason: str, origin: LabelOrigin) -> Sample:
        return Sample(
            id=datasets.sample_id(TENANT, "signs", digest),
            dataset="signs",
            digest=digest,
            label=LABELS[0],
            source="",
            split="",
            name="",
            device=self.cameras[camera].device.id,
            reason=reason,
            predicted=LABELS[0] if right else LABELS[1],
            confidence=0.9,
            captured_at=self.clock.now() - timedelta(seconds=1),
            created_at=self.clock.now(),
            labelled_at=self.clock.now(),
            origin=origin,
            labelled_by="ada",
        )

    # -- what came of it -----------------------------------------------------------------------------------------------

    def events(self, camera: Camera) -> list[DeviceEvent]:
        with self.hub.db.read() as tx:
            return events.newest(tx, TENANT, camera.device.id, 100)

    def rollout(self, id: str) -> Rollout:
        return self.hub.rollouts.get(ADMIN, id)

    def ended(self, id: str) -> bool:
        return self.rollout(id).state is not RolloutState.RUNNING

    def versions(self) -> list[int]:
        return [camera.version for camera in self.cameras]

    def verdict(self, id: str) -> GateVerdict:
        with self.hub.db.read() as tx:
            return self.hub.rollouts._gates.look(tx, id, self.clock.now())

    # -- a device ------------------------------------------------------------------------------------------------------

    def _infers(self, camera: Camera) -> Batch:
        sight, tried = self.sight[camera.version], round(STEP_S * FPS)
        bad = int(self.rng.binomial(tried, sight.errors))
        camera.inferences += tried - bad
        camera.errors += bad
        return self._batch(camera, sight, tried - bad)

    def _reports(self, tx: Tx, camera: Camera) -> None:
        now = self.clock.now()
        health = Health(started_at=now, inferences=camera.inferences, inference_errors=camera.errors)
        twin = ReportedTwin(
            generation=camera.device.acted_on,
            boot_id=camera.boot,
            agent_version="1",
            board=camera.device.board,
            at=self.device_now(),
            health=health,
            runtimes=("onnx", "tflite"),
            model=camera.device.runs,
            update=camera.device.last,
        )
        self.hub.fleet.on_reported(tx, TENANT, camera.device.id, twin)
        self.hub.rollouts.on_reported(tx, camera.device.id, twin)

    def _batch(self, camera: Camera, sight: Sight, count: int) -> Batch:
        assert camera.device.runs is not None
        first = camera.sequence
        uncertain = self.rng.random(count) < sight.uncertain
        table = InferenceTable(
            sequence=np.arange(first, first + count, dtype="<u8"),
            captured_at_ms=to_ms(self.clock.now()) - 100 * np.arange(count, 0, -1, dtype="<i8"),
            label=self.rng.choice(2, count, p=sight.labels).astype("<u2"),
            confidence=np.clip(self.rng.normal(sight.confidence, 0.04, count), 0, 1).astype("<f4"),
            latency_ms=(sight.latency_ms * self.rng.uniform(0.8, 1.2, count)).astype("<f4"),
            flags=(FLAG_UNCERTAIN * uncertain).astype("u1"),
            frame_key=np.zeros(count, dtype="<u8"),
            model=np.zeros(count, dtype="u1"),
            models=(camera.device.runs.manifest_digest,),
        )
        return Batch(epoch="e1", lane=Lane.NORMAL, first_sequence=first, last_sequence=first + count - 1, inferences=table)

    def _land(self, sent: Sequence[tuple[Camera, Batch]]) -> None:
        rows = [
            landing.Batch(
                tenant=TENANT,
                device=camera.device.id,
                digest=ids.digest_of(payload := codec.encode_batch(batch)),
                received_ms=to_ms(self.clock.now()),
                payload=payload,
                **batch.head._asdict(),
            )
            for camera, batch in sent
        ]
        with self.hub.db.append() as tx:
            landing.land_many(tx, rows)
        for camera, batch in sent:
            camera.sequence = batch.last_sequence + 1


def a_field(folder: Path, database_url: str) -> Iterator[Field]:
    """For a fixture."""
    made = Field(folder, database_url)
    yield made
    made.close()


def worse(field: Field, **changed: Any) -> None:
    """Version 2, from now on."""
    field.sight[2] = replace(field.sight[2], **changed)
