"""One observation -> one record."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from edge_agent.app.keep import Keeper, Wanted
from edge_agent.app.meter import Meter
from edge_agent.core.clock import Clock
from edge_agent.core.errors import BadFrame, InferenceError
from edge_agent.core.model import Happening, Observation, Outcome, Prediction
from edge_agent.core.ports import Outlet
from edge_agent.decide.policy import Policy
from edge_agent.infer.model import Model
from protos.contract.ids import Digest
from protos.contract.outputs import Output
from protos.contract.telemetry import MAX_TEXT, Lane

log = logging.getLogger(__name__)

FAILING = 10  # inferences in a row that fail before the hub is told


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """A loaded model with all that belongs to it, so that one assignment swaps everything at once."""

    digest: Digest  # of the manifest
    loaded: Model
    policy: Policy
    meter: Meter


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """An observation with what the model that runs said about it."""

    observation: Observation
    prediction: Prediction
    outcome: Outcome
    labels: tuple[str, ...]  # of that model
    output: Output | None = None


class Perceiver:
    """Runs observations through the model there is. ``see`` is for one thread, ``swap`` and the counters for any."""

    def __init__(
        self, spool: Outlet, keeper: Keeper, clock: Clock, *, beside: Callable[[Seen], None] = lambda seen: None
    ) -> None:
        """``beside`` is shown every frame once all is done about it; it must neither block nor raise."""
        self._spool, self._keeper, self._clock, self._beside = spool, keeper, clock, beside
        self._active: Active | None = None
        self.total = Meter()  # over all models since the start
        self.skipped_frames = 0  # no model
        self.bad_frames = 0
        self.last: Seen | None = None  # what was said most recently
        self.workers_lost = 0  # counted by whoever gives it models
        self._busy_since: float | None = None  # monotonic; None between frames
        self.equipped = threading.Event()  # a model is there
        self.inferred = threading.Event()  # at least once
        self.inferred_at = float("-inf")  # monotonic, the last time

    @property
    def active(self) -> Active | None:
        return self._active

    def busy_s(self) -> float:
        """How long the inference under way has run; 0 between two."""
        since = self._busy_since
        return self._clock.monotonic() - since if since is not None else 0.0

    def swap(self, active: Active | None) -> None:
        """On return the next frame is seen by ``active``; a frame that is being looked at is finished by the one before."""
        self._active = active
        if active is not None:
            self.equipped.set()
        else:
            self.equipped.clear()

    def see(self, seen: Observation) -> Outcome | None:
        """Infer, decide and spool; None where the frame gave no outcome. Never raises for a bad frame or inference.

        ``captured`` of what is returned says that the frame was handed to the keeper, who spools the record with it.
        """
        active = self._active  # read once: it may be swapped while we work
        if active is None:
            self.skipped_frames += 1
            return None
        self._busy_since = self._clock.monotonic()
        try:
            prediction = active.loaded.predict(seen.content)
        except BadFrame as error:
            self.bad_frames += 1
            if self.bad_frames % 100 == 1:  # a camera that breaks gives many a second
                log.warning("frame skipped", extra={"source": seen.source, "frame": seen.name, "error": str(error)})
            return None
        except InferenceError as error:
            if self._active is not active:  # its worker ended because another model took its place
                return self.see(seen)
            self._failed(active, error)
            return None
        finally:
            self._busy_since = None
        for meter in (active.meter, self.total):
            meter.succeeded(prediction.latency_ms)
        self.inferred_at = self._clock.monotonic()
        outcome = self._tell(active, seen, prediction)
        model = active.loaded
        shown = Seen(
            observation=seen, prediction=prediction, outcome=outcome, labels=model.labels, output=model.manifest.output
        )
        self.last = shown
        self._beside(shown)
        if not self.inferred.is_set():
            self.inferred.set()
            log.info("first inference", extra={"latency_ms": round(outcome.latency_ms, 3)})
        return outcome

    def _tell(self, active: Active, seen: Observation, prediction: Prediction) -> Outcome:
        outcome, reason = active.policy.decide(seen, prediction)
        if reason is not None:
            labels = active.loaded.labels
            wanted = Wanted(observation=seen, prediction=prediction, outcome=outcome, reason=reason, labels=labels)
            if self._keeper.offer(wanted):
                return outcome
            outcome = replace(outcome, captured=False)
        self._spool.append(outcome)
        return outcome

    def _failed(self, active: Active, error: InferenceError) -> None:
        for meter in (active.meter, self.total):
            meter.failed(str(error))
        if active.meter.failing == FAILING:
            log.error("inference keeps failing", extra={"in_a_row": FAILING, "error": str(error)})
            detail = f"{FAILING} in a row: {error}"[:MAX_TEXT]
            self._spool.append(Happening(at=self._clock.now(), kind="inference.failing", detail=detail), Lane.CRITICAL)
        elif active.meter.failing < FAILING:
            log.warning("inference failed", extra={"error": str(error)})
