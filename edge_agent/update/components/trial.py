"""Whether what came with a new start, an agent or an image of the board, does what the one before it did."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_agent.core.config import UpdateConfig
from edge_agent.core.files import write_atomic
from edge_agent.update.probation import QUIET_FACTOR, Ruling, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A device that runs but can be reached no more is as lost as one that does not run: it must have found its hub, too."""

    idle: Callable[[], str]  # what of the device's own work is not done now; empty: all of it is. Cheap
    connected: Callable[[], bool]  # the broker is reached now
    config: UpdateConfig
    note: Path  # what was not done before it began
    known: Callable[[], bool] = lambda: (
        True
    )  # the agent has run for so long that ``idle`` tells of the device, not of its start

    def begin(self) -> None:
        """Before the new start: a device whose camera was off before is not to be blamed on what comes now. Raises OSError.

        An agent that has only just started was not idle: what is on trial would be believed whatever it does.
        """
        write_atomic(self.note, self.idle().encode() if self.known() else b"")

    def judge(self, elapsed_s: float) -> Verdict:
        """``elapsed_s``: since this run of the agent took up the trial."""
        if elapsed_s < self.config.settle_s:
            return Verdict(Ruling.WAIT)
        if (reason := self.idle()) and not self._idle_before():
            if elapsed_s < self.config.settle_s * QUIET_FACTOR:
                return Verdict(Ruling.WAIT)
            return Verdict(Ruling.ROLL_BACK, f"{elapsed_s:.0f} s after its start: {reason}")
        if self.connected():
            return Verdict(Ruling.COMMIT)
        if elapsed_s >= self.config.reach_timeout_s:
            return Verdict(Ruling.ROLL_BACK, f"it did not reach the hub in {elapsed_s:.0f} s")
        return Verdict(Ruling.WAIT)

    def _idle_before(self) -> bool:
        """Where that is not known, it was not."""
        try:
            return bool(self.note.read_bytes())
        except OSError:
            return False
