"""Rollouts: a version to devices, in waves."""

from asyncio import sleep
from collections.abc import AsyncGenerator, Callable

from cloud_hub.core.model import ROLLOUT_ENDED, Principal, Rollout, RolloutDevice
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.requests import page_from_pb
from cloud_hub.rpc.threads import Threads
from cloud_hub.rpc.times import opt_to_ms
from cloud_hub.services.rollouts import RolloutService
from protos.contract import ids
from protos.contract.telemetry import to_ms
from protos.v1 import fleet_pb2
from protos.v1 import rollouts_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Rollouts"]
_POLL_S = 0.3


class RolloutsServicer:
    def __init__(self, rollouts: RolloutService, threads: Threads) -> None:
        self._rollouts = rollouts
        self._threads = threads

    async def CreateRollout(self, request: pb.CreateRolloutRequest, call: Call) -> pb.Rollout:
        what = (ids.model_name(request.model), request.version, dict(request.selector.match))
        how = (request.canary, request.soak_s, request.max_failures)
        return rollout_to_pb(await self._threads.call(self._rollouts.create, call.who, *what, *how))

    async def GetRollout(self, request: pb.GetRolloutRequest, call: Call) -> pb.Rollout:
        return rollout_to_pb(await self._threads.call(self._rollouts.get, call.who, request.id))

    async def ListRollouts(self, request: pb.ListRolloutsRequest, call: Call) -> pb.ListRolloutsReply:
        page = page_from_pb(request.page_size, request.page_token)
        rollouts, following = await self._threads.call(self._rollouts.list, call.who, request.active_only, page)
        return pb.ListRolloutsReply(rollouts=map(rollout_to_pb, rollouts), next_page_token=following)

    async def PauseRollout(self, request: pb.RolloutActionRequest, call: Call) -> pb.Rollout:
        return await self._act(self._rollouts.pause, request, call)

    async def ResumeRollout(self, request: pb.RolloutActionRequest, call: Call) -> pb.Rollout:
        return await self._act(self._rollouts.resume, request, call)

    async def AbortRollout(self, request: pb.RolloutActionRequest, call: Call) -> pb.Rollout:
        return await self._act(self._rollouts.abort, request, call)

    async def RollbackRollout(self, request: pb.RolloutActionRequest, call: Call) -> pb.Rollout:
        return await self._act(self._rollouts.rollback, request, call)

    async def WatchRollout(self, request: pb.GetRolloutRequest, call: Call) -> AsyncGenerator[pb.Rollout, None]:
        sent: Rollout | None = None
        while sent is None or sent.state not in ROLLOUT_ENDED:
            rollout = await self._threads.call(self._rollouts.get, call.who, request.id)
            if rollout != sent:
                yield rollout_to_pb(rollout)
                sent = rollout
            else:
                await sleep(_POLL_S)

    async def _act(
        self, action: Callable[[Principal, str], Rollout], request: pb.RolloutActionRequest, call: Call
    ) -> pb.Rollout:
        return rollout_to_pb(await self._threads.call(action, call.who, request.id))


def rollout_to_pb(rollout: Rollout) -> pb.Rollout:
    return pb.Rollout(
        id=rollout.id,
        model=rollout.model,
        version=rollout.version,
        selector=fleet_pb2.Selector(match=dict(rollout.selector)),
        canary=rollout.canary,
        soak_s=rollout.soak_s,
        max_failures=rollout.max_failures,
        state=rollout.state,  # type: ignore[arg-type]  # numbers are the wire's
        wave=rollout.wave,
        waves=rollout.waves,
        reason=rollout.reason,
        devices=map(rollout_device_to_pb, rollout.devices),
        created_by=rollout.created_by,
        created_at_ms=to_ms(rollout.created_at),
        ended_at_ms=opt_to_ms(rollout.ended_at),
    )


def rollout_device_to_pb(device: RolloutDevice) -> pb.RolloutDevice:
    return pb.RolloutDevice(
        device_id=device.device,
        wave=device.wave,
        state=device.state or 0,  # type: ignore[arg-type]  # numbers are the wire's
        reason=device.reason,
        target=device.target,
    )
