"""What no database can hold is refused before any service sees it."""

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from cloud_hub.core.errors import Invalid

_MAX_INTEGER = 2**63 - 1  # both databases count so far
_KINDS = {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64, FieldDescriptor.TYPE_MESSAGE}


def check(message: Message) -> None:
    """Raises Invalid naming a field with a text that holds NUL, which PostgreSQL refuses, or with a number beyond 2^63-1."""
    for field, value in message.ListFields():
        if field.type in _KINDS:
            for one in _each(field, value):
                if isinstance(one, Message):
                    check(one)
                elif isinstance(one, str) and "\0" in one:
                    raise Invalid(f"'{field.name}' holds a NUL character")
                elif isinstance(one, int) and one > _MAX_INTEGER:
                    raise Invalid(f"'{field.name}' must be at most 2^63-1, got {one}")


def _each(field: FieldDescriptor, value: Any) -> Iterable[Any]:
    if not field.is_repeated:
        return (value,)
    if isinstance(value, Mapping):
        return (*value.keys(), *value.values())
    return value  # type: ignore[no-any-return]
