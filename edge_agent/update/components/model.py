"""Models: two slots, a golden run in another process, probation on what the device sees."""

import logging
from collections import deque
from collections.abc import Callable

from edge_agent.core.clock import Clock
from edge_agent.core.config import UpdateConfig
from edge_agent.core.model import Happening
from edge_agent.update.components.starter import Starter
from edge_agent.update.fetch import Fetcher
from edge_agent.update.floors import Release
from edge_agent.update.installer import Permit
from edge_agent.update.places import found_in
from edge_agent.update.probation import Verdict, judge
from edge_agent.update.record import Assignment, Component, Effect, Found, Update
from edge_agent.update.slots import Slot, SlotRecord, Slots
from edge_agent.update.surroundings import Runner
from protos.contract.twin import Fit, ModelAssignment

log = logging.getLogger(__name__)

IDLE_S = 3600.0
HELD_BACK_S = 20.0  # a suspect model starts so late that the hub can be heard before
AGAIN_S = 300.0  # between starts of a committed model that does not start: it may be the machine's fault
_SPARE_S = 60.0  # beyond what a golden run may take, or a start: reading and hashing a large file from a slow card


class ModelInstaller:
    """See ``installer.Installer``. A change of model never needs a new start of the agent."""

    component = Component.MODEL

    def __init__(
        self,
        slots: Slots,
        runner: Runner,
        fetcher: Fetcher,
        config: UpdateConfig,
        clock: Clock,
        tell: Callable[[Happening], None],
        *,
        golden_timeout_s: float = 30.0,
    ) -> None:
        self._slots, self._runner, self._fetcher = slots, runner, fetcher
        self._config, self._clock, self._tell = config, clock, tell
        self.verify_s = self.activate_s = 3 * golden_timeout_s + _SPARE_S  # a start that dies is tried again by the runner
        self._starter = Starter(slots, runner)
        self._start_at: float | None = None  # monotonic: when the committed model, which does not run, is to be started
        self._unusable = ""  # what was told last about it
        self._damaged = False
        self._crashes: deque[float] = deque()  # monotonic, when they were seen
        self._seen_crashes = 0

    def running(self) -> ModelAssignment | None:
        return self._starter.running

    def found(self) -> Found | None:
        return found_in(self._slots, self.component)

    def boot(self, trial: Update | None, *, suspect: bool) -> str:
        if trial is not None:
            return ""
        if suspect and self._slots.current() is not None:
            self._start_at = self._clock.monotonic() + HELD_BACK_S
            self._say("model.held_back", f"the agent ended soon after its last starts: the model waits {HELD_BACK_S:.0f} s")
        else:
            self._start_current()
        return ""

    def tend(self) -> float:
        """Start the committed model when it is time, whatever else goes on meanwhile."""
        if self._start_at is None or self._starter.running is not None:
            return IDLE_S
        if (left_s := self._start_at - self._clock.monotonic()) > 0:
            return left_s
        self._start_current()
        return IDLE_S if self._start_at is None else AGAIN_S

    def failing(self) -> str:
        vitals, now = self._runner.vitals(), self._clock.monotonic()
        if vitals.crashes < self._seen_crashes:  # another model
            self._crashes.clear()
        self._crashes.extend([now] * min(vitals.crashes - self._seen_crashes, self._config.max_crashes))
        self._seen_crashes = vitals.crashes
        while self._crashes and now - self._crashes[0] > self._config.crash_window_s:
            self._crashes.popleft()
        if len(self._crashes) < self._config.max_crashes:
            return ""
        self._crashes.clear()
        return (
            f"its worker was lost {self._config.max_crashes} times in {self._config.crash_window_s:.0f} s: {vitals.last_crash}"
        )

    def damaged(self) -> bool:
        damaged, self._damaged = self._damaged, False
        return damaged

    # -- in the order of an update ----------------------------------------------------------------------------------------

    def place(self, update: Update) -> str:
        kept = self._starter.slot or self._slots.current()
        return "b" if kept is not None and kept.name == "a" else "a"

    def present(self, update: Update) -> str:
        current = self._slots.current()
        if current is None or update.assignment != self._starter.running or self._starter.slot != current:
            return ""
        self._slots.prepare(current, _record(update))
        return current.name

    def prepare(self, update: Update) -> None:
        self._slots.prepare(self._slot(update), _record(update))

    def fetch(self, update: Update, permit: Permit, called_off: Callable[[], bool]) -> Release:
        slot, model = self._slot(update), _model(update)
        approved = self._fetcher.fill(slot, model, approve=lambda hub: permit.model(hub, model), called_off=called_off)
        return approved.release

    def cut(self) -> None:
        self._fetcher.cut()

    def progress(self, update: Update) -> int:
        return self._slots.bytes_in(self._slot(update))

    def verify(self, update: Update) -> Fit:
        self._slots.check(self._slot(update))
        return self._runner.verify(self._slot(update))

    def check(self, update: Update) -> None:
        self._slots.check(self._slot(update))

    def activate(self, update: Update) -> Effect:
        slot = self._slot(update)
        self._slots.activate(slot)
        self._starter.require(slot)
        return Effect.NOW

    def judge(self, update: Update, elapsed_s: float) -> Verdict:
        reference_ms = update.fit.p95_ms if update.fit is not None else 0.0
        return judge(self._runner.vitals(), elapsed_s=elapsed_s, reference_ms=reference_ms, config=self._config)

    def commit(self, update: Update) -> None:
        self._slots.mark(self._slot(update), good=True)

    def withdraw(self, update: Update) -> None:
        previous = self._slots.fallback(than=self._slot(update))
        if self._starter.running not in (None, update.assignment):
            return
        if not self._starter.start(previous) and previous is not None:
            self._start_at = self._clock.monotonic() + AGAIN_S

    def roll_back(self, update: Update) -> Effect:
        slot = self._slot(update)
        self._slots.activate(self._slots.fallback(than=slot))
        self._slots.mark(slot, good=False)
        return Effect.NOW

    def fall_back(self, reason: str) -> Effect | None:
        current = self._slots.current()
        previous = self._slots.fallback(than=current)
        if current is None or previous is None:
            return None
        if self._starter.running is not None and not self._starter.start(previous):
            self._starter.start(current)
            return None
        self._slots.mark(current, good=False)
        self._slots.activate(previous)
        return Effect.NOW

    # -- pieces -----------------------------------------------------------------------------------------------------------

    def _start_current(self) -> None:
        problem, damaged = self._starter.start_current()
        lost = bool(problem) and self._starter.running is None and not damaged
        self._start_at = self._clock.monotonic() + AGAIN_S if lost else None
        if problem and problem != self._unusable:
            self._say("model.unusable", problem)
        self._unusable = problem
        self._damaged = self._damaged or damaged

    def _slot(self, update: Update) -> Slot:
        return self._slots.slot(update.place or self.place(update))

    def _say(self, kind: str, detail: str) -> None:
        self._tell(Happening(at=self._clock.now(), kind=kind, detail=detail))


def _model(update: Update) -> ModelAssignment:
    assignment: Assignment = update.assignment
    assert isinstance(assignment, ModelAssignment)  # the journal's rows of this component hold nothing else
    return assignment


def _record(update: Update) -> SlotRecord:
    return SlotRecord(assignment=_model(update), generation=update.generation, rollout_id=update.rollout_id)
