"""A text becomes what training made of it."""

import math
import re
import time
import unicodedata
import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.infer.texts import TextEncoder
from protos.contract.inputs import TextInput
from tests.protos import values

INPUT = TextInput(buckets=64, words=2, chars=(2, 3))


def reference(text: str, input: TextInput) -> list[float]:
    """As the contract says it, gram by gram."""
    words = re.findall(r"\w+|[^\w\s]", unicodedata.normalize("NFKC", text).lower())
    grams = []
    for n in range(1, input.words + 1):
        grams += ["w" + " ".join(words[at : at + n]) for at in range(len(words) - n + 1)]
    for n in range(max(1, input.chars[0]), input.chars[1] + 1):
        for word in [f" {word} " for word in words]:
            grams += ["c" + word[at : at + n] for at in range(len(word) - n + 1)]
    counts = Counter(zlib.crc32(gram.encode("utf-8", "replace")) % input.buckets for gram in grams)
    weights = [math.log(1 + counts[bucket]) for bucket in range(input.buckets)]
    length = math.sqrt(sum(weight * weight for weight in weights)) or 1.0
    return [weight / length for weight in weights]


@given(st.text(max_size=60), values.text_inputs(most_buckets=100))
def test_it_is_the_reference(text: str, input: TextInput) -> None:
    encode = TextEncoder(input)
    tensor = encode(text)
    assert tensor.shape == input.shape and tensor.dtype == np.float32
    np.testing.assert_allclose(tensor[0], reference(text, input), rtol=1e-5, atol=1e-6)
    assert np.array_equal(encode(text), tensor), "what is remembered of words changes nothing"


def test_case_and_width_do_not_matter_and_words_do() -> None:
    encode = TextEncoder(INPUT)
    assert np.array_equal(encode("Free PRIZE!"), encode("ｆｒｅｅ  prize!"))
    assert not np.array_equal(encode("free prize"), encode("prize free"))


def test_a_text_without_words_is_all_0() -> None:
    assert not TextEncoder(INPUT)(" \n\t").any()
    assert not TextEncoder(INPUT)("").any()


def test_letters_under_a_heap_of_accents_do_not_hold_a_device_up() -> None:
    encode = TextEncoder(INPUT)
    began = time.process_time()
    encode("a" + "\u0301\u0316" * 32_000)  # sorting them all at once would take seconds
    encode("\ufdfa" * 65_536)  # 18 characters each
    assert time.process_time() - began < 2.0
    assert np.array_equal(encode("cafe\u0301 " * 3000), encode("caf\u00e9 " * 3000))


@pytest.mark.parametrize("text", ["\ud800" * 9, "a" * 65_536, "\0\x01", "\U0010ffff", "ﷺ" * 3000])
def test_odd_texts_have_a_length_of_1(text: str) -> None:
    assert np.linalg.norm(TextEncoder(INPUT)(text)) == pytest.approx(1.0, abs=1e-5)
