"""What outputs of each kind say."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.infer.answers import answer, answerer, reconstruction_error
from protos.contract.outputs import ANOMALY, NORMAL, Classification, Output, Ranking, Reconstruction, Values
from tests.protos import values

NO_TENSOR = np.zeros((1, 1), np.float32)
few = settings(max_examples=40)
numbers = st.floats(-(2.0**100), 2.0**100, width=32)


def outputs(*figures: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(figures, np.float32)


@few
@given(st.data(), values.rankings() | values.values_outputs() | values.classifications)
def test_every_answer_has_a_label_of_the_model_and_a_confidence(data: st.DataObject, output: Output) -> None:
    given = data.draw(st.lists(numbers, min_size=output.size, max_size=output.size))
    said = answer(outputs(*given), NO_TENSOR, output, 1.5)
    assert 0 <= said.label < len(output.labels)
    assert 0 <= said.confidence <= 1
    assert said.latency_ms == 1.5


@given(st.lists(st.floats(-30, 30, width=32) | st.sampled_from([0.0, 1.0]), min_size=2, max_size=40), st.data())
def test_a_ranking_is_the_sorted_softmax(scores: list[float], data: st.DataObject) -> None:
    top, temperature = data.draw(st.integers(1, len(scores))), data.draw(st.sampled_from([0.5, 1.0, 3.0]))
    output = Ranking(labels=tuple(map(str, range(len(scores)))), top=top, temperature=temperature)
    said = answer(outputs(*scores), NO_TENSOR, output)
    powers = [math.exp((score - max(scores)) / temperature) for score in scores]
    shares = [power / sum(powers) for power in powers]
    wanted = sorted(range(len(scores)), key=lambda i: (-np.float64(shares[i]), i))[:top]
    assert [item for item, _ in said.ranked] == wanted
    assert [share for _, share in said.ranked] == pytest.approx([shares[item] for item in wanted])
    assert (said.label, said.confidence) == said.ranked[0]


def test_values_are_scaled_back_and_the_headline_is_told_and_binned() -> None:
    output = Values(names=("now", "soon"), mean=(0.0, 60.0), std=(1.0, 10.0), edges=(50.0, 60.0, 70.0), headline=1)
    told = {figure: answer(outputs(9, figure), NO_TENSOR, output) for figure in (-1.5, -1.0, 0.0, 1.0, 5.0)}
    assert [said.value for said in told.values()] == [45.0, 50.0, 60.0, 70.0, 110.0]
    assert [said.label for said in told.values()] == [0, 1, 2, 3, 3]
    assert all(said.confidence == 1.0 and said.values[0] == 9.0 and len(said.values) == 2 for said in told.values())
    assert output.labels == ("<50", "50..60", "60..70", ">=70")


@few
@given(values.values_outputs(), st.data())
def test_the_bin_is_the_one_whose_edges_hold_the_value(output: Values, data: st.DataObject) -> None:
    said = answer(outputs(*data.draw(st.lists(numbers, min_size=output.size, max_size=output.size))), NO_TENSOR, output)
    assert said.value is not None
    assert said.label == sum(edge <= said.value for edge in output.edges)


def test_an_autoencoder_says_how_far_off_it_is() -> None:
    output = Reconstruction(values=4, threshold=2.0)
    tensor = np.ones((1, 2, 2), np.float32)
    fine, odd = answer(outputs(1, 1, 1, 3), tensor, output), answer(outputs(1, 1, 1, 5), tensor, output)
    assert (fine.value, output.labels[fine.label], fine.confidence) == (1.0, NORMAL, pytest.approx(2 / 3))
    assert (odd.value, output.labels[odd.label], odd.confidence) == (4.0, ANOMALY, pytest.approx(2 / 3))
    assert reconstruction_error(outputs(1, 1, 1, 5), tensor) == 4.0


@given(st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=4, max_size=4), st.floats(0.001, 1e11))
def test_an_autoencoder_gone_mad_is_an_anomaly_and_a_number(figures: list[float], threshold: float) -> None:
    said = answer(outputs(*figures), np.zeros((1, 4), np.float32), Reconstruction(values=4, threshold=threshold))
    assert said.value is not None and math.isfinite(said.value)
    assert said.label == (said.value > threshold)
    assert 0.5 <= said.confidence <= 1.0


def test_one_answerer_serves_all_runs_of_a_model() -> None:
    say = answerer(Classification(labels=("a", "b"), min_confidence=0.5))
    assert [say(outputs(*logits), NO_TENSOR, 0.0).label for logits in ((1, 0), (0, 1), (2, 1))] == [0, 1, 0]
