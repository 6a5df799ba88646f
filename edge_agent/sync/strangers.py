"""The hub's port for those who have no certificate that is still good: enrolment and renewal."""

import grpc

from edge_agent.core.errors import AgentError, LinkDown, Refused, Unapproved
from protos.v1 import enrollment_pb2 as pb
from protos.v1 import enrollment_pb2_grpc

MAX_REPLY_BYTES = 256 * 1024
_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", MAX_REPLY_BYTES))
_TEMPORARY = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
}


def enroll(address: str, ca_pem: bytes, request: pb.EnrollRequest, timeout_s: float) -> pb.EnrollReply:
    """Raises LinkDown (the hub may have answered all the same), Unapproved or Refused."""
    with _channel(address, ca_pem) as channel:
        stub = enrollment_pb2_grpc.EnrollmentStub(channel)  # type: ignore[no-untyped-call]  # generated
        try:
            reply: pb.EnrollReply = stub.Enroll(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise _translated(error, f"enrolment at {address}") from error
        return reply


def renew(address: str, ca_pem: bytes, request: pb.RenewRequest, timeout_s: float) -> pb.RenewReply:
    """Raises LinkDown (the hub may have answered all the same) or Refused."""
    with _channel(address, ca_pem) as channel:
        stub = enrollment_pb2_grpc.EnrollmentStub(channel)  # type: ignore[no-untyped-call]  # generated
        try:
            reply: pb.RenewReply = stub.Renew(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise _translated(error, f"renewal at {address}") from error
        return reply


def _channel(address: str, ca_pem: bytes) -> grpc.Channel:
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(root_certificates=ca_pem), options=_OPTIONS)


def _translated(error: grpc.RpcError, what: str) -> AgentError:
    code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
    details = (error.details() if isinstance(error, grpc.Call) else None) or "no details"
    message = f"{what}: {details} ({code.name})"
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        return Unapproved(message)
    return LinkDown(message) if code in _TEMPORARY else Refused(message)
