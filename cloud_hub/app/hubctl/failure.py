"""How a command ends when it does not end well: one line on stderr and an exit code that scripts can trust."""

from enum import IntEnum

import grpc


class ExitCode(IntEnum):
    FAILED = 1  # the job was rejected or failed, the rollout was stopped, or the hub has a bug
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4  # conflict, invalid input, something else must come first
    UNREACHABLE = 5
    DENIED = 6


EPILOG = (
    "Exit codes: 0 ok; 1 failed (a job was rejected or failed, a rollout was stopped); 2 usage; 3 not found; "
    "4 refused, conflict or invalid; 5 hub unreachable; 6 denied; 130 interrupted."
)


class Failure(Exception):
    """Root of what a command may raise; the message is one line for a user."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.code = code


def refused(message: str) -> Failure:
    """Local input that cannot be used."""
    return Failure(message, ExitCode.REFUSED)


_CODES = {
    grpc.StatusCode.NOT_FOUND: ExitCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: ExitCode.REFUSED,
    grpc.StatusCode.FAILED_PRECONDITION: ExitCode.REFUSED,
    grpc.StatusCode.INVALID_ARGUMENT: ExitCode.REFUSED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ExitCode.REFUSED,
    grpc.StatusCode.ABORTED: ExitCode.REFUSED,
    grpc.StatusCode.UNAVAILABLE: ExitCode.UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: ExitCode.UNREACHABLE,
    grpc.StatusCode.PERMISSION_DENIED: ExitCode.DENIED,
    grpc.StatusCode.UNAUTHENTICATED: ExitCode.DENIED,
}


def of_rpc(error: grpc.RpcError, address: str) -> Failure:
    """What the hub's answer, or its silence, means to a user."""
    code, details = error.code(), " ".join((error.details() or "").split())
    if code is grpc.StatusCode.UNAVAILABLE:
        return Failure(f"cannot reach the hub at {address}: {_cause(details)}", ExitCode.UNREACHABLE)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Failure(f"the hub at {address} did not answer in time: {details}", ExitCode.UNREACHABLE)
    if code is grpc.StatusCode.INTERNAL:
        return Failure(f"the hub failed ({details}): its log says more", ExitCode.FAILED)
    return Failure(details or code.name, _CODES.get(code, ExitCode.FAILED))


def _cause(details: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return "its certificate is not from the configured ca"
    if "Ssl handshake failed" in details or "SSL_ERROR" in details or "Socket closed" in details:
        return "the TLS handshake failed: check ca, cert and key"
    return details.rpartition("last error: ")[2] or "no answer"
