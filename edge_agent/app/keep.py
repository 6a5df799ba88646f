"""The thread that keeps observations: packing and syncing one takes longer than most inferences."""

import logging
import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edge_agent.core.budget import Budget
from edge_agent.core.model import Observation, Outcome, Prediction
from edge_agent.core.ports import Captures, Outlet
from edge_agent.decide.capture import make_capture
from protos.contract.errors import ContractError

log = logging.getLogger(__name__)

WAITING = 4  # frames in memory: one of a large camera has 25 MB


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wanted:
    """An observation worth keeping, and its record, which goes to the spool once it is known whether it was kept."""

    observation: Observation
    prediction: Prediction
    outcome: Outcome
    reason: str
    labels: Sequence[str]
    told: Callable[[bool], None] | None = None  # whether it was kept: for a frame whose record has gone to the spool before


class Keeper:
    """``offer`` and ``stop`` are for any thread."""

    def __init__(self, captures: Captures, spool: Outlet, budget: Budget) -> None:
        self._captures, self._spool, self._budget = captures, spool, budget
        self._waiting: queue.Queue[Wanted | None] = queue.Queue()
        self._stopping = False
        self.missed = 0  # frames that were worth keeping and found the disk too slow

    def offer(self, wanted: Wanted) -> bool:
        """Take it, or say at once that there are too many already; only then the record stays the caller's."""
        if self._stopping or self._waiting.qsize() >= WAITING:
            self.missed += 1
            if self.missed % 100 == 1:
                log.warning("frames are not kept, the disk is too slow", extra={"missed": self.missed})
            return False
        self._waiting.put(wanted)
        return True

    def run(self) -> None:
        """Until ``stop``, and then until nothing waits."""
        while (wanted := self._waiting.get()) is not None:
            self._keep(wanted)
        self._budget.save(soon=True)

    def stop(self) -> None:
        """End ``run`` after what was taken before."""
        self._stopping = True
        self._waiting.put(None)

    def _keep(self, wanted: Wanted) -> None:
        kept = False
        try:
            model = wanted.outcome.model
            kept = self._captures.add(make_capture(wanted.observation, wanted.prediction, wanted.reason, model, wanted.labels))
            self._budget.save()
        except ContractError as error:
            log.warning(
                "what the hub would not take is not kept", extra={"source": wanted.observation.source, "error": str(error)}
            )
        finally:  # whatever happens to the frame, the record is not lost with it
            if wanted.told is not None:
                wanted.told(kept)
            else:
                self._spool.append(replace(wanted.outcome, captured=kept))
