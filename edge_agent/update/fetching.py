"""The state FETCHING: what is tried again, for how long, and what is told of it."""

import logging
from collections.abc import Callable

from edge_agent.core.config import UpdateConfig
from edge_agent.core.errors import (
    AlteredTarget,
    BadModel,
    BadPackage,
    Corrupt,
    DiskFull,
    LinkDown,
    NoTrust,
    Refused,
    TooSlow,
    Untrusted,
)
from edge_agent.update.download import Download
from edge_agent.update.ends import Ends
from edge_agent.update.installer import Installer
from edge_agent.update.journal import Journal
from edge_agent.update.permit import AnchoredPermit
from edge_agent.update.record import Update
from edge_agent.update.surroundings import Anchor, Surroundings
from protos.contract.update import UpdateState

log = logging.getLogger(__name__)

IDLE_S = 3600.0
CALLED_OFF_S = 1.0  # between looks whether what takes its place has been taken
ROOTS_S = 60.0  # between looks for roots of trust, where an update has failed for want of them
_ROOTLESS = f"{NoTrust.__name__}: "  # begins the reason of such an update


class Patience:
    """How long a line has been where it is, and how long it pauses before it tries again."""

    def __init__(self, around: Surroundings) -> None:
        self._clock, self._backoff = around.clock, around.backoff()
        self._since = 0.0  # monotonic
        self._most_bytes = 0

    def begin(self) -> None:
        """Another state."""
        self._most_bytes = 0
        self._backoff.reset()
        self.came_on()

    def came_on(self) -> None:
        """It counts from now."""
        self._since = self._clock.monotonic()

    def saw(self, there_bytes: int) -> None:
        """More than ever is there: it comes on, however slowly."""
        if there_bytes > self._most_bytes:
            self._most_bytes = there_bytes
            self.came_on()

    def elapsed_s(self) -> float:
        """In this run of the agent."""
        return self._clock.monotonic() - self._since

    def retry(self, error: Exception) -> float:
        """Seconds until the next try."""
        pause = self._backoff.next()
        log.warning("update waits", extra={"error": str(error), "pause_s": round(pause, 1)})
        return pause


class Fetching:
    """Of one component."""

    def __init__(
        self,
        installer: Installer,
        journal: Journal,
        config: UpdateConfig,
        around: Surroundings,
        ends: Ends,
        patience: Patience,
        called_off: Callable[[], bool],
        ended: Callable[[], None],
    ) -> None:
        """``ended``: a download is; from its own thread."""
        self._installer, self._journal, self._config, self._around = installer, journal, config, around
        self._ends, self._patience, self._called_off = ends, patience, called_off
        self.pause_s = 0.0  # after the last ``fetch``
        self.download = Download(installer, config, around, ended)
        self._began = (0.0, 0)  # the last download: when, monotonic, and with how many bytes there
        self._tried: Anchor | None = None  # by which the last update was judged
        self._refused: set[tuple[int, str]] = set()  # generation and kind of what was told as not to be believed

    def fetch(self, update: Update) -> bool:
        """Begin a download, or see what came of it. Whether it is staged now; otherwise ``pause_s`` may pass unless it ends
        before, or the update has failed."""
        self.pause_s = 0.0
        try:
            if not self.download.begun:
                if self._called_off():
                    self.pause_s = CALLED_OFF_S
                    return False
                self._installer.prepare(update)
                self._began = self._around.clock.monotonic(), self._installer.progress(update)
                self.download.begin(update, self._permit(), self._called_off)
            if not self.download.over:
                self.pause_s = IDLE_S
                return False
            release = self.download.collect()
        except (LinkDown, DiskFull, OSError, Untrusted) as error:
            self.pause_s = self._wait_for(update, error)
        except Corrupt as error:
            self.pause_s = self._damaged(self._journal.count(update), error)
        except NoTrust as error:
            self._ends.fail(update, f"{_ROOTLESS}{error}")
        except (Refused, BadModel, BadPackage) as error:
            self._ends.fail(update, str(error))
        else:
            self._journal.advance(update, UpdateState.STAGED, release=release)
            return True
        return False

    def reopened(self, update: Update) -> bool:
        """An update that failed for want of roots is begun again once there are some, or others."""
        if not self._rootless(update):
            return False
        try:
            if self._around.anchor() == self._tried:
                return False
        except (NoTrust, LinkDown):
            return False
        self._journal.reopen(update)
        return True

    def look_s(self, update: Update | None) -> float:
        """Until ``reopened`` is to be asked again."""
        return ROOTS_S if update is not None and self._rootless(update) else IDLE_S

    def _rootless(self, update: Update) -> bool:
        failed = update.state is UpdateState.FAILED and update.reason.startswith(_ROOTLESS)
        return failed and update.generation >= self._journal.generation()

    def _permit(self) -> AnchoredPermit:
        """Raises LinkDown, NoTrust."""
        self._tried = None
        anchor, generation = self._around.anchor(), self._journal.generation()
        self._tried = anchor
        return AnchoredPermit(verifier=self._around.verifier(), anchor=anchor, generation=generation)

    def _damaged(self, update: Update, error: Corrupt) -> float:
        reason = self._refuse(update, AlteredTarget(f"the download was damaged {update.attempts} times: {error}"))
        if update.attempts >= self._config.max_attempts:
            return self._ends.fail(update, reason)
        return self._patience.retry(error)

    def _wait_for(self, update: Update, error: Exception) -> float:
        """Try again later, unless that has been done for long enough without a byte."""
        if self._called_off():
            return 0.0
        reason = f"not downloaded within {self._config.fetch_timeout_s:.0f} s: {error}"
        if isinstance(error, Untrusted):
            reason = self._refuse(update, error)
        if not isinstance(error, TooSlow) or self._kept_pace(update):
            self._patience.saw(self._installer.progress(update))
        if not self._around.online():
            self._patience.came_on()
        if self._patience.elapsed_s() >= self._config.fetch_timeout_s:
            return self._ends.fail(update, reason)
        return self._patience.retry(error)

    def _kept_pace(self, update: Update) -> bool:
        """On the whole. A trickle is no progress: it would keep this update, and all after it, for ever."""
        began_at, there_bytes = self._began
        took_s = self._around.clock.monotonic() - began_at
        return self._installer.progress(update) - there_bytes > self._config.min_bytes_per_s * took_s

    def _refuse(self, update: Update, error: Untrusted) -> str:
        """The reason, which is told at once where it is the first of its kind."""
        name = type(error).__name__
        if (update.generation, name) not in self._refused:
            self._refused = {told for told in self._refused if told[0] == update.generation} | {(update.generation, name)}
            self._ends.tell("trust.refused", f"{name}: {error}")
        return f"{name}: {error}"
