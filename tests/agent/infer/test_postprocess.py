"""Logits become one label and how sure it is."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.infer.postprocess import classify
from protos.contract.outputs import Classification

SPEC = Classification(labels=("a", "b", "c"))


@given(values=st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=3, max_size=3), temperature=st.floats(1e-3, 1e3))
def test_the_largest_of_any_finite_logits_wins_with_its_softmax(values: list[float], temperature: float) -> None:
    spec = Classification(labels=SPEC.labels, temperature=temperature)
    logits = np.array(values, np.float32)
    prediction = classify(logits, spec, 1.0)
    assert prediction.label == int(logits.argmax())
    exponents = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
    assert np.isclose(prediction.confidence, (exponents / exponents.sum())[prediction.label])
    assert 1 / 3 <= prediction.confidence <= 1


def test_temperature_makes_it_less_sure_and_changes_no_label() -> None:
    logits = np.array([1.0, 3.0, 2.0], np.float32)
    sharp, soft = (
        classify(logits, Classification(labels=SPEC.labels, temperature=temperature), 2.5) for temperature in (1.0, 4.0)
    )
    assert sharp.label == soft.label == 1
    assert soft.confidence < sharp.confidence
    assert np.isclose(sharp.confidence, np.exp(3) / (np.exp(1) + np.exp(2) + np.exp(3)))
    assert sharp.latency_ms == 2.5
