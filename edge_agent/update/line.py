"""One component's updates: from offered to committed, or back."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.core.config import UpdateConfig
from edge_agent.core.errors import BadModel, BadPackage, Corrupt, DiskFull, Retryable, Unfit
from edge_agent.update.download import Download
from edge_agent.update.ends import Ends
from edge_agent.update.fetching import Fetching, Patience
from edge_agent.update.installer import Installer
from edge_agent.update.journal import Journal
from edge_agent.update.record import Component, Effect, Update, Wanted
from edge_agent.update.surroundings import Surroundings
from edge_agent.update.trials import Trials
from protos.contract.update import UpdateState

log = logging.getLogger(__name__)

IDLE_S = 3600.0  # an offer wakes the engine; this is only how long it sleeps without one
LOOK_S = 5.0  # between looks at what an update waits for
AGAIN_S = 60.0  # before what a full disk did not take is written down again
SAVE_S = 600.0  # what a restart forgets of the time that it has waited


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What is being done just now, for whoever watches from another thread."""

    update: Update
    began: float  # monotonic
    bound_s: float


class Line:
    """Every state is in the journal before it is acted upon, so a crash anywhere is continued by ``boot`` and ``step``."""

    def __init__(
        self,
        installer: Installer,
        journal: Journal,
        config: UpdateConfig,
        around: Surroundings,
        called_off: Callable[[], bool],
        publish: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        """``called_off``: there is something newer to look at, or the engine is to stop. It and ``wake`` are for any thread."""
        self.installer = installer
        self._journal, self._config, self._around, self._called_off = journal, config, around, called_off
        self._ends = Ends(installer, journal, around, publish)
        self._patience = Patience(around)
        self._fetching = Fetching(installer, journal, config, around, self._ends, self._patience, called_off, wake)
        self._trials = Trials(installer, journal, config, around, self._ends, self._patience, self.enter, self._watched)
        self.waits = ""  # what for, while staged
        self.due_at = float("-inf")  # monotonic: not to be stepped before
        self.act: Act | None = None
        self._damaged = False  # what was committed; as long as that could not be written down
        self._fallen = ""  # why what was committed has been taken back before this agent began; likewise
        self.enter()

    @property
    def component(self) -> Component:
        return self.installer.component

    @property
    def effect(self) -> Effect:
        """Other than NOW: nothing more can be done in this process."""
        return self._ends.effect

    def newest(self) -> Update | None:
        return self._journal.newest(self.component)

    @property
    def download(self) -> Download:
        """Of the update under way, beside everything else."""
        return self._fetching.download

    @property
    def left_s(self) -> float:
        """Until it is to be stepped again."""
        return 0.0 if self.download.over else self.due_at - self._around.clock.monotonic()

    @property
    def under_way(self) -> bool:
        update = self.newest()
        return update is not None and not update.done

    @property
    def on_trial(self) -> bool:
        update = self.newest()
        return update is not None and update.state is UpdateState.TRIAL

    def excuse(self) -> bool:
        """The last run of the agent was ended from outside; whether it was at a golden run, which is not to blame for that."""
        update = self.newest()
        if update is None or update.state is not UpdateState.STAGED or update.verified:
            return False
        try:
            return self._journal.excuse(update).attempts < update.attempts
        except DiskFull as error:
            log.error("the cut attempt stays counted", extra={"error": str(error)})
            return False

    def boot(self, *, suspect: bool) -> None:
        """Settle what a crash left, and start what is to run."""
        update = self.newest()
        trial = update if update is not None and update.state is UpdateState.TRIAL else None
        fallen = self.installer.boot(trial, suspect=suspect)
        self._fallen = fallen if trial is None else ""
        self.look_after()
        if trial is None:
            return
        try:
            self._trials.resume(trial, fallen)
        except (DiskFull, OSError) as error:
            log.error("the start could not be journalled", extra={"error": str(error)})
            if self.installer.running() is None:
                # An attempt that cannot be counted is not made: what was before it runs until there is room.
                self.installer.withdraw(trial)

    # -- offers -------------------------------------------------------------------------------------------------------

    def take(self, wanted: Wanted | None, generation: int) -> bool:
        """Begin with what the newest twin asks for; what is under way is superseded, or taken back if it is on trial.

        False where that has to end by itself first; then nothing has changed.
        """
        update = self.newest()
        if wanted is None:
            if update is not None and not update.done:
                self._call_off(update, f"called off by generation {generation}")
            return True
        if update is not None and update.asks_the_same(wanted):
            if (update.generation, update.conditions) != (wanted.generation, wanted.conditions):
                self._journal.carry(update, wanted)
            self.due_at = float("-inf")
            return True
        if update is not None and not update.done:
            if update.state is UpdateState.TRIAL and wanted.assignment == update.assignment:
                return False  # asked for by another rollout: this trial is as good as its own would be
            self._call_off(update, f"superseded by generation {wanted.generation}")
        self._begin(wanted)
        return True

    def _call_off(self, update: Update, reason: str) -> None:
        if update.state is UpdateState.TRIAL:
            self._ends.roll_back(update, reason)
        else:
            self._journal.advance(update, UpdateState.SUPERSEDED, reason=reason)
        self.enter()

    def _begin(self, wanted: Wanted) -> None:
        update = self._journal.offer(self.component, wanted)
        log.info("update offered", extra={"generation": update.generation, "what": update.named})
        self.enter()
        if place := self.installer.present(update):
            states = (UpdateState.FETCHING, UpdateState.STAGED, UpdateState.TRIAL, UpdateState.COMMITTED)
            self._ends.finish(self._journal.advance(update, *states, place=place))

    # -- states -------------------------------------------------------------------------------------------------------

    def step(self) -> float:
        """Do the next thing for the update under way; seconds until the next call. Also in ``due_at``."""
        update = self.newest()
        pause = 0.0
        if update is not None and not update.done:
            try:
                pause = self._act(update)
            except (Retryable, OSError) as error:
                pause = self._patience.retry(error)
            finally:
                self.act = None
        self.due_at = self._around.clock.monotonic() + pause
        return pause

    def _act(self, update: Update) -> float:
        match update.state:
            case UpdateState.OFFERED:
                return self._place(update)
            case UpdateState.FETCHING:
                if self._fetching.fetch(update):
                    self.enter()
                return self._fetching.pause_s
            case UpdateState.STAGED:
                return self._try(update)
            case _:
                return self._trials.watch(update)

    def _place(self, update: Update) -> float:
        if update.attempts >= self._config.max_attempts:  # it hangs, or takes the agent down, and a new start forgets the time
            return self._ends.fail(update, f"not begun in {update.attempts} tries")
        update = self._journal.count(update)
        self._watched(update, self.installer.activate_s)
        try:
            place = self.installer.place(update)
        except BadPackage as error:
            return self._ends.fail(update, str(error))
        self._journal.advance(update, UpdateState.FETCHING, place=place)
        self.enter()
        return 0.0

    def _try(self, update: Update) -> float:
        """A trial run in another process; then the interlocks; then, and only then, what runs is replaced."""
        try:
            if not update.verified:
                if update.attempts >= self._config.max_attempts:
                    return self._ends.fail(update, f"the golden run did not end in {update.attempts} starts of the agent")
                update = self._journal.count(update)
                self._watched(update, self.installer.verify_s)
                update = self._journal.verify(update, self.installer.verify(update))
            if self._called_off():
                return 0.0  # nothing is active yet: a newer generation may still take over
            if self.waits != (waits := self._why_not_now(update)):
                self.waits = waits
                log.info("update waits", extra={"what": update.named, "reason": waits})
            if waits:
                return self._wait_on(update)
            self._watched(update, self.installer.verify_s)
            self.installer.check(update)
        except Unfit as error:
            return self._ends.fail(update, str(error), fit=error.fit)
        except (Corrupt, BadModel, BadPackage) as error:
            return self._ends.fail(update, str(error))
        self._trials.begin(self._journal.advance(update, UpdateState.TRIAL))
        return 0.0

    def _why_not_now(self, update: Update) -> str:
        return "; ".join(reason for each in self._around.interlocks if (reason := each.holds_back(update)))

    def _wait_on(self, update: Update) -> float:
        """For the interlocks, counted over restarts."""
        waited_s = update.waited_s + self._patience.elapsed_s()
        if waited_s >= self._config.staged_timeout_s:
            return self._ends.fail(update, f"not activated within {self._config.staged_timeout_s:.0f} s: {self.waits}")
        if self._patience.elapsed_s() >= SAVE_S:
            self._journal.wait(update, waited_s)
            self._patience.came_on()
        return LOOK_S

    # -- between updates ----------------------------------------------------------------------------------------------

    def look_after(self) -> None:
        """What was committed may have fallen, or be damaged: what the hub still desires is then fetched again.

        An agent must start on a full disk, too: there this is written down later.
        """
        self._damaged = self.installer.damaged() or self._damaged
        try:
            if self._fallen and (committed := self._journal.committed(self.component)) is not None:
                self._ends.note_fall(committed, self._fallen)
            self._fallen = ""
            if self._damaged and self.download.begun:  # its row is needed when it ends
                return
            if self._damaged:
                self._journal.forget(self.component)
            self._damaged = False
        except DiskFull as error:
            log.error("what became of it is not journalled", extra={"component": self.component.value, "error": str(error)})

    def tend(self) -> float:
        """What there is to do beside updates; seconds until the next call."""
        if self.on_trial:  # the pointer may name what is to be rolled back
            return IDLE_S
        pause = self.installer.tend()
        self.look_after()
        if self._damaged or self._fallen:
            pause = min(pause, AGAIN_S)
        if (failing := self.installer.failing()) and not self.fall_back(failing):
            self._ends.tell(f"{self.component.value}.failing", f"there is nothing to go back to: {failing}")
        if (update := self.newest()) is not None and self._fetching.reopened(update):
            self.enter()
            return 0.0
        return min(pause, self._fetching.look_s(update))

    def fall_back(self, reason: str) -> bool:
        """Go back to what ran before the newest that was committed; False where there is nothing."""
        return self._ends.fall_back(reason)

    def rest(self) -> None:
        """It is not its turn: the time does not count."""
        self._patience.came_on()

    # -- pieces -------------------------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Another state: its time begins."""
        self._patience.begin()
        self.waits = ""
        self.due_at = float("-inf")

    def _watched(self, update: Update, bound_s: float) -> None:
        self.act = Act(update=update, began=self._around.clock.monotonic(), bound_s=bound_s)
