import pytest

from cloud_hub.core.errors import Invalid
from cloud_hub.core.labels import checked_labels, checked_selector, model_term


@pytest.mark.parametrize("key", ["id", "board", "model", "", "Site", "a b", "-a", "a" * 64])
def test_a_label_key_that_is_reserved_or_no_name_is_refused(key: str) -> None:
    with pytest.raises(Invalid):
        checked_labels({key: "x"})


@pytest.mark.parametrize("value", ["", "x" * 129, "two\nlines"])
def test_a_label_value_that_cannot_be_shown_is_refused(value: str) -> None:
    with pytest.raises(Invalid, match="site"):
        checked_labels({"site": value})


def test_a_device_has_a_bounded_number_of_labels() -> None:
    with pytest.raises(Invalid, match="33"):
        checked_labels({f"k{i}": "v" for i in range(33)})


def test_a_selector_may_name_what_a_label_may_not() -> None:
    terms = {"board": "camera-x86", "id": "cam-1", "model": "signs:3", "site": "Köln"}
    assert checked_selector(terms) == terms


@pytest.mark.parametrize(("text", "meant"), [("signs", ("signs", None)), ("signs:3", ("signs", 3))])
def test_a_model_term_is_a_name_with_or_without_a_version(text: str, meant: tuple[str, int | None]) -> None:
    assert model_term(text) == meant


@pytest.mark.parametrize("text", ["", "signs:", "signs:0", "signs:-1", "signs:1.0", "Signs", "signs:99999999999", "signs:²"])
def test_a_model_term_that_is_neither_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        checked_selector({"model": text})
