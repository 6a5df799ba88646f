"""Whatever is written in YAML is read, or is no YAML."""

import time
from typing import Any

import pytest
import yaml

from edge_agent.core import documents

BAD = {
    "unended": "a: [",
    "no date": "a: 2026-13-45",
    "no timestamp": "!!timestamp x",
    "no float": "!!float x",
    "unhashable key": "? [a]\n: b",
    "nul": "a: \0",
    "an object": "!!python/object:os.system x",
    "deep": "[" * 200_000,
    "deep with lines": "[\n" * 100_000,
    "deep mappings": "{a: " * 50_000,
    "deep by indenting": "".join(" " * i + "a:\n" for i in range(500)),
    "deep lists": "- " * 100_000,
    "base 60": "a: 1" + ":1" * 100_000,
    "base 60 with a fraction": "a: 1" + ":1" * 100_000 + ".5",
    "long": "a: 0x" + "f" * 200_000,
    "a tag on what is long": "!!int 1" + ":1" * 100_000,
    "merged into a number": "<<: 1",
    "laughs": "a: &a [x]\nb: [*a, *a]",
    "itself": "&a [*a]",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_what_cannot_be_read_is_one_kind_of_error(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        documents.load(text)


def test_what_cannot_be_read_is_refused_at_once() -> None:
    started = time.process_time()
    for text in BAD.values():
        with pytest.raises(yaml.YAMLError):
            documents.load(text)
    assert time.process_time() - started < 5.0  # of the processor; without the bounds it is hours


def test_what_people_write_is_within_the_bounds() -> None:
    deep: Any = "x"
    for _ in range(documents.MAX_DEPTH - 1):
        deep = [deep]
    assert documents.load(yaml.safe_dump(deep)) == deep
    assert documents.load("a: 1:30\nb: 0x10\nc: " + "9" * 100)["a"] == 90
    assert documents.load("a: '" + "1" * 200 + "'") == {"a": "1" * 200}


def test_plain_values_are_read() -> None:
    assert documents.load("a: [1, 2.5, x, null]") == {"a": [1, 2.5, "x", None]}


def test_the_owner_of_a_file_may_say_a_thing_once() -> None:
    assert documents.load("a: &a [1]\nb: *a", aliases=True) == {"a": [1], "b": [1]}
