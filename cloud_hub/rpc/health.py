"""grpc.health.v1 of the whole hub; it says nothing per service, because all of them stand and fall together."""

import asyncio
from collections.abc import AsyncGenerator

from grpc_health.v1 import health_pb2 as pb

from cloud_hub.core.errors import NotFound
from cloud_hub.rpc.guard import Call

SERVICE = pb.DESCRIPTOR.services_by_name["Health"]
_SERVING = pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVING)
_NOT_SERVING = pb.HealthCheckResponse(status=pb.HealthCheckResponse.NOT_SERVING)


class HealthServicer:
    def __init__(self) -> None:
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """From now on the hub is not serving, so that balancers and clients look elsewhere."""
        self._stopping.set()

    async def Check(self, request: pb.HealthCheckRequest, call: Call) -> pb.HealthCheckResponse:
        if request.service:
            raise NotFound("health is told for the whole hub only: leave 'service' empty")
        return _NOT_SERVING if self._stopping.is_set() else _SERVING

    async def List(self, request: pb.HealthListRequest, call: Call) -> pb.HealthListResponse:
        return pb.HealthListResponse(statuses={"": _NOT_SERVING if self._stopping.is_set() else _SERVING})

    async def Watch(self, request: pb.HealthCheckRequest, call: Call) -> AsyncGenerator[pb.HealthCheckResponse, None]:
        if request.service:
            yield pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVICE_UNKNOWN)  # as the protocol asks
            return
        yield _NOT_SERVING if self._stopping.is_set() else _SERVING
        await self._stopping.wait()
        yield _NOT_SERVING
