"""What a label must be."""

import json

import pytest

from cloud_hub.core.datasets import Holding
from cloud_hub.core.errors import Invalid
from cloud_hub.core.tasks import Annotation
from cloud_hub.services.annotations import check_holding, checked_label
from protos.contract.inputs import SampleKind


def holding(annotation: Annotation, labels: tuple[str, ...] = (), kind: SampleKind = SampleKind.IMAGE) -> Holding:
    return Holding(name="things", kind=kind, annotation=annotation, labels=labels)


SIGNS = holding(Annotation.BOXES, ("stop", "yield"))
NUMBERS = holding(Annotation.VALUES, kind=SampleKind.WINDOW)


def test_boxes_are_kept_in_one_way_of_writing() -> None:
    given = '[ {"label": "stop", "box": [0, 0.10000000001, 0.5, 1]} ]'
    kept = checked_label(given, SIGNS)
    assert json.loads(kept) == [{"label": "stop", "box": [0.0, 0.1, 0.5, 1.0]}]
    assert checked_label(kept, SIGNS) == kept
    assert checked_label("[]", SIGNS) == "[]"  # a picture with nothing in it is labelled


@pytest.mark.parametrize(
    "label",
    [
        "stop",
        "{}",
        '[{"label": "cow", "box": [0, 0, 1, 1]}]',
        '[{"label": ["stop"], "box": [0, 0, 1, 1]}]',
        '[{"label": "stop", "box": [0, 0, 1]}]',
        '[{"label": "stop", "box": [0, 0, 1, 1.1]}]',
        '[{"label": "stop", "box": [0.5, 0, 0.5, 1]}]',
        '[{"label": "stop", "box": [NaN, 0, 1, 1]}]',
        '[{"label": "stop", "box": [0, 0, true, 1]}]',
        '[{"label": "stop", "box": [0, 0, 1, 1], "more": 1}]',
        "[" * 100_000,
        json.dumps([{"label": "stop", "box": [0, 0, 1, 1]}] * 1001),
    ],
)
def test_boxes_that_are_none_are_refused(label: str) -> None:
    with pytest.raises(Invalid):
        checked_label(label, SIGNS)


@pytest.mark.parametrize(("label", "kept"), [("3", "3.0"), ("[1, 2.5]", "[1.0,2.5]"), (" 1e3 ", "1000.0")])
def test_values_are_kept_in_one_way_of_writing(label: str, kept: str) -> None:
    assert checked_label(label, NUMBERS) == kept


@pytest.mark.parametrize("label", ["", "x", "NaN", "[1, Infinity]", "[]", "1e40", "true", '"3"', "[[1]]", "null"])
def test_values_that_are_none_are_refused(label: str) -> None:
    with pytest.raises(Invalid):
        checked_label(label, NUMBERS)


def test_a_data_set_has_the_labels_that_its_annotation_needs() -> None:
    check_holding(SIGNS)
    check_holding(NUMBERS)
    check_holding(holding(Annotation.BOXES, ("face",)))
    for wrong in (
        holding(Annotation.CLASS, ("one",)),
        holding(Annotation.CLASS, ("one", "one")),
        holding(Annotation.BOXES),
        holding(Annotation.VALUES, ("one", "two")),
        holding(Annotation.NONE, ("one", "two")),
        holding(Annotation.BOXES, ("face",), SampleKind.TEXT),
    ):
        with pytest.raises(Invalid):
            check_holding(wrong)
    with pytest.raises(Invalid, match="has no labels"):
        checked_label("one", holding(Annotation.NONE))
