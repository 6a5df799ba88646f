"""Messages as plain values for people and scripts: ISO times, enum words, no protobuf spelling."""

import base64
import json
from datetime import UTC
from typing import Any

from google.protobuf.descriptor import EnumValueDescriptor, FieldDescriptor
from google.protobuf.message import Message

from protos.contract.telemetry import from_ms


def plain(message: Message) -> dict[str, Any]:
    """Every field, set or not. ``created_at_ms: 0`` becomes ``created_at: None``, ``report_json`` the ``report`` itself."""
    values: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        name, value = _field(field, message)
        values[name] = value
    return values


def iso(ms: int) -> str | None:
    """ISO 8601 in UTC with milliseconds; None for 0, which is no time."""
    return from_ms(ms).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if ms else None


def _field(field: Any, message: Message) -> tuple[str, Any]:  # field: FieldDescriptor, of whichever protobuf backend
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return field.name, dict(sorted(value.items()))
    if field.is_repeated:
        return field.name, [_single(field, item) for item in value]
    if field.message_type is not None:
        return field.name, plain(value) if message.HasField(field.name) else None
    if field.has_presence and not message.HasField(field.name):
        return field.name, None
    if field.type == FieldDescriptor.TYPE_INT64 and field.name.endswith("_ms"):
        return field.name.removesuffix("_ms"), iso(value)
    if field.name.endswith("_json"):
        return field.name.removesuffix("_json"), json.loads(value) if value else None
    return field.name, _single(field, value)


def _single(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return plain(value)
    if field.enum_type is not None:
        return _word(field.enum_type.values_by_number.get(value), value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64encode(value).decode()
    if field.type == FieldDescriptor.TYPE_FLOAT:
        return float(f"{value:.7g}")  # what 32 bits can say, without their tail
    return value


def _word(entry: EnumValueDescriptor | None, number: int) -> str | None:
    """``ROLLOUT_STATE_RUNNING`` is ``running``; unspecified is None."""
    if entry is None:
        return str(number)
    if number == 0:
        return None
    prefix = entry.type.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return entry.name.removeprefix(prefix).lower()
