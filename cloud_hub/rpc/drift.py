"""Drift: episodes and the windows they were judged from."""

from cloud_hub.core.model import DriftEpisode, DriftWindow
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.requests import device_from_pb, model_from_pb, page_from_pb, rows_from_pb
from cloud_hub.rpc.threads import Threads
from cloud_hub.rpc.times import opt_to_ms
from cloud_hub.services.drift import DriftService
from protos.contract.telemetry import to_ms
from protos.v1 import drift_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Drift"]


class DriftServicer:
    def __init__(self, drift: DriftService, threads: Threads) -> None:
        self._drift = drift
        self._threads = threads

    async def ListEpisodes(self, request: pb.ListEpisodesRequest, call: Call) -> pb.ListEpisodesReply:
        args = (model_from_pb(request.model), request.open_only, page_from_pb(request.page_size, request.page_token))
        episodes, following = await self._threads.call(self._drift.episodes, call.who, *args)
        return pb.ListEpisodesReply(episodes=map(episode_to_pb, episodes), next_page_token=following)

    async def ListWindows(self, request: pb.ListWindowsRequest, call: Call) -> pb.ListWindowsReply:
        args = (model_from_pb(request.model), device_from_pb(request.device_id), rows_from_pb(request.limit))
        return pb.ListWindowsReply(windows=map(window_to_pb, await self._threads.call(self._drift.windows, call.who, *args)))


def episode_to_pb(episode: DriftEpisode) -> pb.DriftEpisode:
    return pb.DriftEpisode(
        id=episode.id,
        device_id=episode.device,
        model=episode.model,
        version=episode.version,
        opened_at_ms=to_ms(episode.opened_at),
        closed_at_ms=opt_to_ms(episode.closed_at),
        reason=episode.reason,
        job_id=episode.job_id,
    )


def window_to_pb(window: DriftWindow) -> pb.DriftWindow:
    return pb.DriftWindow(
        device_id=window.device,
        model=window.model,
        version=window.version,
        start_ms=to_ms(window.start),
        end_ms=to_ms(window.end),
        readings=window.readings,
        label_psi=window.label_psi,
        confidence_psi=window.confidence_psi,
        confidence_shift=window.confidence_shift,
        drifted=window.drifted,
    )
