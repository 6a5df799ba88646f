"""Updates of all that can be replaced on the device, each component in a line of its own."""

import logging
import threading
from collections.abc import Iterable

from edge_agent.core.config import UpdateConfig
from edge_agent.core.errors import Retryable
from edge_agent.update.components.absent import AbsentInstaller
from edge_agent.update.installer import Installer
from edge_agent.update.journal import Journal
from edge_agent.update.line import IDLE_S, Line
from edge_agent.update.record import Component, Effect, wanted_by
from edge_agent.update.surroundings import Standing, Surroundings
from protos.contract.twin import DesiredTwin, ModelAssignment, PackageAssignment, PackageStatus, UpdateStatus

log = logging.getLogger(__name__)

DOWNLOAD_END_S = 4.0  # for which ``run`` waits at its end, so that no download is torn out of a process that ends


class UpdateEngine:
    """Takes desired twins, newest first, through the states of ``protos.contract.update``.

    Damaged downloads, golden runs and starts on trial are tried at most ``max_attempts`` times. A full disk, a hub that does
    not answer although the device is online, or one that cannot be believed is waited for up to ``fetch_timeout_s`` without a
    byte in one run of the agent; a device that is offline waits until it is online again. One component is on trial at a time,
    so that it is clear which one is to blame; the others wait. Downloads run beside all this, each by itself.

    ``offer``, ``wake``, ``standing``, ``oversee`` and ``stop`` are for any thread; ``boot`` comes first, then ``step`` or
    ``run`` in one thread.
    """

    def __init__(self, installers: Iterable[Installer], journal: Journal, config: UpdateConfig, around: Surroundings) -> None:
        self._journal, self._config, self._around = journal, config, around
        there = {installer.component: installer for installer in installers}
        self._lines = [
            Line(
                there.get(component) or AbsentInstaller(component, f"this device takes no {component.value}"),
                journal,
                config,
                around,
                self._called_off,
                self._publish,
                self.wake,
            )
            for component in Component
        ]
        self._backoff = around.backoff()
        self._lock = threading.Lock()  # over the two below
        self._offer: DesiredTwin | None = None
        self._wish: DesiredTwin | None = None  # the newest that has come, taken or not
        self._wake = threading.Event()
        self._stopped = False
        self._standing = Standing()

    @property
    def standing(self) -> Standing:
        return self._standing

    def offer(self, twin: DesiredTwin) -> None:
        """Take a desired twin; returns at once. An older one, or the same again, is ignored."""
        with self._lock:
            if self._wish is None or twin.generation > self._wish.generation:
                self._wish = twin
            newest = max(self._standing.generation, self._offer.generation if self._offer else 0)
            if twin.generation <= newest:
                return
            self._offer = twin
        self._cut()  # what is being downloaded may be out of date
        self._wake.set()

    def wake(self) -> None:
        """Something has happened that a line may have to look at."""
        self._wake.set()

    def boot(self, *, suspect: bool = False, fall_back: bool = False, cut: bool = False) -> None:
        """Settle what a crash left and start what there is. Needs no network and never raises for what does not start.

        With ``suspect`` the last starts of the agent did not last: a model that was committed starts only later, so that a
        newer one can take its place. With ``fall_back`` that went on for so long that the newest thing that was committed is
        taken back. What is on trial has its own bound, and is blamed alone. With ``cut`` the last run of the agent was ended
        from outside, by the power or in order: a golden run that it cut short is not to blame, as often as that is excused,
        and meanwhile nothing else is blamed either.
        """
        trial = any(line.on_trial for line in self._lines)
        excused = [line.excuse() for line in self._lines] if cut else []
        if fall_back and not trial and not any(excused):
            self._fall_back()
        for line in self._lines:
            line.boot(suspect=suspect and not trial)
        self._publish()

    def run(self) -> None:
        """Step until ``stop``."""
        while not self._stopped:
            self._wake.clear()
            try:
                pause = self.step()
            except Exception:  # the edge of this thread: an agent that cannot update cannot be mended from afar
                log.exception("update step failed")
                pause = self._backoff.next()
            if not self._stopped and pause > 0:
                self._wake.wait(pause)
        until = self._around.clock.monotonic() + DOWNLOAD_END_S
        for line in self._lines:
            line.download.wait(max(0.0, until - self._around.clock.monotonic()))

    def stop(self) -> None:
        """End ``run`` soon; a download is cut, and resumed at the next start."""
        self._stopped = True
        self._cut()
        self._wake.set()

    def step(self) -> float:
        """Do the next thing there is to do; returns how many seconds may pass before the next call."""
        try:
            self._take_offer()
            pause = self._step_lines()
            self._offer_again()
            self._publish()
            if self._ending:
                return IDLE_S
            if self._offered() is not None and not any(line.on_trial or line.download.begun for line in self._lines):
                return 0.0
            return pause
        except (Retryable, OSError) as error:
            pause = self._backoff.next()
            log.warning("updates wait", extra={"error": str(error), "pause_s": round(pause, 1)})
            return pause

    def oversee(self) -> str:
        """To be called every few seconds by another thread than the engine's: cuts downloads that give nothing; returns why the
        agent is to be started again, empty where it is not.
        """
        now = self._around.clock.monotonic()
        for line in self._lines:
            act = line.act
            if act is not None and (over_s := now - act.began) > act.bound_s:
                return f"{act.update.named} has hung in {act.update.state.name} for {over_s:.0f} s"
            if hung := line.download.hung():
                return hung
        return ""

    # -- pieces -------------------------------------------------------------------------------------------------------

    @property
    def _ending(self) -> bool:
        return any(line.effect is not Effect.NOW for line in self._lines)

    def _offered(self) -> DesiredTwin | None:
        with self._lock:
            return self._offer

    def _called_off(self) -> bool:
        return self._stopped or self._offered() is not None

    def _cut(self) -> None:
        for line in self._lines:
            line.installer.cut()

    def _take_offer(self) -> None:
        """Give each line what the newest twin asks of it. One that is not done with it keeps the twin waiting, and the rest
        is no worse for being given it again."""
        offer = self._offered()
        if offer is None or self._ending:
            return
        if any(line.download.begun for line in self._lines):
            self._cut()  # what is fetched for the twin before writes where the new one may want to; its end wakes us
            return
        if offer.generation > self._journal.generation():
            taken = [line.take(wanted_by(offer, line.component), offer.generation) for line in self._lines]
            if not all(taken):
                return
            self._journal.see(offer.generation)
        with self._lock:
            if self._offer is offer:
                self._offer = None
        self._publish()

    def _offer_again(self) -> None:
        """A line has found damage and forgotten that what the hub desires was taken: the hub does not send it twice."""
        with self._lock:
            if self._offer is None and self._wish is not None and self._wish.generation > self._journal.generation():
                self._offer = self._wish

    def _step_lines(self) -> float:
        """Each line that is due has its turn; while one is on trial, it alone, and whose download has ended."""
        pause = min(line.tend() for line in self._lines)
        on_trial = [line for line in self._lines if line.on_trial]
        for line in self._lines if on_trial else ():
            if line is not on_trial[0]:
                line.rest()
        busy = [line for line in self._lines if line.under_way and (line in on_trial[:1] or not on_trial or line.download.over)]
        busy.sort(key=lambda line: line.on_trial)  # it ends the turn: a download that is over would wait for the trial's end
        for line in busy:
            if self._ending:
                break
            if (left_s := line.left_s) <= 0:
                left_s = line.step()
                self._publish()
                if line.on_trial:
                    return left_s
            pause = min(pause, max(0.0, left_s))
        return pause

    def _fall_back(self) -> None:
        """The newest that was committed and has something before it is taken back: it is the likeliest to blame."""
        committed = [
            (update.at, line) for line in self._lines if (update := self._journal.committed(line.component)) is not None
        ]
        for _, line in sorted(committed, key=lambda each: each[0], reverse=True):
            try:
                if line.fall_back("the agent ended soon after each of its last starts"):
                    return
            except (Retryable, OSError) as error:
                log.error("not taken back", extra={"component": line.component.value, "error": str(error)})

    def _publish(self) -> None:
        running = [line.installer.running() for line in self._lines]
        updates = [found.status(line.waits) for line in self._lines if (found := line.newest()) is not None]
        model = running[0]
        standing = Standing(
            generation=self._journal.generation(),
            running=model if isinstance(model, ModelAssignment) else None,
            update=next((each for each in updates if isinstance(each, UpdateStatus)), None),
            packages=tuple(each for each in running if isinstance(each, PackageAssignment)),
            package_updates=tuple(each for each in updates if isinstance(each, PackageStatus)),
        )
        if standing != self._standing:
            self._standing = standing
            self._around.changed()
