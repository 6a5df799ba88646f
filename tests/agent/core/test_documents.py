"""Whatever is written in YAML is read, or is no YAML."""

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
    "deep": "[" * 5000,
    "merged into a number": "<<: 1",
    "laughs": "a: &a [x]\nb: [*a, *a]",
    "itself": "&a [*a]",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_what_cannot_be_read_is_one_kind_of_error(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        documents.load(text)


def test_plain_values_are_read() -> None:
    assert documents.load("a: [1, 2.5, x, null]") == {"a": [1, 2.5, "x", None]}


def test_the_owner_of_a_file_may_say_a_thing_once() -> None:
    assert documents.load("a: &a [1]\nb: *a", aliases=True) == {"a": [1], "b": [1]}
