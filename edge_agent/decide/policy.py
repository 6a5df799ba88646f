"""One prediction -> what to tell the hub, and whether to keep the frame for it."""

from random import Random

from edge_agent.core.budget import Budget
from edge_agent.core.config import CaptureConfig
from edge_agent.core.model import Observation, Outcome, Prediction
from protos.contract.ids import Digest
from protos.contract.outputs import Output
from protos.contract.telemetry import MAX_VALUE

UNCERTAIN = "uncertain"
CONTROL = "control"


class Policy:
    """What one model's predictions mean. Not thread-safe.

    The control sample is drawn before anyone looks at the confidence: only so does it stay a fair picture of what the device
    sees. The ``budget`` is one for all models: a change of model does not refill it.
    """

    def __init__(
        self,
        output: Output,
        capture: CaptureConfig,
        rng: Random,
        budget: Budget,
        *,
        model: Digest,
    ) -> None:
        self._budget = budget
        self._labels = output.labels
        self._min_confidence = output.min_confidence
        self._control_rate = capture.control_rate
        self._rng = rng
        self._model = model

    def decide(self, seen: Observation, prediction: Prediction) -> tuple[Outcome, str | None]:
        """The outcome, and why its frame is to be kept (CONTROL, UNCERTAIN) or None.

        ``captured`` says what was decided: where the frame is then not kept, clear it.
        """
        uncertain = prediction.confidence < self._min_confidence
        control = self._rng.random() < self._control_rate
        reason = CONTROL if control else UNCERTAIN if uncertain else None
        if reason is not None and not self._budget.take():
            reason = None
        outcome = Outcome(
            captured_at=seen.captured_at,
            model=self._model,
            label=prediction.label,
            confidence=prediction.confidence,
            latency_ms=prediction.latency_ms,
            captured=reason is not None,
            uncertain=uncertain,
            frame_key=seen.key,
            label_name=self._labels[prediction.label],
            value=_sendable(prediction.value),
        )
        return outcome, reason


def _sendable(value: float | None) -> float | None:
    """The nearest one that the wire's 32 bits hold."""
    return value if value is None else max(-MAX_VALUE, min(MAX_VALUE, value))
