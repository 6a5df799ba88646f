"""Shadows: challengers beside the models that run."""

from cloud_hub.core.model import ShadowDevice, ShadowTotals
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.requests import page_from_pb
from cloud_hub.rpc.threads import Threads
from cloud_hub.rpc.times import opt_to_ms
from cloud_hub.services.shadow import Match, ShadowService
from protos.contract import ids
from protos.contract.telemetry import to_ms
from protos.contract.twin import ShadowReport
from protos.v1 import shadows_pb2 as pb
from protos.v1 import twin_pb2

SERVICE = pb.DESCRIPTOR.services_by_name["Shadows"]
_COUNTS = ("devices", "active", "reporting", "troubled", "frames", "agreed", "skipped", "errors", "captured")
_MEANS = ("champion_confidence", "challenger_confidence", "champion_p95_ms", "challenger_p95_ms")
_FIGURES = (*_COUNTS[4:], *_MEANS, "challenger_p50_ms", "problem")


class ShadowsServicer:
    def __init__(self, shadows: ShadowService, threads: Threads) -> None:
        self._shadows = shadows
        self._threads = threads

    async def StartShadow(self, request: pb.StartShadowRequest, call: Call) -> pb.StartShadowReply:
        args = (match_from_pb(request), dict(request.selector.match), request.limit)
        started = await self._threads.call(self._shadows.start, call.who, *args)
        passed_over = [pb.PassedOver(device_id=device, reason=reason) for device, reason in started.passed_over]
        return pb.StartShadowReply(devices=started.devices, passed_over=passed_over)

    async def StopShadow(self, request: pb.StopShadowRequest, call: Call) -> pb.StopShadowReply:
        args = (ids.model_name(request.model), request.version or None, dict(request.selector.match))
        return pb.StopShadowReply(devices=await self._threads.call(self._shadows.stop, call.who, *args))

    async def ListShadows(self, request: pb.ListShadowsRequest, call: Call) -> pb.ListShadowsReply:
        return pb.ListShadowsReply(shadows=map(totals_to_pb, await self._threads.call(self._shadows.list, call.who)))

    async def GetShadow(self, request: pb.GetShadowRequest, call: Call) -> pb.GetShadowReply:
        args = (ids.model_name(request.model), request.version, page_from_pb(request.page_size, request.page_token))
        totals, devices, following = await self._threads.call(self._shadows.get, call.who, *args)
        return pb.GetShadowReply(
            total=totals_to_pb(totals), devices=map(shadow_device_to_pb, devices), next_page_token=following
        )


def match_from_pb(request: pb.StartShadowRequest) -> Match:
    """0 is what the wire has for a share that was not given."""
    usual = Match(model=ids.model_name(request.model), version=request.version, target=request.target)
    return Match(
        model=usual.model,
        version=usual.version,
        target=usual.target,
        share=request.share or usual.share,
        max_share_of_time=request.max_share_of_time or usual.max_share_of_time,
    )


def totals_to_pb(totals: ShadowTotals) -> pb.Shadow:
    return pb.Shadow(
        model=totals.name,
        version=totals.version,
        started_at_ms=to_ms(totals.started_at),
        **{name: getattr(totals, name) for name in (*_COUNTS, *_MEANS)},
    )


def shadow_device_to_pb(device: ShadowDevice) -> pb.ShadowDevice:
    return pb.ShadowDevice(
        device_id=device.device,
        target=device.target,
        share=device.share,
        max_share_of_time=device.max_share_of_time,
        started_by=device.started_by,
        started_at_ms=to_ms(device.started_at),
        stopped_at_ms=opt_to_ms(device.stopped_at),
        reported_at_ms=opt_to_ms(device.reported_at),
        report=report_to_pb(device.report) if device.report is not None else None,
    )


def report_to_pb(report: ShadowReport) -> twin_pb2.ShadowReport:
    """Without the model, which the request names."""
    return twin_pb2.ShadowReport(since_ms=to_ms(report.since), **{name: getattr(report, name) for name in _FIGURES})
