"""What every message needs on its way in and out."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import zstandard
from google.protobuf.message import DecodeError, Message

from protos.contract.errors import ContractError, InvalidMessage
from protos.contract.telemetry import MAX_TEXT

MAX_TWIN_BYTES = 64 * 1024

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=Message)


def decoder(function: Callable[P, R]) -> Callable[P, R]:
    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except InvalidMessage:
            raise
        except (ContractError, DecodeError, ValueError, OverflowError, zstandard.ZstdError) as error:
            raise InvalidMessage(f"{function.__name__.removeprefix('decode_')}: {error}") from error

    return checked


def parse(message: M, data: bytes) -> M:
    message.ParseFromString(data)
    return message


def bounded(data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        raise InvalidMessage(f"message of {len(data)} bytes, more than {limit}")
    return data


def sendable(text: str) -> str:
    """Its beginning, without what ``check_text`` refuses: a reason may quote a file name, which need not be Unicode."""
    return text[:MAX_TEXT].encode("utf-8", "replace").decode().replace("\0", " ")


def enum(value: int) -> Any:
    """Our enums carry the wire's numbers; the generated stubs want their own type."""
    return int(value)
