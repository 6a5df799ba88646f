"""Devices that go wrong on demand: the real engine, journal and installers on a real disk, with faults at every call."""

import contextlib
import json
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from edge_agent.core.backoff import Backoff
from edge_agent.core.config import UpdateConfig
from edge_agent.core.errors import DiskFull, Refused
from edge_agent.core.model import Happening
from edge_agent.core.ports import Hub
from edge_agent.update.components.model import ModelInstaller
from edge_agent.update.engine import UpdateEngine
from edge_agent.update.fetch import Fetcher
from edge_agent.update.floors import Release as ReleaseNumber
from edge_agent.update.installer import Installer
from edge_agent.update.journal import Journal
from edge_agent.update.probation import Vitals
from edge_agent.update.record import Component, Effect
from edge_agent.update.slots import Slot, Slots
from edge_agent.update.surroundings import Anchor, Approved, ApprovedPackage, Surroundings
from protos.contract import codec
from protos.contract.ids import Digest, device_id, tenant_id
from protos.contract.manifest import Blob, Manifest
from protos.contract.twin import DesiredTwin, Fit, ModelAssignment, PackageAssignment
from protos.contract.update import UpdateState
from tests.agent.clocks import ManualClock
from tests.agent.update.parts import release

CONFIG = UpdateConfig(probation_s=10.0, probation_inferences=20, max_attempts=3, fetch_timeout_s=600.0, disk_reserve_bytes=1)
OLD, WANTED, NEWER, AFTERWARDS = VERSIONS = 1, 2, 3, 4
IDLE_S = 3600.0
MAX_STEPS = 3000
PASS_S = 60.0  # of time at once, at most
WRITES = ("place", "fetch", "activate", "commit", "roll_back")
ANCHOR = Anchor(
    device_id=device_id("cam-1"), tenant=tenant_id("default"), board="camera-x86", image_root=b"-", director_root=b"-"
)
DAMAGE = b"not what was fetched"


class Died(BaseException):
    """The process is gone: nothing that comes after it in its code is done."""


@dataclass
class Faults:
    """What happens at the calls of an installer, by name; they outlive the process."""

    before: dict[str, Callable[[], None]] = field(default_factory=dict)
    after: dict[str, Callable[[], None]] = field(default_factory=dict)
    full: bool = False  # nothing can be written
    damaging: bool = False  # what the hub serves is something else

    def once(self, name: str, error: BaseException, *, times: int = 1, after: bool = False) -> None:
        """It raises, so many times."""

        def strike() -> None:
            raise error

        self.meanwhile(name, strike, times=times, after=after)

    def meanwhile(self, name: str, act: Callable[[], None], *, times: int = 1, after: bool = False) -> None:
        """Something happens before it, or after it, the next so many times."""
        left = [times]

        def strike() -> None:
            if left[0]:
                left[0] -= 1
                act()

        (self.after if after else self.before)[name] = strike


class Faulty:
    """An installer, with faults before and after what it does."""

    def __init__(self, real: Installer, faults: Faults) -> None:
        self._real, self._faults = real, faults

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._real, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._faults.full and name in WRITES:
                raise DiskFull("no room")
            self._faults.before.get(name, _nothing)()
            result = value(*args, **kwargs)
            self._faults.after.get(name, _nothing)()
            return result

        return call


class _Journal(Journal):
    faults: Faults | None = None

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        if self.faults is not None and self.faults.full:
            raise DiskFull("no room")
        with super()._change():
            yield


class _Hub:
    """Serves what was put into it; what it says is believed."""

    def __init__(self, blobs: dict[Digest, bytes], faults: Faults) -> None:
        self._blobs, self._faults = blobs, faults
        self.closed = False

    def locate(self, digest: Digest, have: object, max_decode_bytes: int) -> list[Any]:
        raise Refused("no sources")

    def download(self, blob: Blob, path: Path, **_: object) -> None:
        self._faults.before.get("download", _nothing)()
        path.write_bytes(DAMAGE if self._faults.damaging else self._blobs[blob.digest])

    def close(self) -> None:
        self.closed = True


class Rig(ABC):
    """A device of one component that has OLD committed. Time passes only in here."""

    component: Component

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.clock.advance(1e6)  # monotonic clocks count from the machine's start, not from ours
        self.faults, self.blobs, self.told = Faults(), dict[Digest, bytes](), list[Happening]()
        self.entered: Callable[[UpdateState], None] = lambda _: None  # the update is reported to be in a state
        self.starts = 0
        self._twin = DesiredTwin(generation=0)
        self._again, self.ending = False, Effect.NOW
        self._asked: dict[int, int] = {}  # version -> generation
        self._last: tuple[int, UpdateState] | None = None
        self.hub = _Hub(self.blobs, self.faults)
        self._start()
        self.install(OLD)

    # -- a component says ---------------------------------------------------------------------------------------------

    @abstractmethod
    def make_installer(self, fetcher: Fetcher) -> Installer:
        """Of this run of the agent."""

    @abstractmethod
    def twin(self, generation: int, version: int) -> DesiredTwin:
        """It is asked for, and its files are on the hub."""

    @abstractmethod
    def started_from(self) -> int | None:
        """By the files alone: the version that is started from, if it is whole."""

    @abstractmethod
    def file_of(self, version: int) -> Path | None:
        """Its largest file on the disk."""

    @abstractmethod
    def running(self) -> int | None: ...

    # -- the hub ------------------------------------------------------------------------------------------------------

    def want(self, version: int | None) -> None:
        generation = self._twin.generation + 1
        if version is None:
            self._twin = DesiredTwin(generation=generation)
        else:
            self._twin = self.twin(generation, version)
            self._asked[version] = generation
        self.engine.offer(self._twin)

    def install(self, version: int) -> None:
        self.want(version)
        self.settle()
        assert (self.state(version), self.running()) == (UpdateState.COMMITTED, version), self.standing(version)

    # -- the device ---------------------------------------------------------------------------------------------------

    def standing(self, version: int) -> tuple[UpdateState, str] | None:
        """Its state and the reason for it, by the journal on the disk; None: nothing is known of it."""
        with contextlib.closing(sqlite3.connect(self.folder / "updates.sqlite")) as db:
            row = db.execute(
                "SELECT state, reason FROM updates WHERE component = ? AND generation = ?",
                (self.component.value, self._asked.get(version, -1)),
            ).fetchone()
        return (UpdateState(row[0]), str(row[1])) if row else None

    def state(self, version: int) -> UpdateState | None:
        standing = self.standing(version)
        return standing[0] if standing is not None else None

    def settle(self) -> None:
        """Until there is nothing to do, however often the process ends on the way."""
        for _ in range(MAX_STEPS):
            if self._again:
                self.restart()
            try:
                pause = self.engine.step()
            except Died:
                self.restart()
                continue
            if pause >= IDLE_S and not self._again:
                return
            self.clock.advance(min(pause, PASS_S))
        raise AssertionError(f"not settled after {MAX_STEPS} steps: {self.journal.newest(self.component)}")

    def run_until(self, condition: Callable[[], bool]) -> bool:
        """False where it settled before that."""
        for _ in range(MAX_STEPS):
            if condition():
                return True
            if self._again:
                self.restart()
            pause = self.engine.step()
            if pause >= IDLE_S and not self._again:
                return condition()
            self.clock.advance(min(pause, PASS_S))
        raise AssertionError("neither that nor settled")

    def restart(self) -> None:
        """The process is gone, and begins again; its hub's retained word comes again."""
        self.journal.close()
        while True:
            try:
                self._start()
                break
            except Died:
                self.journal.close()
        self.engine.offer(self._twin)

    def let_time_pass(self, seconds: float) -> None:
        """The process does what it does meanwhile."""
        until = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until:
            pause = self.engine.step()
            self.clock.advance(min(max(pause, 0.1), PASS_S))

    def _start(self) -> None:
        self.starts += 1
        assert self.starts < 50, "it starts again and again"
        self._again = False
        self.hub = _Hub(self.blobs, self.faults)
        fetcher = Fetcher(
            lambda: cast(Hub, self.hub),
            unrunnable=lambda _: "",
            free_bytes=lambda _: 1 << 30,
            reserve_bytes=CONFIG.disk_reserve_bytes,
        )
        installer = self.make_installer(fetcher)
        self.ending = Effect.NOW
        found = installer.found()
        self.journal = _Journal(self.folder / "updates.sqlite", [found] if found else [], self.clock)
        self.journal.faults = self.faults
        self.engine = UpdateEngine(
            [Faulty(installer, self.faults)],
            self.journal,
            CONFIG,
            Surroundings(
                anchor=lambda: ANCHOR,
                verifier=lambda: _Believes(self),
                online=lambda: True,
                clock=self.clock,
                changed=self._changed,
                tell=self.told.append,
                backoff=lambda: Backoff(0.5, 60.0, lambda: 1.0),
                again=self._end,
            ),
        )
        self.engine.boot()

    def close(self) -> None:
        self.journal.close()

    def _end(self, effect: Effect) -> None:
        self._again, self.ending = True, effect

    def _changed(self) -> None:
        update = self.journal.newest(self.component)
        if update is not None and (update.generation, update.state) != self._last:
            self._last = (update.generation, update.state)
            self.entered(update.state)


class _Believes:
    """Both repositories agree on whatever is asked."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    def check(self, hub: object, anchor: Anchor, assignment: ModelAssignment, generation: int) -> Approved:
        manifest = codec.decode_manifest(self._rig.blobs[assignment.manifest_digest])
        blob = Blob(digest=assignment.manifest_digest, size_bytes=assignment.manifest_size_bytes)
        number = ReleaseNumber(series="models/default/street", number=assignment.version)
        return Approved(manifest=blob, model=manifest.artifact, golden=manifest.golden.blob, release=number)

    def check_package(self, hub: object, anchor: Anchor, package: PackageAssignment, generation: int) -> ApprovedPackage:
        number = ReleaseNumber(series=f"{package.kind.name.lower()}/default/{package.name}", number=1)
        return ApprovedPackage(blob=Blob(digest=package.digest, size_bytes=package.size_bytes), release=number)


@dataclass
class _Runner:
    """Runs whatever a slot holds."""

    running: bytes | None = None

    def unrunnable(self, manifest: Manifest) -> str:
        return ""

    def verify(self, slot: Slot) -> Fit:
        return Fit(p50_ms=1.0, p95_ms=1.0, peak_bytes=1, error=0.0, agreement=1.0)

    def activate(self, slot: Slot | None) -> None:
        self.running = slot.model.read_bytes() if slot is not None else None

    def vitals(self) -> Vitals:
        return Vitals(inferences=100, latency_p95_ms=1.0)


class ModelRig(Rig):
    component = Component.MODEL

    def make_installer(self, fetcher: Fetcher) -> Installer:
        self._runner = _Runner()
        slots = Slots(self.folder / "models")
        return ModelInstaller(slots, self._runner, fetcher, CONFIG, self.clock, self.told.append)

    def twin(self, generation: int, version: int) -> DesiredTwin:
        made = release(version)
        self.blobs.update(made.blobs())
        return DesiredTwin(generation=generation, model=made.assignment, rollout_id=f"r{generation}")

    def started_from(self) -> int | None:
        models = self.folder / "models"
        slot = models / "slots" / (models / "current").read_text().strip()
        found = tuple((slot / name).read_bytes() for name in ("manifest.pb", "model.bin", "golden.pb"))
        return next((it for it in VERSIONS if (release(it).manifest, release(it).model, release(it).golden) == found), None)

    def file_of(self, version: int) -> Path | None:
        for record in (self.folder / "models" / "slots").glob("*/slot.json"):
            if json.loads(record.read_bytes())["version"] == version:
                return record.with_name("model.bin")
        return None

    def running(self) -> int | None:
        return next((it for it in VERSIONS if release(it).model == self._runner.running), None)


def _nothing() -> None: ...
