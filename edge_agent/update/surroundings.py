"""What an update needs from the running agent, and what it has to report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from edge_agent.core.backoff import Backoff
from edge_agent.core.clock import Clock
from edge_agent.core.model import Happening
from edge_agent.core.ports import Hub
from edge_agent.update.floors import Release
from edge_agent.update.probation import Vitals
from edge_agent.update.record import Effect, Update
from edge_agent.update.slots import Slot
from protos.contract.ids import DeviceId, TenantId
from protos.contract.manifest import Blob, Manifest
from protos.contract.twin import Fit, ModelAssignment, PackageAssignment, PackageStatus, UpdateStatus


class Runner(Protocol):
    """The running agent, as a new model needs it."""

    def unrunnable(self, manifest: Manifest) -> str:
        """Why a model of this kind cannot run here; empty where it can."""

    def verify(self, slot: Slot) -> Fit:
        """Run the golden set out of this process, and say how it did. Raises BadModel."""

    def activate(self, slot: Slot | None) -> None:
        """On return the next frame is seen by this model, or by none; ``vitals`` begin again. BadModel: nothing changed."""

    def vitals(self) -> Vitals: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """Who this device is, and the roots of trust that it was given when it enrolled."""

    device_id: DeviceId
    tenant: TenantId
    board: str
    image_root: bytes
    director_root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """The files of a model, as both repositories mean them."""

    manifest: Blob
    model: Blob
    golden: Blob
    release: Release


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovedPackage:
    """The file of a package, as both repositories mean it."""

    blob: Blob
    release: Release


class Verifier(Protocol):
    def check(self, hub: Hub, anchor: Anchor, assignment: ModelAssignment, generation: int) -> Approved:
        """What may be fetched for ``assignment``, which stands in the newest desired twin, of ``generation``.

        Raises:
            Untrusted: one of its kinds; nothing may be fetched.
            LinkDown, Refused: as ``Hub.metadata``.
            NoTrust: the roots of ``anchor`` are none.
            DiskFull: what was seen cannot be kept.
        """

    def check_package(self, hub: Hub, anchor: Anchor, package: PackageAssignment, generation: int) -> ApprovedPackage:
        """As ``check``, for the one file of a package."""


class Interlock(Protocol):
    """A condition of the device for a change of what runs."""

    def holds_back(self, update: Update) -> str:
        """Why ``update`` must not become active now, in words that stay the same while the reason does; empty: it may.

        Asked every few seconds. What it cannot find out holds back. Never raises.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What there is to report."""

    generation: int = 0  # last desired generation acted on
    running: ModelAssignment | None = None
    update: UpdateStatus | None = None
    packages: tuple[PackageAssignment, ...] = ()  # installed, by kind
    package_updates: tuple[PackageStatus, ...] = ()  # the newest of each kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the engine is given by the composition root."""

    anchor: Callable[[], Anchor]  # raises LinkDown while the device is not enrolled, NoTrust without roots
    verifier: Callable[[], Verifier]  # asked for only when there is something to verify: it is heavy
    online: Callable[[], bool]  # the broker is reached: time without it does not count against a download
    clock: Clock
    changed: Callable[[], None]  # ``standing`` is another one now
    tell: Callable[[Happening], None]
    backoff: Callable[[], Backoff]  # a new one; each line of updates has its own
    apart: Callable[[Callable[[], None]], None] = lambda fetch: fetch()  # beside the engine's thread, or in it
    again: Callable[[Effect], None] = lambda _: None  # end this process, to be started again; REBOOT: the whole board
    interlocks: Sequence[Interlock] = ()
