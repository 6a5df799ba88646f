"""An agent around the engine that does exactly what it is told, and a hub that lives in a dictionary, with real signatures."""

import contextlib
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from edge_agent.core.backoff import Backoff
from edge_agent.core.config import UpdateConfig
from edge_agent.core.errors import Absent, AgentError, BadModel, Endless, LinkDown, NoTrust, Refused
from edge_agent.core.model import Capture, Happening
from edge_agent.core.ports import Repository as Metadata
from edge_agent.update.components.model import ModelInstaller
from edge_agent.update.engine import UpdateEngine
from edge_agent.update.fetch import Fetcher
from edge_agent.update.installer import Installer
from edge_agent.update.journal import Journal
from edge_agent.update.probation import Vitals
from edge_agent.update.record import Assignment, Component, Effect, Wanted, wanted_by
from edge_agent.update.slots import Slot, Slots
from edge_agent.update.surroundings import Anchor, Interlock, Surroundings
from edge_agent.update.trust import Trust
from protos.contract import codec
from protos.contract.ids import Digest, device_id, digest_of, model_name, tenant_id
from protos.contract.inputs import ImageInput, Layout
from protos.contract.manifest import Blob, Chunks, Format, GoldenRef, Manifest, Precision
from protos.contract.outputs import Classification
from protos.contract.sources import BlobSource
from protos.contract.twin import DesiredTwin, Fit, ModelAssignment
from protos.contract.update import UpdateState
from tests.agent.clocks import ManualClock
from tests.conformance.repository import Ask, Repository

CONFIG = UpdateConfig(probation_s=10.0, probation_inferences=20, max_attempts=3, fetch_timeout_s=600.0, disk_reserve_bytes=1000)
HEALTHY = Vitals(inferences=100, latency_p95_ms=1.0)
FIT = Fit(p50_ms=0.5, p95_ms=1.0, peak_bytes=1 << 20, error=0.1, agreement=1.0)


DEVICE, TENANT, BOARD = device_id("cam-1"), tenant_id("default"), "camera-x86"
Desired = tuple[int, Assignment | None]


@dataclass
class FakeHub:
    """Keeps the promises of ``ports.Hub``; ``faults`` are raised one by one before the downloads that would succeed.

    What it says about releases is signed as a real hub's is, by ``repository``; what stands in ``forged`` goes before.
    """

    repository: Repository
    desired: Callable[[], Desired]  # what the director wants of the device
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    faults: deque[AgentError] = field(default_factory=deque)
    downloaded: list[Digest] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)  # metadata by name
    forged: dict[tuple[Metadata, str], bytes] = field(default_factory=dict)
    forge: Callable[[Ask, bytes], bytes] | None = None  # the director's answer
    before: Callable[[Blob], None] = lambda blob: None
    closed: bool = False

    def download(self, blob: Blob, path: Path, *, chunks: Chunks | None = None, url: str = "") -> None:
        self.before(blob)
        if self.faults:
            raise self.faults.popleft()
        if blob.digest not in self.blobs:
            raise Refused(f"no blob {blob.digest}")
        self.downloaded.append(blob.digest)
        path.write_bytes(self.blobs[blob.digest])

    def metadata(self, repository: Metadata, name: str, max_bytes: int) -> bytes:
        self.asked.append(name)
        signed = self.repository.images if repository is Metadata.IMAGE else self.repository.director
        data = self.forged.get((repository, name), signed.files.get(name))
        if data is None:
            raise Absent(f"no {name}")
        if len(data) > max_bytes:
            raise Endless(f"{name} has more than {max_bytes} bytes")
        return data

    def director(self, nonce: bytes) -> bytes:
        generation, model = self.desired()
        ask = Ask(device=DEVICE, tenant=TENANT, board=BOARD, generation=generation, nonce=nonce)
        if model is not None and model not in self.repository.releases:
            raise LinkDown(f"{model.name}:{model.version} is not released")
        answer = self.repository.director.answer(ask, self.repository.promote(model).targets if model else ())
        return self.forge(ask, answer) if self.forge else answer

    def locate(self, digest: Digest, have: Sequence[Digest], max_decode_bytes: int) -> Sequence[BlobSource]:
        return ()

    def upload(self, capture: Capture) -> None:
        raise AssertionError("an update uploads nothing")

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeRunner:
    """Runs whatever a slot holds; remembers it by the model's bytes, as a real runtime would."""

    running: bytes | None = None
    history: list[bytes | None] = field(default_factory=list)
    health: Vitals = HEALTHY
    refuses: str = ""
    bad_golden: set[bytes] = field(default_factory=set)
    bad_load: set[bytes] = field(default_factory=set)
    verified: int = 0
    during_verify: Callable[[], None] = lambda: None

    def unrunnable(self, manifest: Manifest) -> str:
        return self.refuses

    def verify(self, slot: Slot) -> Fit:
        self.verified += 1
        self.during_verify()
        if slot.model.read_bytes() in self.bad_golden:
            raise BadModel("golden outputs are off by 7, tolerated are 0.1")
        return FIT

    def activate(self, slot: Slot | None) -> None:
        model = slot.model.read_bytes() if slot is not None else None
        if model in self.bad_load:
            raise BadModel("the runtime refuses it")
        self.running = model
        self.history.append(model)

    def vitals(self) -> Vitals:
        return self.health


@dataclass(frozen=True)
class Release:
    """One version of a model as the hub holds it."""

    version: int
    manifest: bytes
    model: bytes
    golden: bytes

    @property
    def assignment(self) -> ModelAssignment:
        return ModelAssignment(
            name=model_name("street"),
            version=self.version,
            manifest_digest=digest_of(self.manifest),
            manifest_size_bytes=len(self.manifest),
        )

    def blobs(self) -> dict[Digest, bytes]:
        return {digest_of(data): data for data in (self.manifest, self.model, self.golden)}

    def desired(self, generation: int) -> DesiredTwin:
        """Of a rollout of its own."""
        return DesiredTwin(generation=generation, model=self.assignment, rollout_id=f"r{generation}")

    def wanted(self, generation: int) -> Wanted:
        """The same, as the journal takes it."""
        wanted = wanted_by(self.desired(generation), Component.MODEL)
        assert wanted is not None
        return wanted

    def publish(self, repository: Repository) -> None:
        if self.assignment not in repository.releases:
            named = SimpleNamespace(name=self.assignment.name, version=self.version, format=Format.ONNX)
            repository.release(
                SimpleNamespace(manifest=named, manifest_bytes=self.manifest, model=self.model, golden_bytes=self.golden)
            )


def release(version: int, *, size: int = 3000) -> Release:
    model, golden = f"model {version};".encode() * (size // 9), f"golden {version};".encode() * 50
    manifest = Manifest(
        name=model_name("street"),
        version=version,
        task="image-classification",
        artifact=Blob(digest=digest_of(model), size_bytes=len(model)),
        format=Format.ONNX,
        precision=Precision.INT8,
        input=ImageInput(width=8, height=8, channels=1, layout=Layout.NCHW, mean=(0.0,), std=(1.0,)),
        output=Classification(labels=("a", "b")),
        golden=GoldenRef(blob=Blob(digest=digest_of(golden), size_bytes=len(golden)), tolerance=0.1),
    )
    return Release(version=version, manifest=codec.encode_manifest(manifest), model=model, golden=golden)


class Device:
    """One data folder; ``restart`` is what a power cut and a boot leave of everything else."""

    def __init__(
        self,
        folder: Path,
        config: UpdateConfig = CONFIG,
        repository: Repository | None = None,
        *,
        others: Sequence[Installer] = (),
    ) -> None:
        self.folder = folder
        self.config = config
        self.clock = ManualClock()
        self.clock.advance(1e6)  # monotonic clocks count from the machine's start, not from ours
        self.repository = repository or Repository(TENANT, self.clock.now)
        self.rooted = True  # the device was given roots of trust
        self.roots = (self.repository.images.root, self.repository.director.root)
        self.hub = FakeHub(self.repository, self.desired)
        self.runner = FakeRunner()
        self.told: list[Happening] = []
        self.states: list[UpdateState] = []
        self.free_bytes = 1 << 30
        self.online = True
        self.on_change: Callable[[], None] = lambda: None
        self.interlocks: list[Interlock] = []
        self.asked_for: list[Effect] = []  # of whoever starts the agent
        self.others: Callable[[], Sequence[Installer]] = lambda: others  # beside the model's
        self.apart: Callable[[Callable[[], None]], None] = lambda act: act()  # where a download is done
        self.start()

    def start(self, *, suspect: bool = False, fall_back: bool = False, cut: bool = False) -> None:
        self.slots = Slots(self.folder / "models")
        self.fetcher = Fetcher(
            lambda: self.hub,
            unrunnable=self.runner.unrunnable,
            free_bytes=lambda path: self.free_bytes,
            reserve_bytes=self.config.disk_reserve_bytes,
        )
        model = ModelInstaller(self.slots, self.runner, self.fetcher, self.config, self.clock, self.told.append)
        self.installers: list[Installer] = [model, *self.others()]
        found = [each for installer in self.installers if (each := installer.found()) is not None]
        self.journal = Journal(self.folder / "updates.sqlite", found, self.clock)
        self.trust = Trust(self.folder / "trust", self.journal.floors, self.clock)
        self.asked_for.clear()
        self.engine = UpdateEngine(
            self.installers,
            self.journal,
            self.config,
            Surroundings(
                anchor=self.anchor,
                verifier=lambda: self.trust,
                online=lambda: self.online,
                clock=self.clock,
                changed=self._changed,
                tell=self.told.append,
                backoff=lambda: Backoff(0.5, 60.0, lambda: 1.0),
                apart=lambda act: self.apart(act),
                again=self.asked_for.append,
                interlocks=self.interlocks,
            ),
        )
        self.engine.boot(suspect=suspect, fall_back=fall_back, cut=cut)

    def restart(self, *, suspect: bool = False, fall_back: bool = False, cut: bool = False) -> None:
        self.journal.close()
        self.runner = FakeRunner(health=self.runner.health, bad_load=self.runner.bad_load, bad_golden=self.runner.bad_golden)
        self.start(suspect=suspect, fall_back=fall_back, cut=cut)

    def serve(self, *releases: Release) -> None:
        for each in releases:
            self.hub.blobs |= each.blobs()
            each.publish(self.repository)

    def anchor(self) -> Anchor:
        if not self.rooted:
            raise NoTrust("this device was given no roots")
        image, director = self.roots
        return Anchor(device_id=DEVICE, tenant=TENANT, board=BOARD, image_root=image, director_root=director)

    def settle(self, *, until: UpdateState | None = None, steps: int = 2000) -> None:
        """Step, with time passing as the engine asks, until it idles or the newest update is in state ``until``."""
        for _ in range(steps):
            update = self.journal.newest()
            if until is not None and update is not None and update.state is until:
                return
            pause = self.engine.step()
            if pause >= 3600:
                assert until is None or self.state is until, f"it settled in {self.state}"
                return
            self.clock.advance(pause)
        raise AssertionError(f"not settled after {steps} steps: {self.journal.newest()}")

    def install(self, it: Release, generation: int) -> None:
        self.serve(it)
        self.engine.offer(it.desired(generation))
        self.settle()
        assert self.state is UpdateState.COMMITTED

    @property
    def state(self) -> UpdateState:
        update = self.journal.newest()
        assert update is not None
        return update.state

    @property
    def reason(self) -> str:
        update = self.journal.newest()
        assert update is not None
        return update.reason

    def desired(self) -> Desired:
        """The director wants what the device was last asked for."""
        update = self.journal.newest()
        return self.journal.generation(), update.assignment if update is not None else None

    def _changed(self) -> None:
        if self.engine.standing.update is not None:
            self.states.append(self.engine.standing.update.state)
        self.on_change()


def as_of_models_alone(path: Path, *, floors: bool = True) -> None:
    """Make the journal at ``path`` what an agent that updated nothing but models would have left; ``floors``: it had these."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        releases = ", series TEXT NOT NULL DEFAULT '', release INTEGER NOT NULL DEFAULT 0" if floors else ""
        db.executescript(
            f"""CREATE TABLE older (
                generation INTEGER PRIMARY KEY,
                name TEXT NOT NULL, version INTEGER NOT NULL, manifest_digest TEXT NOT NULL,
                manifest_size_bytes INTEGER NOT NULL, rollout_id TEXT NOT NULL, state INTEGER NOT NULL,
                attempts INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '', slot TEXT NOT NULL DEFAULT '',
                reference_ms REAL NOT NULL DEFAULT 0, at_ms INTEGER NOT NULL{releases}
            ) STRICT;"""
        )
        kept = "generation, name, CAST(version AS INTEGER), digest, size_bytes, rollout_id, state, attempts, reason, place"
        kept += ", 2.5, at_ms"
        kept += ", series, release" if floors else ""
        db.execute(f"INSERT INTO older SELECT {kept} FROM updates WHERE component = 'model'")
        db.execute("DROP TABLE updates")
        db.execute("ALTER TABLE older RENAME TO updates")
        for table in ("trust_anchors", "version_floors", "release_floors", "time_floor") if not floors else ():
            db.execute(f"DROP TABLE {table}")
