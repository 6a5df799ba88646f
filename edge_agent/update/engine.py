"""The life of an update on the device: download, stage, try, keep or take back."""

import logging
import threading
from collections.abc import Callable

from edge_agent.core.config import UpdateConfig
from edge_agent.core.errors import AlteredTarget, BadModel, Corrupt, DiskFull, LinkDown, NoTrust, Refused, Retryable, Untrusted
from edge_agent.core.model import Happening
from edge_agent.core.ports import Hub
from edge_agent.update.fetch import Fetcher
from edge_agent.update.journal import Journal, Update
from edge_agent.update.probation import Ruling, judge
from edge_agent.update.slots import Slot, SlotRecord, Slots
from edge_agent.update.surroundings import Anchor, Approved, Standing, Starter, Surroundings
from protos.contract.twin import DesiredTwin, ModelAssignment
from protos.contract.update import UpdateState

log = logging.getLogger(__name__)

IDLE_S = 3600.0  # an offer wakes the engine; this is only how long it sleeps without one
WATCH_S = 0.25  # between looks at a model on trial
HELD_BACK_S = 20.0  # a suspect model starts so late that the hub can be heard before
AGAIN_S = 300.0  # between starts of a committed model that does not start: it may be the machine's fault
ROOTS_S = 60.0  # between looks for roots of trust, where an update has failed for want of them
_ROOTLESS = f"{NoTrust.__name__}: "  # begins the reason of such an update


class UpdateEngine:
    """Takes desired twins, newest first, through the states of ``protos.contract.update``.

    Every state is in the journal before it is acted upon, so a crash anywhere is continued by ``boot`` and ``step``. Damaged
    downloads, golden runs and starts on trial are tried at most ``max_attempts`` times. A full disk, a hub that does not
    answer although the device is online, or one that cannot be believed is waited for up to ``fetch_timeout_s`` in one run of
    the agent; a device that is offline waits until it is online again. ``offer``, ``standing`` and ``stop`` are for any
    thread; ``boot`` comes first, then ``step`` or ``run`` in one thread.
    """

    def __init__(self, slots: Slots, journal: Journal, config: UpdateConfig, around: Surroundings) -> None:
        self._slots, self._journal, self._config, self._around = slots, journal, config, around
        self._starter = Starter(slots, around.runner)
        self._fetcher = Fetcher(
            around.connect,
            unrunnable=around.runner.unrunnable,
            free_bytes=around.free_bytes,
            reserve_bytes=config.disk_reserve_bytes,
        )
        self._lock = threading.Lock()  # over _offer
        self._offer: DesiredTwin | None = None
        self._wake = threading.Event()
        self._stopped = False
        self._since = 0.0  # monotonic, when this state was entered in this run of the agent
        self._doomed = ""  # why a trial must end, while that cannot be written down
        self._start_at: float | None = None  # monotonic: when the committed model, which does not run, is to be started
        self._unusable = ""  # what was told last about it
        self._tried: Anchor | None = None  # by which the last update was judged
        self._refused: set[tuple[int, str]] = set()  # generation and kind of what was told as not to be believed
        self._standing = Standing()

    @property
    def standing(self) -> Standing:
        return self._standing

    def offer(self, twin: DesiredTwin) -> None:
        """Take a desired twin; returns at once. An older one, or the same again, is ignored."""
        with self._lock:
            newest = max(self._standing.generation, self._offer.generation if self._offer else 0)
            if twin.generation <= newest:
                return
            self._offer = twin
        self._fetcher.cut()  # what is being downloaded is out of date
        self._wake.set()

    def boot(self, *, suspect: bool = False) -> None:
        """Settle what a crash left and start the model there is. Needs no network and never raises for a bad model.

        With ``suspect`` the last starts of the agent did not last: a model that was committed starts only HELD_BACK_S later, so
        that a newer one can take its place. One on trial has its own bound.
        """
        self._enter()
        update = self._journal.newest()
        on_trial = update is not None and update.state is UpdateState.TRIAL
        try:
            if update is not None and on_trial:
                self._resume_trial(update)
            elif suspect and self._slots.current() is not None:
                self._start_at = self._around.clock.monotonic() + HELD_BACK_S
                self._tell(
                    "model.held_back", f"the agent ended soon after its last starts: the model waits {HELD_BACK_S:.0f} s"
                )
            else:
                self._start_current()
        except (DiskFull, OSError) as error:
            log.error("the start could not be journalled", extra={"error": str(error)})
            if update is not None and on_trial and self._starter.running is None:
                # An attempt that cannot be counted is not made: the model before it runs until there is room.
                self._starter.start(self._slots.fallback(than=self._slot_of(update)))
        self._publish()

    def run(self) -> None:
        """Step until ``stop``."""
        while not self._stopped:
            self._wake.clear()
            try:
                pause = self.step()
            except Exception:  # the edge of this thread: an agent that cannot update cannot be mended from afar
                log.exception("update step failed")
                pause = self._around.backoff.next()
            if not self._stopped and pause > 0:
                self._wake.wait(pause)

    def stop(self) -> None:
        """End ``run`` soon; a download is cut, and resumed at the next start."""
        self._stopped = True
        self._fetcher.cut()
        self._wake.set()

    def step(self) -> float:
        """Do the next thing there is to do; returns how many seconds may pass before the next call."""
        try:
            self._take_offer()
            start_s = self._start_late()
            update = self._journal.newest()
            if update is None or update.done:
                return 0.0 if self._offered() else min(start_s, self._look_for_roots())
            pause = self._act(update)
            self._publish()
            return min(start_s, pause)
        except (Retryable, OSError) as error:
            return self._retry(error)

    def _start_late(self) -> float:
        """Start the committed model when it is time, whatever update waits meanwhile; seconds until then."""
        if self._start_at is None or self._starter.running is not None:
            return IDLE_S
        update = self._journal.newest()
        if update is not None and update.state is UpdateState.TRIAL:  # the pointer may name what is to be rolled back
            return IDLE_S
        if (left_s := self._start_at - self._around.clock.monotonic()) > 0:
            return left_s
        self._start_current()
        self._publish()
        return IDLE_S if self._start_at is None else AGAIN_S

    def _look_for_roots(self) -> float:
        """An update that failed for want of roots is begun again once there are some, or others."""
        update = self._journal.newest()
        if update is None or not update.reason.startswith(_ROOTLESS) or update.generation < self._journal.generation():
            return IDLE_S
        try:
            same = self._around.anchor() == self._tried
        except (NoTrust, LinkDown):
            return ROOTS_S
        if same:
            return ROOTS_S
        self._journal.reopen(update)
        self._enter()
        self._publish()
        return 0.0

    # -- offers -------------------------------------------------------------------------------------------------------

    def _offered(self) -> DesiredTwin | None:
        with self._lock:
            return self._offer

    def _called_off(self) -> bool:
        return self._stopped or self._offered() is not None

    def _take_offer(self) -> None:
        """Begin with the newest desired twin; what was under way is superseded, or taken back if it was on trial."""
        offer = self._offered()
        if offer is None:
            return
        if offer.generation > self._journal.generation():
            update = self._journal.newest()
            same = update is not None and (update.assignment, update.rollout_id) == (offer.model, offer.rollout_id)
            if update is not None and not same and not update.done and not self._make_way(update, offer):
                return
            if offer.model is None:
                self._journal.see(offer.generation)
            elif update is not None and same:  # what changed does not concern the model
                self._journal.carry(update, offer.generation)
            else:
                self._begin(offer, offer.model)
        with self._lock:
            if self._offer is offer:
                self._offer = None
        self._publish()

    def _make_way(self, update: Update, offer: DesiredTwin) -> bool:
        """False where the update under way has to end by itself first."""
        if update.state is not UpdateState.TRIAL:
            self._journal.advance(update, UpdateState.SUPERSEDED, reason=f"superseded by generation {offer.generation}")
            return True
        if offer.model is None:
            return True
        if offer.model == update.assignment:  # for another rollout: this trial is as good as its own would be
            return False
        self._roll_back(update, f"superseded by generation {offer.generation}")
        return True

    def _begin(self, offer: DesiredTwin, model: ModelAssignment) -> None:
        update = self._journal.offer(offer)
        log.info("update offered", extra={"generation": update.generation, "model": f"{model.name}:{model.version}"})
        self._enter()
        current = self._slots.current()
        if current is not None and model == self._starter.running:
            self._slots.prepare(current, _record(update))
            states = (UpdateState.FETCHING, UpdateState.STAGED, UpdateState.TRIAL, UpdateState.COMMITTED)
            self._finish(self._journal.advance(update, *states, slot=current))

    # -- states -------------------------------------------------------------------------------------------------------

    def _act(self, update: Update) -> float:
        match update.state:
            case UpdateState.OFFERED:
                self._journal.advance(update, UpdateState.FETCHING, slot=self._slots.other())
                self._enter()
                return 0.0
            case UpdateState.FETCHING:
                return self._fetch(update)
            case UpdateState.STAGED:
                return self._try(update)
            case _:
                return self._watch(update)

    def _fetch(self, update: Update) -> float:
        try:
            slot = self._slot_of(update)
            self._slots.prepare(slot, _record(update))
            approved = self._fetcher.fill(slot, update.assignment, approve=self._approval(update), called_off=self._called_off)
        except (LinkDown, DiskFull, OSError, Untrusted) as error:
            return self._wait_for(update, error)
        except Corrupt as error:
            update = self._journal.count(update)
            reason = self._refuse(update, AlteredTarget(f"the download was damaged {update.attempts} times: {error}"))
            if update.attempts >= self._config.max_attempts:
                return self._fail(update, reason)
            return self._retry(error)
        except NoTrust as error:
            return self._fail(update, f"{_ROOTLESS}{error}")
        except (Refused, BadModel) as error:
            return self._fail(update, str(error))
        self._journal.advance(update, UpdateState.STAGED, release=approved.release)
        self._enter()
        return 0.0

    def _approval(self, update: Update) -> Callable[[Hub], Approved]:
        """Raises LinkDown, NoTrust."""
        self._tried = None
        anchor, generation = self._around.anchor(), self._journal.generation()
        self._tried = anchor
        return lambda hub: self._around.verifier().check(hub, anchor, update.assignment, generation)

    def _wait_for(self, update: Update, error: Exception) -> float:
        """Try again later, unless that has been done for long enough."""
        if self._called_off():
            return 0.0
        reason = f"not downloaded within {self._config.fetch_timeout_s:.0f} s: {error}"
        if isinstance(error, Untrusted):
            reason = self._refuse(update, error)
        if not self._around.online():
            self._since = self._around.clock.monotonic()
        if self._elapsed() >= self._config.fetch_timeout_s:
            return self._fail(update, reason)
        return self._retry(error)

    def _refuse(self, update: Update, error: Untrusted) -> str:
        """The reason, which is told at once where it is the first of its kind."""
        name = type(error).__name__
        if (update.generation, name) not in self._refused:
            self._refused = {told for told in self._refused if told[0] == update.generation} | {(update.generation, name)}
            self._tell("trust.refused", f"{name}: {error}")
        return f"{name}: {error}"

    def _try(self, update: Update) -> float:
        """Golden run in another process; then, and only then, the pointer and the running agent."""
        slot = self._slot_of(update)
        if update.attempts >= self._config.max_attempts:
            return self._fail(update, f"the golden run did not end in {update.attempts} starts of the agent")
        update = self._journal.count(update)
        try:
            self._slots.check(slot)
            reference_ms = self._around.runner.verify(slot)
        except (Corrupt, BadModel) as error:
            return self._fail(update, str(error))
        if self._called_off():
            return 0.0  # nothing is active yet: a newer generation may still take over, a restart verifies again
        update = self._journal.advance(update, UpdateState.TRIAL, reference_ms=reference_ms)
        self._begin_trial(update)
        return 0.0

    def _begin_trial(self, update: Update) -> None:
        slot = self._slot_of(update)
        self._slots.activate(slot)
        try:
            self._starter.require(slot)
        except (Corrupt, BadModel) as error:
            self._roll_back(update, f"it does not start: {error}")
            return
        self._enter()
        log.info("model on trial", extra={"generation": update.generation, "attempts": update.attempts})

    def _resume_trial(self, update: Update) -> None:
        """After a restart, or when the disk was too full to begin: one more attempt, counted first."""
        if update.reason:
            self._roll_back(update, update.reason)
        elif update.attempts >= self._config.max_attempts:
            self._roll_back(update, f"the agent did not survive {update.attempts} starts with it")
        else:
            self._begin_trial(self._journal.count(update))

    def _watch(self, update: Update) -> float:
        if reason := self._doomed or update.reason:
            self._roll_back(update, reason)
            return 0.0
        if self._starter.running != update.assignment:
            self._resume_trial(update)
            return 0.0
        verdict = judge(
            self._around.runner.vitals(), elapsed_s=self._elapsed(), reference_ms=update.reference_ms, config=self._config
        )
        if verdict.ruling is Ruling.WAIT:
            return WATCH_S
        if verdict.ruling is Ruling.ROLL_BACK:
            self._roll_back(update, verdict.reason)
            return 0.0
        self._slots.mark(self._slot_of(update), good=True)
        self._finish(self._journal.advance(update, UpdateState.COMMITTED))
        return 0.0

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _roll_back(self, update: Update, reason: str) -> None:
        """The model before it runs again, or none where there was none: without network, and at once even on a full disk."""
        slot = self._slot_of(update)
        previous = self._slots.fallback(than=slot)
        if self._starter.running in (None, update.assignment) and not self._starter.start(previous) and previous is not None:
            self._start_at = self._around.clock.monotonic() + AGAIN_S
        self._doomed = reason
        if not update.reason:
            update = self._journal.condemn(update, reason)
        self._slots.activate(previous)
        self._slots.mark(slot, good=False)
        update = self._journal.advance(update, UpdateState.ROLLED_BACK, reason=update.reason)
        self._doomed = ""
        self._finish(update)

    def _fail(self, update: Update, reason: str) -> float:
        self._finish(self._journal.advance(update, UpdateState.FAILED, reason=reason))
        return 0.0

    def _finish(self, update: Update) -> None:
        model = f"{update.assignment.name}:{update.assignment.version}"
        detail = f"{model} generation {update.generation}" + (f": {update.reason}" if update.reason else "")
        log.info("update ended", extra={"state": update.state.name, "detail": detail})
        self._publish()
        self._tell(f"update.{update.state.name.lower()}", detail)

    # -- pieces -------------------------------------------------------------------------------------------------------

    def _start_current(self) -> None:
        problem, damaged = self._starter.start_current()
        lost = bool(problem) and self._starter.running is None and not damaged
        self._start_at = self._around.clock.monotonic() + AGAIN_S if lost else None
        if problem and problem != self._unusable:
            self._tell("model.unusable", problem)
        self._unusable = problem
        if damaged:
            self._journal.forget()  # what the hub still desires is then fetched again

    def _slot_of(self, update: Update) -> Slot:
        return self._slots.slot(update.slot) if update.slot else self._slots.other()

    def _enter(self) -> None:
        self._since = self._around.clock.monotonic()
        self._around.backoff.reset()

    def _elapsed(self) -> float:
        return self._around.clock.monotonic() - self._since

    def _retry(self, error: Exception) -> float:
        pause = self._around.backoff.next()
        log.warning("update waits", extra={"error": str(error), "pause_s": round(pause, 1)})
        return pause

    def _tell(self, kind: str, detail: str) -> None:
        self._around.tell(Happening(at=self._around.clock.now(), kind=kind, detail=detail))

    def _publish(self) -> None:
        update = self._journal.newest()
        standing = Standing(
            generation=self._journal.generation(), running=self._starter.running, update=update.status() if update else None
        )
        if standing != self._standing:
            self._standing = standing
            self._around.changed()


def _record(update: Update) -> SlotRecord:
    return SlotRecord(assignment=update.assignment, generation=update.generation, rollout_id=update.rollout_id)
