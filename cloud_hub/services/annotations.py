"""What a label must be, by the annotation of its data set."""

import json
import math
from collections import Counter
from typing import Any

from cloud_hub.core.datasets import Holding
from cloud_hub.core.errors import Invalid
from cloud_hub.core.tasks import Annotation
from cloud_hub.services.samples import check_text
from protos.contract.inputs import SampleKind
from protos.contract.outputs import MAX_BOXES, MAX_LABELS

MAX_LABEL_BYTES = 64 * 1024  # of boxes and values
_DIGITS = 6  # of a box's sides: finer than a pixel of the largest picture
_SHOWN = 20  # labels in an error


def check_holding(holding: Holding) -> None:
    """Raises Invalid where a data set cannot be like that."""
    name, count = holding.name, len(holding.labels)
    least = {Annotation.CLASS: 2, Annotation.BOXES: 1}.get(holding.annotation, 0)
    if not least:
        if count:
            kind = holding.annotation.name.lower()
            raise Invalid(f"data set {name} is annotated with {kind}: it has no list of labels, got {count}")
    elif not least <= count <= MAX_LABELS:
        raise Invalid(f"data set {name} needs {least}..{MAX_LABELS} labels, got {count}")
    elif twice := [label for label, times in Counter(holding.labels).most_common(1) if times > 1]:
        raise Invalid(f"data set {name} needs labels that differ, got {twice[0][:64]!r} twice")
    for label in holding.labels:
        check_text("label", label, least=1)
    if holding.annotation is Annotation.BOXES and holding.kind is not SampleKind.IMAGE:
        raise Invalid(f"data set {name}: only images have boxes, not a {holding.kind.name.lower()}")


def checked_label(label: str, holding: Holding) -> str:
    """As it is kept, the same text for the same values. Raises Invalid saying what the data set knows."""
    match holding.annotation:
        case Annotation.CLASS:
            _check_class(label, holding)
            return label
        case Annotation.BOXES:
            return _boxes(label, holding)
        case Annotation.VALUES:
            return _values(label, holding.name)
    raise Invalid(f"data set {holding.name} has no labels")


def _check_class(label: Any, holding: Holding) -> None:
    if not isinstance(label, str) or label not in holding.known:
        shown = ", ".join(holding.labels[:_SHOWN]) + (", ..." if len(holding.labels) > _SHOWN else "")
        raise Invalid(f"unknown label {str(label)[:64]!r}: data set {holding.name} knows {shown}")


def _boxes(label: str, holding: Holding) -> str:
    wanted = f"data set {holding.name} wants a list of {{label, box}}"
    boxes = _json(label, wanted)
    if not isinstance(boxes, list) or len(boxes) > MAX_BOXES:
        raise Invalid(f"{wanted} with {MAX_BOXES} boxes at most, got {label[:64]!r}")
    kept = []
    for each in boxes:
        if not isinstance(each, dict) or each.keys() != {"label", "box"}:
            raise Invalid(f"{wanted}, got {str(each)[:64]!r}")
        _check_class(each["label"], holding)
        sides = each["box"]
        if not isinstance(sides, list) or len(sides) != 4 or not all(_number(side) and 0 <= side <= 1 for side in sides):
            raise Invalid(f"a box is [left, top, right, bottom] in shares of the picture, 0..1, got {str(sides)[:64]!r}")
        left, top, right, bottom = (round(float(side), _DIGITS) for side in sides)
        if not (left < right and top < bottom):
            raise Invalid(f"a box must have a width and a height, got {str(sides)[:64]!r}")
        kept.append({"box": [left, top, right, bottom], "label": each["label"]})
    return json.dumps(kept, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _values(label: str, name: str) -> str:
    values = _json(label, f"data set {name} wants a number or a list of numbers")
    several = values if isinstance(values, list) else [values]
    if not several or not all(_number(value) for value in several):
        raise Invalid(f"data set {name} wants a finite number or a list of them, got {label[:64]!r}")
    kept = [float(value) for value in several]
    return json.dumps(kept if isinstance(values, list) else kept[0], separators=(",", ":"), allow_nan=False)


def _json(label: str, wanted: str) -> Any:
    if len(label) > MAX_LABEL_BYTES:
        raise Invalid(f"a label of {len(label)} characters, more than {MAX_LABEL_BYTES}")
    try:
        return json.loads(label)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{wanted}, as JSON, got {label[:64]!r}") from error


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30 and math.isfinite(value)
