"""The agent's threads, and what its main thread does: watch over them."""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edge_agent.app.keep import Keeper
from edge_agent.app.perceive import Perceiver
from edge_agent.app.report import Membership, Reporter
from edge_agent.app.starts import LASTED_S, Starts
from edge_agent.app.wakeup import StopSignals, Wakeup
from edge_agent.app.watch import Watcher
from edge_agent.core.backoff import Backoff
from edge_agent.core.clock import Clock
from edge_agent.core.errors import AgentError, Restart
from edge_agent.core.model import Happening
from edge_agent.core.notify import service_manager
from edge_agent.core.ports import Spool
from edge_agent.update.challenger import ChallengerLine
from edge_agent.update.engine import UpdateEngine
from edge_agent.update.record import Effect
from protos.contract.telemetry import Lane

if TYPE_CHECKING:
    from edge_agent.app.streaming import Streaming

log = logging.getLogger(__name__)

TICK_S = 2.0  # how often the main thread looks around, and tells the service manager that it does
STATUS_S = 10.0  # how old status.json gets where nothing changes
STUCK_S = 20.0  # a worker that hangs is killed long before: beyond it the agent itself hangs, and only a new one gets out of it
RESTART_S = 60.0  # longest pause before a part that failed is begun again
JOIN_S = 5.0  # for each thread at the end
REBOOT_S = 120.0  # within which a board that is to start again takes the agent down


class Network(Protocol):
    """Everything that needs the hub, in threads of its own; the agent lives without."""

    @property
    def membership(self) -> Membership: ...

    def run(self) -> None:
        """Until ``stop``."""

    def changed(self) -> None:
        """There is something new to report."""

    def stop(self) -> None:
        """End ``run``, saying goodbye to the broker where it can be reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    clock: Clock
    spool: Spool
    perceiver: Perceiver
    keeper: Keeper
    watcher: Watcher
    engine: UpdateEngine
    network: Network
    reporter: Reporter
    wakeup: Wakeup
    starts: Starts
    unload: Callable[[], None] = lambda: None  # ends the model's worker: nothing is seen any more
    streams: "Streaming | None" = None  # between perceiver and spool
    challenger: ChallengerLine | None = None
    reboot: Callable[[], None] = lambda: None  # asks for a new start of the board; never raises
    ends_with_source: bool  # otherwise a source that ends leaves an agent that syncs and updates


class Agent:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._notify = service_manager()  # before anything has children
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._watched = threading.Event()  # the source has ended
        self._status_at = float("-inf")
        self._lasts_at: float | None = None  # monotonic; None: it has lasted
        self._looked_at = parts.clock.monotonic()
        self._effect = Effect.NOW  # asked for by an update

    def changed(self) -> None:
        """The standing of updates is another one: tell the hub and the people. From any thread."""
        self._changed.set()
        self._parts.network.changed()
        self._parts.wakeup.set()

    def again(self, effect: Effect) -> None:
        """End in order, and be started again; REBOOT: with the whole board. From any thread, before ``run`` too."""
        self._effect = effect
        self._parts.wakeup.set()

    def silent_s(self) -> float:
        """How long the main thread has not looked around."""
        return self._parts.clock.monotonic() - self._looked_at

    def run(self, signals: StopSignals) -> None:
        """Until a signal, or the end of the source where that is the end.

        Whoever started the agent starts it again. Raises:
            Restart: as ``again`` has asked for.
            AgentError: an inference hangs, or an update.
        """
        parts = self._parts
        seeing = [
            (self._start("watch", self._watch), parts.watcher.stop),
            (self._start("keep", parts.keeper.run), parts.keeper.stop),
        ]
        if parts.streams is not None:
            seeing.append((self._start("streams", parts.streams.run), parts.streams.stop))
        others = [self._start("update", parts.engine.run), self._start("network", parts.network.run)]
        if parts.challenger is not None:
            others.append(self._start("challenger", parts.challenger.run))
        self._notify("READY=1")
        self._lasts_at = parts.clock.monotonic() + LASTED_S
        while not signals.received:
            if self._watched.is_set() and parts.ends_with_source:
                break
            if self._effect is not Effect.NOW:
                break
            if hung := parts.engine.oversee():
                self._stop(seeing, others)
                raise AgentError(f"an update hangs: {hung}")
            if (busy_s := parts.perceiver.busy_s()) > STUCK_S:
                self._stop(seeing, others)
                raise AgentError(f"an inference has hung for {busy_s:.0f} s: start the agent again, as its service does")
            self._looked_at = parts.clock.monotonic()
            self._notify("WATCHDOG=1")
            self._refresh_status()
            self._note_lasting()
            parts.wakeup.wait(TICK_S)
        log.info("stopping", extra={"signal": signals.received, "effect": self._effect.value})
        self._stop(seeing, others)
        parts.starts.ended()
        if self._effect is not Effect.NOW and not signals.received:
            self._begin_again(signals)

    def _begin_again(self, signals: StopSignals) -> None:
        """Raises Restart, unless the board takes the agent down with it."""
        parts = self._parts
        if self._effect is Effect.REBOOT:
            parts.reboot()
            deadline = parts.clock.monotonic() + REBOOT_S
            while not signals.received and parts.clock.monotonic() < deadline:
                self._notify("WATCHDOG=1")
                parts.wakeup.wait(TICK_S)
            if signals.received:
                return
        raise Restart("the agent ends to be started again with what was installed, or with what was before it")

    def _watch(self) -> None:
        try:
            self._parts.watcher.run()
        finally:
            self._watched.set()
            self._changed.set()
            self._parts.wakeup.set()

    def _start(self, name: str, target: Callable[[], None]) -> threading.Thread:
        def body() -> None:
            backoff = Backoff(1.0, RESTART_S)
            while not self._stopping.is_set():
                try:
                    return target()
                except Exception as error:  # a thread's outermost edge: said aloud, and begun again
                    log.exception("part failed", extra={"part": name})
                    self._tell_fault(f"{name}: {type(error).__name__}: {error}"[:500])
                    self._stopping.wait(backoff.next())

        thread = threading.Thread(target=body, name=name, daemon=True)
        thread.start()
        return thread

    def _note_lasting(self) -> None:
        if self._lasts_at is not None and self._parts.clock.monotonic() >= self._lasts_at:
            self._lasts_at = None
            self._parts.starts.lasted()

    def _tell_fault(self, detail: str) -> None:
        happening = Happening(at=self._parts.clock.now(), kind="agent.fault", detail=detail)
        try:
            self._parts.spool.append(happening, Lane.CRITICAL)
        except Exception:  # the spool may be what failed: a thread must not end over that
            log.exception("fault not told")

    def _refresh_status(self) -> None:
        now = self._parts.clock.monotonic()
        if self._changed.is_set() or now - self._status_at >= STATUS_S:
            self._changed.clear()
            self._status_at = now
            self._write_status("running")

    def _stop(self, seeing: Sequence[tuple[threading.Thread, Callable[[], None]]], others: Sequence[threading.Thread]) -> None:
        """In the order of the data's way, so that what was seen is spooled before the rest ends."""
        self._notify("STOPPING=1")
        self._stopping.set()
        parts = self._parts
        for thread, stop in seeing:
            stop()
            thread.join(JOIN_S)
        parts.spool.flush()
        parts.engine.stop()
        if parts.challenger is not None:
            parts.challenger.stop()
        parts.network.stop()
        for thread in others:
            thread.join(JOIN_S)
        for thread in (*(thread for thread, _ in seeing), *others):
            if thread.is_alive():
                log.warning("thread does not end", extra={"part": thread.name})
        parts.unload()
        self._write_status("stopped")
        parts.spool.close()

    def _write_status(self, state: str) -> None:
        note = self._parts.watcher.problem
        if not self._parts.perceiver.equipped.is_set():
            note = "no model yet" + (f"; {note}" if note else "")
        membership = self._parts.network.membership
        if membership.certificate.problem:
            note = f"certificate: {membership.certificate.problem}" + (f"; {note}" if note else "")
        if not membership.device_id:
            note = "not enrolled: run 'edge-agent enroll'" + (f"; {note}" if note else "")
        try:
            self._parts.reporter.write_status(state, membership, note)
        except OSError as error:
            log.warning("status not written", extra={"error": str(error), "pid": os.getpid()})
