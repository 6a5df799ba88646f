"""Whether a model on trial may stay: a pure function of what was seen."""

from dataclasses import dataclass
from enum import Enum

from edge_agent.core.config import UpdateConfig

LATENCY_FLOOR_MS = 20.0  # below it the scheduler's noise is measured, not the model
STALL_S = 10.0  # an inference that has run so long does not come back
QUIET_FACTOR = 6  # a device that sees nothing commits after this many probations: its golden run is all there will be


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """What the running model has done since it was activated."""

    inferences: int = 0
    errors: int = 0
    latency_p95_ms: float = 0.0
    last_error: str = ""
    busy_s: float = 0.0  # how long the inference under way has run
    crashes: int = 0  # workers it took down
    last_crash: str = ""


class Ruling(Enum):
    WAIT = "wait"
    COMMIT = "commit"
    ROLL_BACK = "roll back"


@dataclass(frozen=True, slots=True)
class Verdict:
    ruling: Ruling
    reason: str = ""


def judge(vitals: Vitals, *, elapsed_s: float, reference_ms: float, config: UpdateConfig) -> Verdict:
    """Rule on a trial.

    Args:
        elapsed_s: since activation, in this run of the agent.
        reference_ms: p95 of the golden run on this device; 0 where it is not known.
    """
    if vitals.busy_s > STALL_S:
        return Verdict(Ruling.ROLL_BACK, f"an inference has not come back for {vitals.busy_s:.0f} s")
    if vitals.crashes:  # the one before it did not: whatever else was the matter with the device, it is not risked
        return Verdict(Ruling.ROLL_BACK, f"its worker was lost: {vitals.last_crash}")
    seen = vitals.inferences + vitals.errors
    if vitals.errors > config.max_error_rate * max(seen, config.probation_inferences):
        return Verdict(Ruling.ROLL_BACK, f"{vitals.errors} of {seen} inferences failed: {vitals.last_error}")
    enough = vitals.inferences >= config.probation_inferences
    slow = max(config.max_latency_ratio * reference_ms, LATENCY_FLOOR_MS)
    if enough and reference_ms > 0 and vitals.latency_p95_ms > slow:
        return Verdict(
            Ruling.ROLL_BACK,
            f"p95 latency {vitals.latency_p95_ms:.1f} ms is over {slow:.1f} ms (golden run {reference_ms:.1f})",
        )
    if elapsed_s >= config.probation_s and enough:
        return Verdict(Ruling.COMMIT)
    if elapsed_s >= config.probation_s * QUIET_FACTOR:
        if vitals.errors > config.max_error_rate * seen:
            return Verdict(Ruling.ROLL_BACK, f"{vitals.errors} of {seen} inferences failed: {vitals.last_error}")
        return Verdict(Ruling.COMMIT)
    return Verdict(Ruling.WAIT)
