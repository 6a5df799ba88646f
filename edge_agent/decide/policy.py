"""One prediction -> what to tell the hub, and whether to keep the frame for it."""

from random import Random

from edge_agent.core.clock import Clock
from edge_agent.core.config import CaptureConfig
from edge_agent.core.model import Frame, Outcome, Prediction
from protos.contract.ids import Digest
from protos.contract.manifest import ClassificationSpec

UNCERTAIN = "uncertain"
CONTROL = "control"


class Budget:
    """A token bucket: ``per_hour`` at once, and the same again over each hour. Not thread-safe."""

    def __init__(self, per_hour: int, clock: Clock) -> None:
        self._per_hour = per_hour
        self._clock = clock
        self._tokens = float(per_hour)
        self._at = clock.monotonic()

    def take(self) -> bool:
        """Take one, if there is one."""
        now = self._clock.monotonic()
        self._tokens = min(float(self._per_hour), self._tokens + (now - self._at) * self._per_hour / 3600)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Policy:
    """What one model's predictions mean. Not thread-safe.

    The control sample is drawn before anyone looks at the confidence: only so does it stay a fair picture of what the device
    sees. Hand the ``budget`` on when the model changes, or each model starts with a full one.
    """

    def __init__(
        self,
        classification: ClassificationSpec,
        capture: CaptureConfig,
        rng: Random,
        clock: Clock,
        *,
        model: Digest,
        budget: Budget | None = None,
    ) -> None:
        self.budget = budget or Budget(capture.per_hour, clock)
        self._min_confidence = classification.min_confidence
        self._control_rate = capture.control_rate
        self._rng = rng
        self._model = model

    def decide(self, frame: Frame, prediction: Prediction) -> tuple[Outcome, str | None]:
        """The outcome, and why its frame is to be kept (CONTROL, UNCERTAIN) or None.

        ``captured`` says what was decided: where keeping the frame then fails, clear it.
        """
        uncertain = prediction.confidence < self._min_confidence
        control = self._rng.random() < self._control_rate
        reason = CONTROL if control else UNCERTAIN if uncertain else None
        if reason is not None and not self.budget.take():
            reason = None
        outcome = Outcome(
            captured_at=frame.captured_at,
            model=self._model,
            label=prediction.label,
            confidence=prediction.confidence,
            latency_ms=prediction.latency_ms,
            captured=reason is not None,
            uncertain=uncertain,
            frame_key=frame.key,
        )
        return outcome, reason
