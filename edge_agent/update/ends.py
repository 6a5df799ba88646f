"""How updates end: kept, taken back, given up; and how one that was kept is taken back after all."""

import logging
from collections.abc import Callable

from edge_agent.core.model import Happening
from edge_agent.update.installer import Installer
from edge_agent.update.journal import Journal
from edge_agent.update.record import Effect, Update
from edge_agent.update.surroundings import Surroundings
from protos.contract.twin import Fit
from protos.contract.update import UpdateState

log = logging.getLogger(__name__)


class Ends:
    """Of one component."""

    def __init__(
        self, installer: Installer, journal: Journal, around: Surroundings, publish: Callable[[], None] = lambda: None
    ) -> None:
        """``publish``: the hub is to see how an update ended, before another one begins."""
        self._installer, self._journal, self._around, self._publish = installer, journal, around, publish
        self.doomed = ""  # why a trial must end, while that cannot be written down
        self.effect = Effect.NOW  # what has been asked for; other than NOW, this process is about to end

    def roll_back(self, update: Update, reason: str) -> None:
        """What was before it runs again, or nothing where there was nothing: without network, and at once even on a full disk.

        Raises DiskFull, OSError: it is still to be written down, and done again.
        """
        self._installer.withdraw(update)
        self.doomed = reason
        if not update.reason:
            update = self._journal.condemn(update, reason)
        effect = self._installer.roll_back(update)
        update = self._journal.advance(update, UpdateState.ROLLED_BACK, reason=update.reason)
        self.doomed = ""
        self.finish(update)
        self.settle(effect)

    def fail(self, update: Update, reason: str, fit: Fit | None = None) -> float:
        """It never became active. Returns 0, as a pause: there may be more to do at once."""
        self.finish(self._journal.advance(update, UpdateState.FAILED, reason=reason, fit=fit))
        return 0.0

    def finish(self, update: Update) -> None:
        detail = f"{update.named} generation {update.generation}" + (f": {update.reason}" if update.reason else "")
        log.info("update ended", extra={"state": update.state.name, "detail": detail})
        self._publish()
        self.tell(f"update.{update.state.name.lower()}", detail)

    def fall_back(self, reason: str) -> bool:
        """Go back from what was committed to the good one before it; False where there is none, and nothing has changed."""
        update = self._journal.committed(self._installer.component)
        effect = self._installer.fall_back(reason)
        if effect is None:
            return False
        if update is not None:
            self.note_fall(update, reason)
        self.settle(effect)
        return True

    def note_fall(self, update: Update, reason: str) -> None:
        """What was committed was given up afterwards, here or before this agent began."""
        if update.state is UpdateState.COMMITTED and not update.reason:
            update = self._journal.remark(update, f"taken back after it was committed: {reason}")
            self.tell(f"{update.component.value}.fell_back", f"{update.named} generation {update.generation}: {reason}")

    def settle(self, effect: Effect) -> None:
        """Ask for what it takes to become true."""
        if effect is not Effect.NOW:
            self.effect = effect
            self._around.again(effect)

    def tell(self, kind: str, detail: str) -> None:
        self._around.tell(Happening(at=self._around.clock.now(), kind=kind, detail=detail))
