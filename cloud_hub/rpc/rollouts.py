"""Rollouts: a version to devices, in waves."""

from asyncio import sleep
from collections.abc import AsyncGenerator, Callable

from cloud_hub.core import rollout_plan, rollout_spec
from cloud_hub.core.errors import Invalid
from cloud_hub.core.gates import NO_GATES, GateReading, GateVerdict, Outcome, Reading
from cloud_hub.core.model import ROLLOUT_ENDED, Principal, Rollout, RolloutDevice
from cloud_hub.core.rollout_plan import Component, RolloutPlan
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.requests import page_from_pb
from cloud_hub.rpc.threads import Threads
from cloud_hub.rpc.times import opt_to_ms
from cloud_hub.services.rollouts import RolloutService
from protos.contract import ids
from protos.contract.telemetry import to_ms
from protos.contract.update import UpdateState
from protos.v1 import fleet_pb2
from protos.v1 import rollouts_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Rollouts"]
_POLL_S = 0.3
_OUTCOMES = {
    Outcome.PASS: pb.GATE_OUTCOME_PASS,
    Outcome.WAIT: pb.GATE_OUTCOME_WAIT,
    Outcome.BREACH: pb.GATE_OUTCOME_BREACH,
}


class RolloutsServicer:
    def __init__(self, rollouts: RolloutService, threads: Threads) -> None:
        self._rollouts = rollouts
        self._threads = threads

    async def CreateRollout(self, request: pb.CreateRolloutRequest, call: Call) -> pb.Rollout:
        return rollout_to_pb(await self._threads.call(self._rollouts.launch, call.who, plan_from_pb(request)))

    async def GetRollout(self, request: pb.GetRolloutRequest, call: Call) -> pb.Rollout:
        return rollout_to_pb(*await self._threads.call(self._rollouts.view, call.who, request.id))

    async def ListRollouts(self, request: pb.ListRolloutsRequest, call: Call) -> pb.ListRolloutsReply:
        page = page_from_pb(request.page_size, request.page_token)
        rollouts, following = await self._threads.call(self._rollouts.list, call.who, request.active_only, page)
        return pb.ListRolloutsReply(rollouts=map(listed_to_pb, rollouts), next_page_token=following)

    async def ListRolloutDevices(self, request: pb.ListRolloutDevicesRequest, call: Call) -> pb.ListRolloutDevicesReply:
        page = page_from_pb(request.page_size, request.page_token)
        state = update_state_from_pb(request.state)
        devices, following = await self._threads.call(self._rollouts.devices, call.who, request.id, state, page)
        return pb.ListRolloutDevicesReply(devices=map(rollout_device_to_pb, devices), next_page_token=following)

    async def StartRollout(self, request: pb.RolloutActionRequest, call: Call) -> pb.Rollout:
        return await self._act(self._rollouts.start, request, call)

    async def ApproveRollout(self, request: pb.RolloutActionRequest, call: Call) -> pb.Rollout:
        return await self._act(self._rollouts.approve, request, call)

    async def PauseRollout(self, request: pb.RolloutActionRequest, call: Call) -> pb.Rollout:
        return await self._act(self._rollouts.pause, request, call)

    async def ResumeRollout(self, request: pb.RolloutActionRequest, call: Call) -> pb.Rollout:
        return await self._act(self._rollouts.resume, request, call)

    async def AbortRollout(self, request: pb.RolloutActionRequest, call: Call) -> pb.Rollout:
        return await self._act(self._rollouts.abort, request, call)

    async def RollbackRollout(self, request: pb.RolloutActionRequest, call: Call) -> pb.Rollout:
        return await self._act(self._rollouts.rollback, request, call)

    async def WatchRollout(self, request: pb.GetRolloutRequest, call: Call) -> AsyncGenerator[pb.Rollout, None]:
        sent: tuple[Rollout, GateVerdict] | None = None
        while sent is None or sent[0].state not in ROLLOUT_ENDED:
            view = await self._threads.call(self._rollouts.view, call.who, request.id)
            if view != sent:
                yield rollout_to_pb(*view)
                sent = view
            else:
                await sleep(_POLL_S)

    async def _act(
        self, action: Callable[[Principal, str], Rollout], request: pb.RolloutActionRequest, call: Call
    ) -> pb.Rollout:
        return rollout_to_pb(await self._threads.call(action, call.who, request.id))


def plan_from_pb(request: pb.CreateRolloutRequest) -> RolloutPlan:
    """Raises Invalid, ``protos.contract.errors.InvalidId``."""
    if request.plan_yaml:
        return rollout_spec.parse(request.plan_yaml)
    return rollout_plan.of_model(
        ids.model_name(request.model),
        request.version,
        dict(request.selector.match),
        canary=request.canary,
        soak_s=request.soak_s,
        max_failures=request.max_failures,
    )


def update_state_from_pb(number: int) -> UpdateState | None:
    """0: none. Raises Invalid."""
    try:
        return UpdateState(number) if number else None
    except ValueError as error:
        raise Invalid(f"{number} is no state of an update") from error


def listed_to_pb(rollout: Rollout) -> pb.Rollout:
    plan = rollout.plan
    return pb.Rollout(
        id=rollout.id,
        component=plan.component,
        model=plan.name,
        version=rollout.version,
        package_version="" if plan.component is Component.MODEL else plan.version,
        selector=fleet_pb2.Selector(match=dict(plan.selector)),
        soak_s=plan.soak_s,
        state=rollout.state,  # type: ignore[arg-type]  # numbers are the wire's
        wave=rollout.wave,
        waves=rollout.waves,
        reason=rollout.reason,
        created_by=rollout.created_by,
        created_at_ms=to_ms(rollout.created_at),
        started_at_ms=opt_to_ms(rollout.started_at),
        starts_at_ms=opt_to_ms(plan.start),
        ended_at_ms=opt_to_ms(rollout.ended_at),
    )


def rollout_to_pb(rollout: Rollout, verdict: GateVerdict = NO_GATES) -> pb.Rollout:
    """The whole of it."""
    whole = listed_to_pb(rollout)
    whole.plan_json = rollout_spec.dump(rollout.plan)
    whole.devices.extend(map(rollout_device_to_pb, rollout.devices))
    whole.standings.extend(wave_to_pb(rollout, number) for number in range(len(rollout.standings)))
    whole.gates.extend(map(gate_to_pb, verdict.readings))
    return whole


def wave_to_pb(rollout: Rollout, number: int) -> pb.RolloutWave:
    planned, standing = rollout.plan.waves[number], rollout.standings[number]
    return pb.RolloutWave(
        title=planned.title,
        waiting=standing.waiting,
        pending=standing.pending,
        committed=standing.committed,
        failed=standing.failed,
        superseded=standing.superseded,
        started_at_ms=opt_to_ms(standing.started_at),
        asked_at_ms=opt_to_ms(standing.asked_at),
        soaking_since_ms=opt_to_ms(standing.soaking_since),
        soak_s=rollout.plan.soak_of(number),
        approval=planned.approval,
        approved_by=standing.approved_by,
    )


def gate_to_pb(reading: GateReading) -> pb.GateReading:
    gate = reading.gate
    return pb.GateReading(
        metric=gate.metric,
        rule=gate.rule,
        bound=gate.bound,
        versus=gate.versus,
        min_samples=gate.least,
        outcome=_OUTCOMES[reading.outcome],
        reason=reading.reason,
        treated=_figure_to_pb(reading.treated),
        compared=_figure_to_pb(reading.compared),
    )


def rollout_device_to_pb(device: RolloutDevice) -> pb.RolloutDevice:
    return pb.RolloutDevice(
        device_id=device.device,
        wave=device.wave,
        state=device.state or 0,  # type: ignore[arg-type]  # numbers are the wire's
        reason=device.reason,
        target=device.target,
        asked_at_ms=opt_to_ms(device.asked_at),
        ended_at_ms=opt_to_ms(device.ended_at),
    )


def _figure_to_pb(figure: Reading | None) -> pb.GateFigure | None:
    if figure is None:
        return None
    return pb.GateFigure(value=figure.value, low=figure.low, high=figure.high, samples=figure.samples, devices=figure.devices)
