"""Samples that are no pictures survive as bytes, and the same value gives the same bytes."""

import contextlib
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.contract import samples
from protos.contract.errors import InvalidMessage, InvalidValue
from protos.contract.samples import Cell, Window, cell_of, named
from tests.protos import values

DECODERS: tuple[Callable[[bytes], Any], ...] = (samples.decode_window, samples.decode_row, samples.decode_text)


def window_of(*rows: tuple[float, ...], channels: tuple[str, ...] = ("a", "b")) -> Window:
    return Window(channels=channels, values=np.array(rows, np.float32))


@given(values.sample_windows())
def test_a_window_survives(window: Window) -> None:
    encoded = samples.encode_window(window)
    decoded = samples.decode_window(encoded)
    assert decoded.channels == window.channels
    np.testing.assert_array_equal(decoded.values, window.values)
    assert samples.encode_window(decoded) == encoded


@given(values.rows)
def test_a_row_survives_as_it_is_meant(row: dict[str, Cell]) -> None:
    meant = {name: cell for name, cell in row.items() if cell is not None}
    if not meant:
        with pytest.raises(InvalidValue):
            samples.encode_row(row)
        return
    encoded = samples.encode_row(row)
    assert samples.decode_row(encoded) == {n: float(c) if isinstance(c, bool | int) else c for n, c in meant.items()}
    assert samples.encode_row(samples.decode_row(encoded)) == encoded
    assert samples.encode_row(dict(reversed(row.items()))) == encoded


@given(st.text(max_size=200))
def test_a_text_survives_but_for_what_utf_8_cannot_carry(text: str) -> None:
    decoded = samples.decode_text(samples.encode_text(text))
    assert len(decoded) == len(text)
    assert all(there == here or "\ud800" <= here <= "\udfff" for there, here in zip(decoded, text, strict=True))


@pytest.mark.parametrize("decode", DECODERS)
@given(noise=st.binary(max_size=200) | st.binary(max_size=60).map(lambda rest: b"TLW1\x05\0\0\0" + rest))
def test_any_bytes_mean_something_or_are_refused(decode: Callable[[bytes], Any], noise: bytes) -> None:
    with contextlib.suppress(InvalidMessage):
        decode(noise)


@given(values.sample_windows(), st.data())
def test_a_damaged_window_is_refused_or_means_another(window: Window, data: st.DataObject) -> None:
    encoded = bytearray(samples.encode_window(window))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        decoded = samples.decode_window(bytes(encoded))
    except InvalidMessage:
        return
    assert samples.decode_window(samples.encode_window(decoded)).channels == decoded.channels


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000, b'{"a":' * 50_000, b"[]", b"null", b'{"a":NaN}', b'{"a":Infinity}', b'{"a":1e30}', b'{"a":[1]}',
        b'{"a":{}}', b'{"a":[["x"]]}', b'{"a":1' + b"0" * 400 + b"}", b'{"a":1' + b"0" * 5000 + b"}", b"{}", b"\xff",
        b'{"a":"' + b"x" * (5 << 20) + b'"}',
    ],
)  # fmt: skip
def test_what_is_no_row_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        samples.decode_row(data)


@pytest.mark.parametrize(
    "names", [b"[]", b'["a","a"]', b'["a",1]', b'[""]', b'{"a":1}', b'["\\ud800"]', b"[" * 90_000, b'["a"', b'["a","b","c"]']
)
def test_a_window_needs_different_names_and_whole_steps(names: bytes) -> None:
    with pytest.raises(InvalidMessage):
        samples.decode_window(b"TLW1" + len(names).to_bytes(4, "little") + names + bytes(8))


def test_infinity_in_a_window_counts_as_missing() -> None:
    decoded = samples.decode_window(samples.encode_window(window_of((math.inf, 1), (-math.inf, 2))))
    np.testing.assert_array_equal(decoded.values, [[math.nan, 1], [math.nan, 2]])


def test_a_sample_larger_than_the_hub_takes_is_not_made() -> None:
    with pytest.raises(InvalidValue, match="more than"):
        samples.encode_window(Window(channels=("a",), values=np.zeros((1 << 20, 1), np.float32)))
    with pytest.raises(InvalidValue, match="more than"):
        samples.encode_row({"a": "x" * (5 << 20)})


def test_whole_numbers_and_floats_are_the_same_row() -> None:
    assert samples.encode_row({"a": 3, "b": True}) == samples.encode_row({"b": 1.0, "a": 3.0, "c": None, "d": math.nan})


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("12", 12.0), (" -1.5 ", -1.5), ("+.5e3", 500.0), ("0", 0.0), ("0.10", 0.1), ("1.", 1.0), ("", None), ("NA", None),
        ("nan", None), ("007", "007"), ("1234567890123456", "1234567890123456"), ("1e40", "1e40"), ("1e999", "1e999"),
        ("0x10", "0x10"), ("1_000", "1_000"), ("inf", "inf"), ("yes", "yes"), ("\u0663", "\u0663"),
        ("0.12345678901234567890", 0.12345678901234568),
    ],
)  # fmt: skip
def test_a_cell_of_a_csv_file_is_a_number_only_where_it_is_written_as_one(text: str, cell: float | str | None) -> None:
    assert cell_of(text) == cell


@given(st.text(max_size=30))
def test_any_cell_fits_a_row(text: str) -> None:
    samples.checked_row({"a": cell_of(text)})


@given(values.numbers)
def test_numbers_are_named_as_categories_without_loss(number: float) -> None:
    assert float(named(number)) == number


def test_a_code_that_is_a_number_is_named_whole() -> None:
    assert (named(1234567.0), named(3.0), named(-0.5), named(1e20)) == ("1234567", "3", "-0.5", "1" + "0" * 20)


def test_json_of_a_row_is_plain() -> None:
    assert json.loads(samples.encode_row({"ä": "ö", "b": ("x", "y"), "c": 1})) == {"b": ["x", "y"], "c": 1.0, "ä": "ö"}


@pytest.mark.parametrize("row", [rb'{"a": "\ud800"}', rb'{"\udfff": 1}', rb'{"a": ["x", "\ud800"]}'])
def test_a_row_that_has_no_utf8_is_no_row(row: bytes) -> None:
    with pytest.raises(InvalidMessage, match="not a row"):
        samples.decode_row(row)
    assert samples.decode_row(rb'{"a": "\ud83d\ude00"}') == {"a": "😀"}
