"""The state TRIAL: starts of it that are counted before they are made, what is decided about it, and its end in any case."""

import logging
from collections.abc import Callable

from edge_agent.core.config import UpdateConfig
from edge_agent.core.errors import BadModel, BadPackage, Corrupt
from edge_agent.update.ends import Ends
from edge_agent.update.fetching import Patience
from edge_agent.update.installer import Installer
from edge_agent.update.journal import Journal
from edge_agent.update.probation import QUIET_FACTOR, Ruling
from edge_agent.update.record import Component, Update
from edge_agent.update.surroundings import Surroundings
from protos.contract.update import UpdateState

log = logging.getLogger(__name__)

WATCH_S = 0.25  # between looks at what is on trial


class Trials:
    """Of one component."""

    def __init__(
        self,
        installer: Installer,
        journal: Journal,
        config: UpdateConfig,
        around: Surroundings,
        ends: Ends,
        patience: Patience,
        entered: Callable[[], None],
        watched: Callable[[Update, float], None],
    ) -> None:
        """``entered``: the trial has begun; ``watched``: what is done next may take so many seconds."""
        self._installer, self._journal, self._config, self._around = installer, journal, config, around
        self._ends, self._patience, self._entered, self._watched = ends, patience, entered, watched

    def begin(self, update: Update) -> None:
        self._watched(update, self._installer.activate_s)
        try:
            effect = self._installer.activate(update)
        except (Corrupt, BadModel, BadPackage) as error:
            self._ends.roll_back(update, f"it does not start: {error}")
            return
        self._entered()
        self._ends.settle(effect)
        log.info("on trial", extra={"what": update.named, "generation": update.generation, "attempts": update.attempts})

    def resume(self, update: Update, fallen: str = "") -> None:
        """After a restart, or when the disk was too full to begin: one more attempt, counted first."""
        if reason := update.reason or fallen:
            self._ends.roll_back(update, reason)
        elif update.attempts >= max(self._config.max_attempts, self._least_attempts()):
            self._ends.roll_back(update, f"the agent did not survive {update.attempts} starts with it")
        else:
            self.begin(self._journal.count(update))

    def _least_attempts(self) -> int:
        """What comes with a new start has had none in the attempt that asked for it."""
        return 1 if self._installer.component is Component.MODEL else 2

    def watch(self, update: Update) -> float:
        self._watched(update, self._installer.activate_s)
        if reason := self._ends.doomed or update.reason:
            self._ends.roll_back(update, reason)
            return 0.0
        try:
            return self._rule(update)
        except Exception as error:  # whatever keeps it from an end, others wait for that end
            if self._patience.elapsed_s() < self._trial_s() or not self._undecided():
                raise
            self._ends.roll_back(update, f"nothing could be decided in {self._trial_s():.0f} s of trial: {error!r}")
            return 0.0

    def _undecided(self) -> bool:
        """It neither has ended nor is being taken back: otherwise all that failed is writing that down, or telling it."""
        standing = self._journal.newest(self._installer.component)
        return not self._ends.doomed and standing is not None and standing.state is UpdateState.TRIAL

    def _rule(self, update: Update) -> float:
        if self._installer.running() != update.assignment:
            self.resume(update)
            return 0.0
        verdict = self._installer.judge(update, self._patience.elapsed_s())
        if verdict.ruling is Ruling.WAIT and self._patience.elapsed_s() < self._trial_s():
            return WATCH_S
        if verdict.ruling is not Ruling.COMMIT:
            self._ends.roll_back(update, verdict.reason or f"nothing was decided in {self._trial_s():.0f} s of trial")
            return 0.0
        self._installer.commit(update)
        self._ends.finish(self._journal.advance(update, UpdateState.COMMITTED))
        return 0.0

    def _trial_s(self) -> float:
        """No trial takes longer; each way of judging one has its own, shorter end."""
        config = self._config
        return max(config.trial_timeout_s, 2 * QUIET_FACTOR * config.probation_s, 2 * config.reach_timeout_s)
