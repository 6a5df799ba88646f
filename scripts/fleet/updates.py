"""The agent's own update engine, journal, slots and trust in every simulated device; what runs the model is make-believe.

Real: ``UpdateEngine`` with its journal in SQLite, slots as files, the TUF client with its floors, gRPC over mutual TLS for
metadata and blobs, digests of every file. Simulated: the golden run and the worker (``PretendedRunner``), and the disk, which
is best a folder in memory: thousands of devices must not wait for the syncs of one machine.
"""

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_agent.core.backoff import Backoff
from edge_agent.core.clock import Clock
from edge_agent.core.config import UpdateConfig
from edge_agent.core.errors import BadModel, LinkDown
from edge_agent.core.model import Happening
from edge_agent.core.ports import Hub
from edge_agent.sync.hub import GrpcHub
from edge_agent.sync.identity import Identity
from edge_agent.update.components.model import ModelInstaller
from edge_agent.update.engine import UpdateEngine
from edge_agent.update.fetch import Fetcher
from edge_agent.update.journal import Journal
from edge_agent.update.probation import Vitals
from edge_agent.update.slots import Slot, Slots
from edge_agent.update.surroundings import Anchor, Standing, Surroundings
from edge_agent.update.trust import Trust
from protos.contract import codec
from protos.contract.manifest import Blob, Manifest
from protos.contract.twin import DesiredTwin, Fit
from scripts.fleet.conditions import Conditions

TAIL = 1.5  # p95 of a latency over its p50


@dataclass(slots=True)
class Fetched:
    """What came over gRPC, less the framing of HTTP/2 and TLS."""

    calls: int = 0
    metadata_bytes: int = 0
    blob_bytes: int = 0


class PretendedRunner:
    """See ``surroundings.Runner``: by seed, a version is refused, crashes, errs or is slow on this device."""

    def __init__(self, device: str, conditions: Conditions, clock: Clock) -> None:
        self._device, self._conditions, self._clock = device, conditions, clock
        self._since = 0.0
        self.manifest: Manifest | None = None  # of what runs
        self.started: list[tuple[float, int]] = []  # monotonic time and version of every activation

    def unrunnable(self, manifest: Manifest) -> str:
        return ""

    def verify(self, slot: Slot) -> Fit:
        manifest = codec.decode_manifest(slot.manifest.read_bytes())
        does = self._conditions.of(manifest.version)
        if self._struck("refused", manifest.version, does.refused):
            raise BadModel("golden outputs are off by 7, tolerated are 0.1 (simulated)")
        p95_ms = does.latency_ms * TAIL
        return Fit(p50_ms=does.latency_ms, p95_ms=p95_ms, peak_bytes=64 << 20, error=0.1, agreement=1.0)

    def activate(self, slot: Slot | None) -> None:
        self.manifest = codec.decode_manifest(slot.manifest.read_bytes()) if slot is not None else None
        self._since = self._clock.monotonic()
        if self.manifest is not None:
            self.started.append((time.monotonic(), self.manifest.version))

    def vitals(self) -> Vitals:
        if self.manifest is None:
            return Vitals()
        version, seen = self.manifest.version, int((self._clock.monotonic() - self._since) * self._conditions.fps)
        does = self._conditions.of(version)
        errors = round(seen * does.errors)
        crashed = seen > 0 and self._struck("crashes", version, does.crashes)
        return Vitals(
            inferences=seen - errors,
            errors=errors,
            latency_p95_ms=does.latency_ms * TAIL,
            last_error="simulated" if errors else "",
            crashes=int(crashed),
            last_crash="signal 11 (simulated)" if crashed else "",
        )

    def _struck(self, what: str, version: int, share: float) -> bool:
        return share > 0 and self._conditions.dice(self._device, what, version).random() < share


class LossyHub:
    """``GrpcHub`` over the simulated link: each call waits for it, may find it broken, and is counted."""

    def __init__(self, hub: GrpcHub, before: Callable[[], None], fetched: Fetched) -> None:
        self._hub, self._before, self._fetched = hub, before, fetched

    def __getattr__(self, name: str) -> object:
        found = getattr(self._hub, name)
        if name == "close" or not callable(found):
            return found

        def call(*words: object, **more: object) -> object:
            self._before()
            self._fetched.calls += 1
            answer = found(*words, **more)
            if isinstance(answer, bytes):
                self._fetched.metadata_bytes += len(answer)
            if name == "download" and isinstance(words[0], Blob):
                self._fetched.blob_bytes += words[0].size_bytes
            return answer

        return call


class Updates:
    """The update line of one device. ``start``, ``step`` and ``end`` one at a time, from any thread; ``offer`` from any."""

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        conditions: Conditions,
        clock: Clock,
        *,
        online: Callable[[], bool],
        changed: Callable[[], None],
        tell: Callable[[Happening], None],
    ) -> None:
        self._folder, self._identity, self._conditions, self._clock = folder, identity, conditions, clock
        self._online, self._changed, self._tell = online, changed, tell
        self._dice = conditions.dice(identity.device_id, "calls")
        self._dice_lock = threading.Lock()
        self._anchor = Anchor(
            device_id=identity.device_id,
            tenant=identity.tenant,
            board=identity.board,
            image_root=identity.image_root_path.read_bytes(),
            director_root=identity.director_root_path.read_bytes(),
        )
        self.runner = PretendedRunner(identity.device_id, conditions, clock)
        self.fetched = Fetched()
        self._journal: Journal | None = None
        self._engine: UpdateEngine | None = None

    @property
    def standing(self) -> Standing:
        return self._engine.standing if self._engine is not None else Standing()

    def start(self) -> None:
        """From what is in the folder, as after a power cut."""
        config = UpdateConfig(
            probation_s=self._conditions.probation_s,
            disk_reserve_bytes=0,
            delta_memory_bytes=UpdateConfig().delta_memory_bytes if self._conditions.deltas else 0,
        )
        models = self._models(config)
        journal = self._journal = Journal(
            self._folder / "updates.sqlite", [found] if (found := models.found()) else [], self._clock
        )
        trust = Trust(self._folder / "trust", journal.floors, self._clock)
        around = Surroundings(
            anchor=lambda: self._anchor,
            verifier=lambda: trust,
            online=self._online,
            clock=self._clock,
            changed=self._changed,
            tell=self._tell,
            backoff=self._backoff,
        )
        self._engine = UpdateEngine([models], journal, config, around)
        self._engine.boot()

    def offer(self, twin: DesiredTwin) -> None:
        if self._engine is not None:
            self._engine.offer(twin)

    def step(self) -> float:
        """Seconds until the next."""
        assert self._engine is not None, "not started"
        return self._engine.step()

    def cut(self) -> None:
        """End a step that downloads, soon; for any thread."""
        if self._engine is not None:
            self._engine.stop()

    def end(self) -> None:
        """As a crash between two steps: nothing is settled."""
        if self._journal is not None:
            self._journal.close()
        self._engine = self._journal = None

    def _models(self, config: UpdateConfig) -> ModelInstaller:
        fetcher = Fetcher(
            self._connect,
            unrunnable=self.runner.unrunnable,
            free_bytes=lambda folder: shutil.disk_usage(folder).free,
            reserve_bytes=config.disk_reserve_bytes,
            delta_memory_bytes=config.delta_memory_bytes,
        )
        return ModelInstaller(Slots(self._folder / "models"), self.runner, fetcher, config, self._clock, self._tell)

    def _backoff(self) -> Backoff:
        return Backoff(0.5, 30.0, self._conditions.dice(self._identity.device_id, "backoff").random)

    def _connect(self) -> Hub:
        hub: Hub = LossyHub(GrpcHub(self._identity), self._cross, self.fetched)  # type: ignore[assignment]  # by __getattr__
        return hub

    def _cross(self) -> None:
        """One call over the link, there and back. Raises LinkDown."""
        time.sleep(2 * self._conditions.latency_s)
        with self._dice_lock:
            broken = self._dice.random() < self._conditions.loss
        if broken:
            raise LinkDown("the link broke (simulated)")
