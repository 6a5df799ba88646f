"""The one place where errors become gRPC status."""

import logging
import secrets

from grpc import StatusCode

from cloud_hub.core import errors
from protos.contract.errors import ContractError

_log = logging.getLogger(__name__)

MAX_DETAILS = 1500  # characters; details travel in trailers, which clients bound at 8 KiB


class TookTooLong(errors.HubError):
    """The hub's own time limit for a call."""


_STATUS: tuple[tuple[type[Exception], StatusCode], ...] = (
    (errors.NotFound, StatusCode.NOT_FOUND),
    (errors.Conflict, StatusCode.ALREADY_EXISTS),
    (errors.Invalid, StatusCode.INVALID_ARGUMENT),
    (errors.NotReady, StatusCode.FAILED_PRECONDITION),
    (errors.Unauthenticated, StatusCode.UNAUTHENTICATED),  # before what it is a kind of
    (errors.Denied, StatusCode.PERMISSION_DENIED),
    (errors.Unavailable, StatusCode.UNAVAILABLE),
    (errors.Exhausted, StatusCode.RESOURCE_EXHAUSTED),
    (TookTooLong, StatusCode.DEADLINE_EXCEEDED),
    (errors.BadArtifact, StatusCode.DATA_LOSS),
    (ContractError, StatusCode.INVALID_ARGUMENT),
)


def status_of(error: Exception, method: str) -> tuple[StatusCode, str]:
    """What the caller is told. An unknown error is a bug: it is logged whole, and told as an incident number only."""
    for kind, code in _STATUS:
        if isinstance(error, kind):
            return code, _bounded(str(error))
    incident = secrets.token_hex(6)
    _log.error("unexpected error in a call", exc_info=error, extra={"incident": incident, "method": method})
    return StatusCode.INTERNAL, f"incident {incident}"


def _bounded(text: str) -> str:
    return text if len(text) <= MAX_DETAILS else text[: MAX_DETAILS - 1] + "…"
