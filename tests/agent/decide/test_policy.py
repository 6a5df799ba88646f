"""What is uncertain, what is kept, and how much of it."""

import math
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import numpy as np
import pytest

from edge_agent.core.budget import Budget
from edge_agent.core.config import CaptureConfig
from edge_agent.core.model import Observation, Prediction
from edge_agent.decide.policy import CONTROL, UNCERTAIN, Policy
from protos.contract.ids import digest_of
from protos.contract.outputs import Classification
from protos.contract.telemetry import MAX_VALUE
from tests.agent.clocks import ManualClock

SPEC = Classification(labels=("a", "b"), min_confidence=0.7)
MODEL = digest_of(b"manifest")
FRAME = Observation(content=np.zeros((2, 2, 3), np.uint8), captured_at=datetime(2025, 1, 1, tzinfo=UTC), source="s", key=77)


def prediction(confidence: float) -> Prediction:
    return Prediction(label=1, confidence=confidence, latency_ms=1.5)


def policy(*, control_rate: float = 0.0, per_hour: int = 1000) -> Policy:
    return Policy(SPEC, CaptureConfig(control_rate=control_rate), Random(0), Budget(per_hour, ManualClock()), model=MODEL)


def test_an_outcome_carries_what_was_seen_and_decided() -> None:
    outcome, reason = policy().decide(FRAME, prediction(0.6))
    assert reason == UNCERTAIN
    assert outcome.captured_at == FRAME.captured_at
    assert (outcome.model, outcome.label, outcome.frame_key, outcome.latency_ms) == (MODEL, 1, 77, 1.5)
    assert outcome.captured
    assert outcome.uncertain


@pytest.mark.parametrize(("value", "told"), [(None, None), (2.5, 2.5), (1e300, MAX_VALUE), (-math.inf, -MAX_VALUE)])
def test_the_value_is_told_as_far_as_the_wire_holds_it(value: float | None, told: float | None) -> None:
    outcome, _ = policy().decide(FRAME, replace(prediction(0.9), value=value))
    assert outcome.value == told


@pytest.mark.parametrize(("confidence", "uncertain"), [(0.69, True), (0.7, False), (1.0, False)])
def test_below_the_models_bound_it_is_uncertain(confidence: float, uncertain: bool) -> None:
    outcome, reason = policy().decide(FRAME, prediction(confidence))
    assert outcome.uncertain is uncertain
    assert (reason == UNCERTAIN) is outcome.captured is uncertain


def test_the_control_sample_is_a_fair_share_whatever_the_confidence() -> None:
    chosen = policy(control_rate=0.1, per_hour=10**6)
    for confidence in (0.2, 0.99):
        controls = sum(chosen.decide(FRAME, prediction(confidence))[1] == CONTROL for _ in range(5000))
        assert 400 < controls < 600


def test_a_used_up_budget_keeps_no_frame_but_still_says_uncertain() -> None:
    chosen = policy(per_hour=3)
    decided = [chosen.decide(FRAME, prediction(0.1)) for _ in range(5)]
    assert [reason for _, reason in decided] == [UNCERTAIN] * 3 + [None] * 2
    assert [outcome.captured for outcome, _ in decided] == [True] * 3 + [False] * 2
    assert all(outcome.uncertain for outcome, _ in decided)
