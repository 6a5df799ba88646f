import pytest

from edge_agent.core.config import UpdateConfig
from edge_agent.update.probation import LATENCY_FLOOR_MS, QUIET_FACTOR, Ruling, Vitals, judge

CONFIG = UpdateConfig(probation_s=10, probation_inferences=20, max_error_rate=0.05, max_latency_ratio=5)


@pytest.mark.parametrize(
    ("vitals", "elapsed_s", "ruling"),
    [
        (Vitals(inferences=19), 11, Ruling.WAIT),
        (Vitals(inferences=500), 9, Ruling.WAIT),
        (Vitals(inferences=20), 10, Ruling.COMMIT),
        (Vitals(inferences=19, errors=1), 10, Ruling.WAIT),
        (Vitals(inferences=20, errors=1), 10, Ruling.COMMIT),
        (Vitals(inferences=0, errors=2), 0.1, Ruling.ROLL_BACK),
        (Vitals(inferences=900, errors=40), 5, Ruling.WAIT),
        (Vitals(inferences=900, errors=50), 5, Ruling.ROLL_BACK),
        (Vitals(), 10 * QUIET_FACTOR, Ruling.COMMIT),
        (Vitals(errors=1), 10 * QUIET_FACTOR, Ruling.ROLL_BACK),
        (Vitals(inferences=20, latency_p95_ms=49), 10, Ruling.COMMIT),
        (Vitals(inferences=20, latency_p95_ms=51), 1, Ruling.ROLL_BACK),
        (Vitals(inferences=19, latency_p95_ms=51), 1, Ruling.WAIT),
        (Vitals(inferences=3, busy_s=9), 9, Ruling.WAIT),
        (Vitals(inferences=300, busy_s=11), 11, Ruling.ROLL_BACK),
        (Vitals(inferences=300, crashes=1), 0.1, Ruling.ROLL_BACK),
    ],
)
def test_a_trial_is_ruled_by_what_was_seen(vitals: Vitals, elapsed_s: float, ruling: Ruling) -> None:
    assert judge(vitals, elapsed_s=elapsed_s, reference_ms=10.0, config=CONFIG).ruling is ruling


def test_scheduling_noise_on_a_tiny_model_is_not_slowness() -> None:
    vitals = Vitals(inferences=50, latency_p95_ms=LATENCY_FLOOR_MS - 1)
    assert judge(vitals, elapsed_s=10, reference_ms=0.03, config=CONFIG).ruling is Ruling.COMMIT


def test_a_trial_without_a_golden_latency_is_not_ruled_by_latency() -> None:
    vitals = Vitals(inferences=50, latency_p95_ms=5000)
    assert judge(vitals, elapsed_s=10, reference_ms=0.0, config=CONFIG).ruling is Ruling.COMMIT
