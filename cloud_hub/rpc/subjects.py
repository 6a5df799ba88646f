"""What a call is about, for the audit log: a few words from its request."""

import hashlib
from collections.abc import Mapping

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

# Fields that name a thing or say what becomes of it. Everything else stays out of the log: it may be a secret, or long.
_NAMES = frozenset(
    {
        "id", "name", "device_id", "model", "version", "alias", "dataset", "rule", "user", "role", "scope", "disabled",
        "stream", "board", "digest", "fingerprint", "reason", "ids", "labels", "severity", "duration_s", "canary",
        "needs_approval",
    }
)  # fmt: skip
_WHOLE = frozenset({"yaml", "plan_yaml", "image_root", "director_root"})  # the thing itself: its digest tells which one it was
_EACH, _ALL = 100, 480  # characters


def subject_of(request: Message) -> str:
    """``id=cam-1 reason=stolen``: set fields of those names in the order of their numbers, lists by their first three."""
    words = []
    for field, value in request.ListFields():
        if field.name in _NAMES:
            words.append(f"{field.name}={_word(field, value)[:_EACH]}")
        elif field.name in _WHOLE:
            data = value.encode() if isinstance(value, str) else bytes(value)
            words.append(f"{field.name}=sha256:{hashlib.sha256(data).hexdigest()}")
        elif field.name == "selector":
            words.append(f"selector={_pairs(value.match)[:_EACH]}")
    return " ".join(words)[:_ALL]


def _word(field: FieldDescriptor, value: object) -> str:
    if isinstance(value, Mapping):
        return _pairs(value)
    if field.is_repeated:
        items = list(value)  # type: ignore[call-overload]  # repeated
        shown = ",".join(str(item) for item in items[:3] if isinstance(item, str | int))
        return f"{shown},... ({len(items)})" if len(items) > 3 else shown
    return str(value) if isinstance(value, str | int | bool | float) else "..."


def _pairs(value: Mapping[object, object]) -> str:
    return ",".join(f"{key}:{item}" for key, item in sorted(value.items(), key=str))
