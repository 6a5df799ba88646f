"""What the services look like, for admins with a generic client."""

from collections.abc import Iterable

from google.protobuf.descriptor import ServiceDescriptor
from grpc_reflection.v1alpha import reflection_pb2 as pb
from grpc_reflection.v1alpha._async import ReflectionServicer

SERVICE: ServiceDescriptor = pb.DESCRIPTOR.services_by_name["ServerReflection"]


def servicer(services: Iterable[ServiceDescriptor]) -> object:
    """Tells of these, and of itself."""
    return ReflectionServicer([SERVICE.full_name, *(service.full_name for service in services)])
