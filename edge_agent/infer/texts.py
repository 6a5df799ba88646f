"""Texts -> tensors: hashed n-grams, so that no vocabulary has to be shipped."""

import re
import unicodedata
import zlib
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from protos.contract.inputs import TextInput
from protos.contract.samples import MAX_TEXT_CHARS

_RUN = re.compile(r"\s+|\S{1,1024}")  # a longer one is normalised in parts: thousands of accents on a letter take seconds
_WORD = re.compile(r"\w+|[^\w\s]")
_REMEMBERED = 4096  # words with their n-grams of characters: few words make up most of what is said
_LONGEST_REMEMBERED = 32  # characters: a longer one is no word, and would take much memory


class TextEncoder:
    """``TextInput`` as code."""

    def __init__(self, input: TextInput) -> None:
        self._input, self._shape = input, input.shape
        self._remembered = lru_cache(maxsize=_REMEMBERED)(self._within)

    def __call__(self, text: str) -> NDArray[np.float32]:
        """``(1, buckets)``; all 0 for a text without words."""
        words = _WORD.findall(_normalized(text).lower())
        tensor = np.zeros(self._shape, np.float32)
        if words:
            buckets, counts = np.unique(np.fromiter(self._buckets(words), np.int64), return_counts=True)
            weights = np.log1p(counts)
            tensor[0, buckets] = weights / np.linalg.norm(weights)
        return tensor

    def _buckets(self, words: list[str]) -> Iterator[int]:
        """One for each n-gram."""
        size = self._input.buckets
        for length in range(1, self._input.words + 1):
            for start in range(len(words) - length + 1):
                yield _hash("w" + " ".join(words[start : start + length])) % size
        if self._input.chars[1]:
            yield from chain.from_iterable(
                self._remembered(word) if len(word) <= _LONGEST_REMEMBERED else self._within(word) for word in words
            )

    def _within(self, word: str) -> tuple[int, ...]:
        """Of the runs of characters in a word."""
        (least, most), size = self._input.chars, self._input.buckets
        padded = f" {word} "
        return tuple(
            _hash("c" + padded[start : start + length]) % size
            for length in range(least, min(most, len(padded)) + 1)
            for start in range(len(padded) - length + 1)
        )


def _normalized(text: str) -> str:
    """As NFKC, and no longer than a text may be: one character can become 18."""
    if text.isascii():
        return text
    return "".join(unicodedata.normalize("NFKC", run) for run in _RUN.findall(text))[:MAX_TEXT_CHARS]


def _hash(gram: str) -> int:
    return zlib.crc32(gram.encode("utf-8", "replace"))
