"""What an update needs from the running agent, and what it has to report."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_agent.core.backoff import Backoff
from edge_agent.core.clock import Clock
from edge_agent.core.errors import BadModel, Corrupt
from edge_agent.core.model import Happening
from edge_agent.core.ports import Hub
from edge_agent.update.floors import Release
from edge_agent.update.probation import Vitals
from edge_agent.update.slots import Slot, Slots
from protos.contract.ids import DeviceId, TenantId
from protos.contract.manifest import Blob, Manifest
from protos.contract.twin import ModelAssignment, UpdateStatus

log = logging.getLogger(__name__)


class Runner(Protocol):
    """The running agent, as an update needs it."""

    def unrunnable(self, manifest: Manifest) -> str:
        """Why a model of this kind cannot run here; empty where it can."""

    def verify(self, slot: Slot) -> float:
        """Run the golden set out of this process and return its p95 latency in ms. Raises BadModel."""

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
    """The files of an update, as both repositories mean them."""

    manifest: Blob
    model: Blob
    golden: Blob
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What there is to report."""

    generation: int = 0  # last desired generation acted on
    running: ModelAssignment | None = None
    update: UpdateStatus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the engine is given by the composition root."""

    runner: Runner
    connect: Callable[[], Hub]  # a new connection each time; raises LinkDown
    anchor: Callable[[], Anchor]  # raises LinkDown while the device is not enrolled, NoTrust without roots
    verifier: Callable[[], Verifier]  # asked for only when there is something to verify: it is heavy
    online: Callable[[], bool]  # the broker is reached: time without it does not count against an update
    clock: Clock
    free_bytes: Callable[[Path], int]
    changed: Callable[[], None]  # ``standing`` is another one now
    tell: Callable[[Happening], None]
    backoff: Backoff


class Starter:
    """Starts models from their slots and knows which one runs."""

    def __init__(self, slots: Slots, runner: Runner) -> None:
        self._slots, self._runner = slots, runner
        self.running: ModelAssignment | None = None

    def require(self, slot: Slot) -> None:
        """Run the model in ``slot``. Raises BadModel or Corrupt: what ran before still runs."""
        self._slots.check(slot)
        self._runner.activate(slot)
        record = self._slots.record(slot)
        self.running = record.assignment if record is not None else None

    def start(self, slot: Slot | None) -> bool:
        """Run the model in ``slot``; where it does not start, or there is none, nothing runs afterwards."""
        if slot is not None:
            try:
                self.require(slot)
                return True
            except (Corrupt, BadModel) as error:
                log.error("model does not start", extra={"slot": slot.name, "error": str(error)})
        self._runner.activate(None)
        self.running = None
        return False

    def start_current(self) -> tuple[str, bool]:
        """Start what the pointer names, or else the good model beside it.

        Returns what was wrong (empty where nothing was) and whether it is the files of the current slot that are damaged.
        """
        current = self._slots.current()
        if current is None or self.start(current):
            return "", False
        damage = self._damage(current)
        previous = self._slots.fallback(than=current)
        if self.start(previous):
            self._slots.activate(previous)
        outcome = "the one before it runs" if self.running is not None else "no model runs"
        return f"slot {current.name} does not start{damage and ': ' + damage}; {outcome}", bool(damage)

    def _damage(self, slot: Slot) -> str:
        try:
            self._slots.check(slot)
        except Corrupt as error:
            return str(error)
        return ""
