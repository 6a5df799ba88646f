"""A hub's registry and fleet on a real database, and devices that answer as agents do."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cloud_hub.core.config import HubConfig
from cloud_hub.core.model import Baseline, ModelVersion, Principal, Role, Variant
from cloud_hub.services.enrollment import EnrollmentService
from cloud_hub.services.fleet import FleetService
from cloud_hub.services.packages import PackageService
from cloud_hub.services.registry import PublishedVersion, RegistryService
from cloud_hub.services.rollouts import RolloutService
from cloud_hub.services.trust import TrustService
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database
from cloud_hub.trust.authority import Authority
from protos.contract import codec, ids
from protos.contract.ids import DeviceId, TenantId
from protos.contract.inputs import ImageInput, Layout
from protos.contract.manifest import Blob, Format, GoldenRef, Manifest, Precision
from protos.contract.outputs import Classification
from protos.contract.twin import DesiredTwin, Health, ModelAssignment, Presence, ReportedTwin, Status, UpdateStatus
from protos.contract.update import UpdateState
from tests.hub.trust_parts import Holders

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
TENANT = TenantId("default")
ADMIN = Principal(role=Role.ADMIN, name="ada")
STRANGER = Principal(role=Role.ADMIN, name="eve", tenant=TenantId("other"))
SIGNS = ids.model_name("signs")
LABELS = ("stop", "yield")
BOARD = "camera-x86"


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self._now = START
        self._monotonic = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    def leap(self, seconds: float) -> None:
        """The wall clock only."""
        self._now += timedelta(seconds=seconds)


@dataclass
class Hub:
    """Services over one database; ``restarted`` makes new ones on the same files."""

    folder: Path
    clock: Clock = field(default_factory=Clock)
    database_url: str = ""  # empty: a SQLite file in folder

    def __post_init__(self) -> None:
        self.db = Database(self.database_url or f"sqlite:///{self.folder / 'hub.db'}")
        self.db.migrate()
        self.artifacts = ArtifactStore(self.folder / "artifacts")
        self.fleet = FleetService(self.db, self.clock)
        self.registry = RegistryService(self.db, self.artifacts, self.clock)
        self.packages = PackageService(self.db, self.artifacts, self.clock)
        self.rollouts = RolloutService(self.db, self.registry, self.fleet, self.clock, self.packages)
        self.trust = TrustService(self.db, self.folder / "trust" / "keys", self.clock)
        ca = self.folder / "ca"
        self.authority = (Authority.load if ca.exists() else Authority.create)(ca, clock=self.clock)
        self.enrollment = EnrollmentService(self.db, self.authority, self.clock, HubConfig())

    def restarted(self) -> "Hub":
        self.db.close()
        return Hub(self.folder, self.clock, self.database_url)

    def tick(self, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)
        self.sign()
        self.rollouts.tick(self.clock.now())

    def sign(self) -> None:
        """What waits to be signed; the first time with the first roots."""
        if self.trust.roots() is None:
            Holders(self.trust).init(self.clock.now())
        self.trust.tick(self.clock.now())

    def device(self, id: str, *, board: str = BOARD, **labels: str) -> "Device":
        device, token = self.enrollment.create_device(ADMIN, id, board, labels)
        return Device(hub=self, id=device.id, board=board, token=token)

    def publish(self, *targets: str, name: str = SIGNS, job_id: str = "", task: str = "image-classification") -> ModelVersion:
        """A new version with a variant for each target, both int8 ones by default; signed."""
        number = self.registry.reserve(ids.model_name(name))
        version = self.registry.publish(self.unpublished(number, *targets, name=name, job_id=job_id, task=task))
        self.sign()
        return version

    def unpublished(
        self, number: int, *targets: str, name: str = SIGNS, job_id: str = "", task: str = "image-classification"
    ) -> PublishedVersion:
        return PublishedVersion(
            name=ids.model_name(name),
            version=number,
            task=task,
            variants=tuple(self._variant(name, number, task, target) for target in targets or ("onnx-int8", "tflite-int8")),
            baseline=Baseline(
                labels=LABELS, label_share=(0.5, 0.5), confidence_share=(0.1, 0.9), confidence_mean=0.9, samples=100
            ),
            report={"accuracy": 0.97, "parents": ["signs:1"]},
            job_id=job_id,
        )

    def _variant(self, name: str, number: int, task: str, target: str) -> Variant:
        kind, precision = target.split("-")
        artifact, golden = f"{name} {number} {target}".encode(), f"golden {name} {number} {target}".encode()
        manifest = codec.encode_manifest(
            Manifest(
                name=ids.model_name(name),
                version=number,
                task=task,
                artifact=Blob(digest=self.artifacts.put(artifact), size_bytes=len(artifact)),
                format=Format[kind.upper()],
                precision=Precision[precision.upper()],
                input=ImageInput(width=8, height=8, channels=1, layout=Layout.NCHW, mean=(0.5,), std=(0.5,)),
                output=Classification(labels=LABELS),
                golden=GoldenRef(blob=Blob(digest=self.artifacts.put(golden), size_bytes=len(golden)), tolerance=0.1),
            )
        )
        return Variant(
            target=target,
            manifest_digest=self.artifacts.put(manifest),
            manifest_size_bytes=len(manifest),
            artifact_digest=ids.digest_of(artifact),
            artifact_size_bytes=len(artifact),
            golden_digest=ids.digest_of(golden),
            score=0.97,
            metric="accuracy",
            latency_p50_ms=1.5,
            output_error=0.01,
        )


@dataclass
class Device:
    """Takes its desired twin from the outbox, as over the broker, and reports."""

    hub: Hub
    id: DeviceId
    board: str
    token: str
    runs: ModelAssignment | None = None
    acted_on: int = 0
    last: UpdateStatus | None = None

    def online(self, presence: Presence = Presence.ONLINE) -> None:
        status = Status(presence=presence, boot_id="b1", agent_version="1", at=self.hub.clock.now())
        with self.hub.db.write() as tx:
            self.hub.fleet.on_status(tx, TENANT, self.id, status)

    def desired(self) -> DesiredTwin:
        return self.hub.fleet.get(ADMIN, self.id).desired

    def receives(self) -> DesiredTwin | None:
        """The newest desired twin that the broker has not held so far; None: nothing new."""
        for _, id, twin in self.hub.fleet.undelivered():
            if id == self.id:
                self.hub.fleet.delivered(id, twin.generation)
                return twin
        return None

    def report(self, state: UpdateState | None = None, reason: str = "", twin: DesiredTwin | None = None) -> None:
        """What it runs and, with a state, how the update to its desired twin (or to ``twin``) goes."""
        now = self.hub.clock.now()
        if state is not None:
            twin = twin or self.desired()
            assert twin.model is not None
            self.acted_on = twin.generation
            self.last = UpdateStatus(generation=twin.generation, state=state, model=twin.model, at=now, reason=reason)
            if state is UpdateState.COMMITTED:
                self.runs = twin.model
        self.say(
            ReportedTwin(
                generation=self.acted_on,
                boot_id="b1",
                agent_version="1",
                board=self.board,
                at=now,
                health=Health(started_at=now),
                runtimes=("onnx", "tflite", "tflite-legacy"),
                model=self.runs,
                update=self.last,
            )
        )

    def say(self, twin: ReportedTwin) -> None:
        with self.hub.db.write() as tx:
            self.hub.fleet.on_reported(tx, TENANT, self.id, twin)
            self.hub.rollouts.on_reported(tx, self.id, twin)

    def commits(self) -> None:
        self.report(UpdateState.TRIAL)
        self.report(UpdateState.COMMITTED)

    def on(self, hub: Hub) -> "Device":
        return replace(self, hub=hub)
