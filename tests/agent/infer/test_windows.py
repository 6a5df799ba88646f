"""A window becomes what training made of it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.errors import BadFrame
from edge_agent.infer.windows import WindowEncoder
from protos.contract.inputs import CLIP, WindowInput
from protos.contract.samples import Window
from tests.protos import values

INPUT = WindowInput(channels=("rpm", "speed"), steps=3, mean=(1000.0, 50.0), std=(500.0, 10.0))


def window(*rows: tuple[float, ...], channels: tuple[str, ...] = ("rpm", "speed")) -> Window:
    return Window(channels=channels, values=np.array(rows, np.float32))


def reference(seen: Window, input: WindowInput) -> list[list[float]]:
    """As the contract says it, value by value."""
    out = []
    last = {name: math.nan for name in input.channels}
    for row in seen.values[-input.steps :].tolist():
        told = []
        for name, mean, std in zip(input.channels, input.mean, input.std, strict=True):
            value = row[seen.channels.index(name)]
            if math.isfinite(value):
                last[name] = value
            scaled = (last[name] - mean) / std
            told.append(0.0 if math.isnan(scaled) else max(-CLIP, min(CLIP, scaled)))
        out.append(told)
    return out


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Window, WindowInput]:
    input = draw(values.window_inputs(most_steps=6))
    others = [*draw(values.names(3)), *input.channels]
    channels = draw(st.permutations(list(dict.fromkeys(others))))
    return draw(values.sample_windows(tuple(channels), least_steps=input.steps)), input


@settings(max_examples=40)
@given(pairs())
def test_it_is_the_reference(pair: tuple[Window, WindowInput]) -> None:
    seen, input = pair
    tensor = WindowEncoder(input)(seen)
    assert tensor.shape == input.shape and tensor.dtype == np.float32 and tensor.flags.c_contiguous
    np.testing.assert_allclose(tensor[0], reference(seen, input), rtol=1e-5, atol=1e-5)


def test_the_newest_steps_of_the_named_channels_count() -> None:
    seen = window((9, 9, 9), (60, 1, 1500), (70, 2, 2000), (40, 3, 500), channels=("speed", "x", "rpm"))
    assert WindowEncoder(INPUT)(seen)[0].tolist() == [[1, 1], [2, 2], [-1, -1]]


def test_what_is_missing_takes_the_one_before_and_at_the_start_the_mean() -> None:
    seen = window((math.nan, 60), (1500, math.inf), (math.nan, math.nan))
    assert WindowEncoder(INPUT)(seen)[0].tolist() == [[0, 1], [1, 1], [1, 1]]


def test_a_broken_sensor_drowns_nothing() -> None:
    tensor = WindowEncoder(INPUT)(window((3e38, -3e38), (1000, 50), (1000, 50)))
    assert tensor[0].tolist() == [[CLIP, -CLIP], [0, 0], [0, 0]]


def test_the_window_that_was_seen_is_not_changed() -> None:
    seen = window((1500, math.nan), (1500, 60), (1500, 60))
    before = seen.values.copy()
    WindowEncoder(INPUT)(seen)
    np.testing.assert_array_equal(seen.values, before)


def test_a_channel_that_is_not_there_and_too_few_steps_are_named() -> None:
    with pytest.raises(BadFrame, match="no channel 'speed'"):
        WindowEncoder(INPUT)(window((1,), channels=("rpm",)))
    with pytest.raises(BadFrame, match="2 steps, the model takes 3"):
        WindowEncoder(INPUT)(window((1, 1), (1, 1)))
