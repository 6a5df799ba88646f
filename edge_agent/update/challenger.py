"""The challenger's line: what a desired twin names for a place beside the model that runs, from its offer to its end.

It has a slot, a state and a thread of its own, and no way into the slots that the device starts from: whatever becomes of it,
the model that runs is not touched.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from edge_agent.core.backoff import Backoff
from edge_agent.core.clock import Clock
from edge_agent.core.errors import BadModel, Corrupt, DiskFull, LinkDown, NoTrust, Refused, Unfit, Untrusted
from edge_agent.core.files import sweep
from edge_agent.core.model import Happening
from edge_agent.core.ports import Hub
from edge_agent.update import challenger_file
from edge_agent.update.challenger_file import Held
from edge_agent.update.fetch import Fetcher
from edge_agent.update.slots import Slot, SlotRecord, Slots
from edge_agent.update.surroundings import Approved
from protos.contract.manifest import Manifest
from protos.contract.telemetry import MAX_TEXT
from protos.contract.twin import Challenger, DesiredTwin, Fit, ModelAssignment, ShadowReport

log = logging.getLogger(__name__)

SLOT = "c"
IDLE_S = 3600.0  # an offer wakes it
WATCH_S = 2.0  # between looks at one that runs
SAVE_S = 60.0  # what a crash forgets of its counters
LASTED_S = 60.0  # one that has run so long has not brought the agent down
MOST_CRASHES = 3  # of its worker: it is started no more, until a newer twin names one
_MOST_REASON = 300  # characters; it travels in every reported twin


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What is to be seen of a challenger that runs."""

    report: ShadowReport  # what it did; its ``problem`` is why nothing is compared just now
    crashes: int = 0
    last_crash: str = ""


class Stage(Protocol):
    """The running agent, as a challenger needs it."""

    def unrunnable(self, manifest: Manifest) -> str:
        """As ``Runner.unrunnable``."""

    def verify(self, slot: Slot) -> Fit:
        """As ``Runner.verify``."""

    def begin(self, slot: Slot, challenger: Challenger, so_far: ShadowReport) -> None:
        """From now on it is shown frames; it counts on from ``so_far``. Raises BadModel: it does not start."""

    def look(self) -> Sight | None:
        """None: none runs. For any thread."""

    def end(self) -> None:
        """On return it runs no more. Harmless where none runs."""


Approval = Callable[[ModelAssignment, int], Callable[[Hub], Approved]]  # by generation; raises LinkDown, NoTrust


class ChallengerLine:
    """``offer``, ``report`` and ``stop`` are for any thread; ``run``, or ``step`` in its place, for one."""

    def __init__(
        self,
        slots: Slots,
        stage: Stage,
        fetcher: Fetcher,
        approval: Approval,
        clock: Clock,
        backoff: Backoff,
        *,
        max_attempts: int,
        tell: Callable[[Happening], None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """``max_attempts``: bad starts and damaged downloads. ``changed``: its problem is another, it came or went."""
        self._slots, self._stage, self._fetcher, self._approval = slots, stage, fetcher, approval
        self._clock, self._backoff, self._max_attempts = clock, backoff, max_attempts
        self._tell, self._changed = tell, changed
        self._slot = Slot(SLOT, slots.folder / "slots" / SLOT)
        self._path = slots.folder / "challenger.json"
        self._held: Held | None = challenger_file.load(self._path)
        self._generation = self._held.generation if self._held is not None else 0
        self._lock = threading.Lock()  # over _offer
        self._offer: DesiredTwin | None = None
        self._wake = threading.Event()
        self._stopped = False
        self._trouble = ""  # why it does not go on just now
        self._began_at = self._saved_at = clock.monotonic()

    def offer(self, twin: DesiredTwin) -> None:
        """Take a desired twin; returns at once. An older one, or the same again, is ignored."""
        with self._lock:
            if twin.generation <= (self._offer.generation if self._offer is not None else self._generation):
                return
            self._offer = twin
        self._fetcher.cut()  # the director signs for the newest generation alone
        self._wake.set()

    def report(self) -> ShadowReport | None:
        """None: the hub wants none."""
        held = self._held
        if held is None:
            return None
        sight = self._stage.look()
        report = sight.report if sight is not None else held.report
        return replace(report, problem=(held.given_up or self._trouble or report.problem)[:_MOST_REASON])

    def run(self) -> None:
        """Step until ``stop``."""
        while not self._stopped:
            self._wake.clear()
            pause = self.step()
            if not self._stopped and pause > 0:
                self._wake.wait(pause)
        self._put_away()

    def stop(self) -> None:
        """End ``run`` soon."""
        self._stopped = True
        self._fetcher.cut()
        self._wake.set()

    def step(self) -> float:
        """Do the next thing there is to do; how many seconds may pass before the next call."""
        before, taken = (self._held, self._trouble), self._offered()
        try:
            pause = self._step()
            self._trouble = ""
        except (LinkDown, Untrusted, NoTrust, Corrupt, DiskFull, OSError) as error:
            newer = self._stopped or self._offered() is not taken  # an offer that could not be taken is no newer one
            pause = 0.0 if newer else self._backoff.next()
            self._trouble = f"{type(error).__name__}: {error}"
            log.warning("challenger waits", extra={"error": self._trouble, "pause_s": round(pause, 1)})
        if _standing(*before) != _standing(self._held, self._trouble):
            self._changed()
        return pause

    def _step(self) -> float:
        if self._take_offer():
            return 0.0  # what is wanted is told before it is acted upon
        held = self._held
        if held is None or held.given_up:
            return IDLE_S
        sight = self._stage.look()
        return self._watch(held, sight) if sight is not None else self._bring(held)

    # -- offers -----------------------------------------------------------------------------------------------------------

    def _offered(self) -> DesiredTwin | None:
        with self._lock:
            return self._offer

    def _called_off(self) -> bool:
        return self._stopped or self._offered() is not None

    def _take_offer(self) -> bool:
        """Whether there was one."""
        offer = self._offered()
        if offer is None:
            return False
        wanted, held = offer.challenger, self._held
        if wanted is None:
            self._forget()
        elif held is None or held.challenger.model != wanted.model:
            self._forget()
            report = ShadowReport(model=wanted.model, since=self._clock.now())
            self._save(Held(generation=offer.generation, challenger=wanted, report=report))
            log.info("challenger offered", extra={"model": f"{wanted.model.name}:{wanted.model.version}"})
        elif held.challenger != wanted or held.given_up:  # other shares, or one more try: it goes on from where it was
            self._put_away()
            held = self._held or held
            self._save(replace(held, generation=offer.generation, challenger=wanted, attempts=0, damaged=0, given_up=""))
        self._generation = offer.generation
        self._backoff.reset()
        with self._lock:
            if self._offer is offer:
                self._offer = None
        return True

    def _forget(self) -> None:
        """The slot goes after the word that it is wanted: a crash in between leaves files that nobody starts."""
        self._stage.end()
        if self._held is not None:
            challenger_file.remove(self._path)
            self._held = None
        if self._slot.folder.exists():
            self._slots.clear(self._slot)

    # -- from its offer to its first frame ----------------------------------------------------------------------------------

    def _bring(self, held: Held) -> float:
        if not self._whole(held) and not self._fetch(held):
            return 0.0
        if held.attempts >= self._max_attempts:
            return self._give_up(held, f"the agent did not last in {held.attempts} starts with it")
        held = self._save(replace(held, attempts=held.attempts + 1))  # counted before it is made
        try:
            if held.report.fit is None:
                report = replace(held.report, fit=self._stage.verify(self._slot), since=self._clock.now())
                held = self._save(replace(held, report=report))
            if self._called_off():
                return 0.0
            self._stage.begin(self._slot, held.challenger, held.report)
        except Unfit as error:
            return self._give_up(replace(held, report=replace(held.report, fit=error.fit)), str(error))
        except BadModel as error:
            return self._give_up(held, str(error))
        self._began_at = self._saved_at = self._clock.monotonic()
        log.info("challenger runs", extra={"model": f"{held.challenger.model.name}:{held.challenger.model.version}"})
        return WATCH_S

    def _whole(self, held: Held) -> bool:
        try:
            record = self._slots.record(self._slot)
            if record is None or record.assignment != held.challenger.model:
                return False
            self._slots.check(self._slot)
        except Corrupt:
            return False
        return True

    def _fetch(self, held: Held) -> bool:
        """False where it has to be given up, or was called off."""
        model = held.challenger.model
        self._slot.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        sweep(self._slot.folder)
        self._slots.prepare(self._slot, SlotRecord(assignment=model, generation=held.generation))
        try:
            approve = self._approval(model, self._generation)
            self._fetcher.fill(self._slot, model, approve=approve, called_off=self._called_off)
        except (Refused, BadModel) as error:
            self._give_up(held, str(error))
            return False
        except Corrupt as error:
            held = self._save(replace(held, damaged=held.damaged + 1))
            if held.damaged < self._max_attempts:
                raise
            self._give_up(held, f"the download was damaged {held.damaged} times: {error}")
            return False
        return True

    # -- while it runs ----------------------------------------------------------------------------------------------------

    def _watch(self, held: Held, sight: Sight) -> float:
        now = self._clock.monotonic()
        if sight.crashes >= MOST_CRASHES:
            held = replace(held, report=sight.report)
            return self._give_up(held, f"its worker was lost {sight.crashes} times: {sight.last_crash}")
        lasted = held.attempts > 0 and now - self._began_at >= LASTED_S
        if lasted or (now - self._saved_at >= SAVE_S and sight.report != held.report):
            self._saved_at = now
            self._save(replace(held, report=sight.report, attempts=0 if lasted else held.attempts))
        return WATCH_S

    def _give_up(self, held: Held, reason: str) -> float:
        """Until a newer twin names one, this or another."""
        log.error("challenger given up", extra={"reason": reason})
        self._stage.end()
        self._save(replace(held, given_up=reason[:_MOST_REASON] or "unknown"))
        model = held.challenger.model
        detail = f"{model.name}:{model.version} generation {held.generation}: {reason}"
        self._tell(Happening(at=self._clock.now(), kind="challenger.given_up", detail=detail[:MAX_TEXT]))
        return 0.0

    def _put_away(self) -> None:
        """End it in good order: what it counted is kept, and this start is not held against it."""
        held = self._held
        if held is not None and self._stage.look() is not None:
            kept = replace(self._latest(held), attempts=0)
            self._stage.end()
            try:
                self._save(kept)
            except OSError as error:
                log.warning("counters of the challenger not kept", extra={"error": str(error)})

    def _latest(self, held: Held) -> Held:
        sight = self._stage.look()
        return replace(held, report=replace(sight.report, problem="")) if sight is not None else held

    def _save(self, held: Held) -> Held:
        """Durable on return. Raises OSError: nothing has changed."""
        challenger_file.save(self._path, held)
        self._held = held
        return held


def _standing(held: Held | None, trouble: str) -> tuple[object, ...]:
    """What the hub is to hear of at once."""
    return (held.challenger, held.given_up, held.report.fit, trouble) if held is not None else (None,)
