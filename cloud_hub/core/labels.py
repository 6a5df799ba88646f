"""Labels of devices, and the selectors that match them: equality, all terms must hold.

Reserved selector keys: ``id``, ``board``, and ``model`` as ``name`` or ``name:version`` (what the device reports to run).
"""

import re
from collections.abc import Mapping

from cloud_hub.core.errors import Invalid
from protos.contract import ids
from protos.contract.errors import InvalidId
from protos.contract.ids import ModelName
from protos.contract.manifest import MAX_VERSION

RESERVED = ("id", "board", "model")
MAX_LABELS = 32
MAX_VALUE = 128

_KEY = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")


def checked_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Raises Invalid naming the label."""
    for key in labels:
        if key in RESERVED:
            raise Invalid(f"label {key!r} is reserved: every device has one of its own")
    return _checked(labels)


def checked_selector(selector: Mapping[str, str]) -> dict[str, str]:
    """Raises Invalid naming the term."""
    if "model" in selector:
        model_term(selector["model"])
    return _checked(selector)


def model_term(text: str) -> tuple[ModelName, int | None]:
    """``name`` or ``name:version``. Raises Invalid."""
    name, colon, version = text.partition(":")
    if colon and not (version.isascii() and version.isdigit() and 1 <= int(version[:11]) <= MAX_VERSION):
        raise Invalid(f"selector model={text[:80]!r} must be a model's name, or name:version")
    try:
        return ids.model_name(name), int(version) if colon else None
    except InvalidId as error:
        raise Invalid(f"selector model={text[:80]!r}: {error}") from error


def _checked(terms: Mapping[str, str]) -> dict[str, str]:
    if len(terms) > MAX_LABELS:
        raise Invalid(f"{len(terms)} labels are more than {MAX_LABELS}")
    for key, value in terms.items():
        if not _KEY.fullmatch(key):
            raise Invalid(f"label key must be 1 to 63 of a-z, 0-9 and inner '.', '_', '-', got {key[:80]!r}")
        if not value or len(value) > MAX_VALUE or not value.isprintable():
            raise Invalid(f"label {key} must be 1..{MAX_VALUE} printable characters, got {value[:80]!r}")
    return dict(terms)
