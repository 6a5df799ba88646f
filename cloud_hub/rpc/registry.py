"""Registry: models, versions, aliases."""

import json
from collections.abc import Sequence

from cloud_hub.core.model import Model, ModelVersion, Variant
from cloud_hub.core.variants import Standing
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.threads import Threads
from cloud_hub.services.registry import RegistryService
from protos.contract import ids
from protos.contract.telemetry import to_ms
from protos.v1 import registry_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Registry"]


class RegistryServicer:
    def __init__(self, registry: RegistryService, threads: Threads) -> None:
        self._registry = registry
        self._threads = threads

    async def ListModels(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsReply:
        return pb.ListModelsReply(models=map(model_to_pb, await self._threads.call(self._registry.models, call.who)))

    async def ListVersions(self, request: pb.ListVersionsRequest, call: Call) -> pb.ListVersionsReply:
        versions = await self._threads.call(self._registry.versions, call.who, ids.model_name(request.name))
        return pb.ListVersionsReply(versions=(version_to_pb(v, report=False) for v in versions))

    async def GetVersion(self, request: pb.GetVersionRequest, call: Call) -> pb.ModelVersion:
        args = (ids.model_name(request.name), request.version or None, request.alias or None)
        version = await self._threads.call(self._registry.get, call.who, *args)
        return version_to_pb(version, boards=await self._threads.call(self._registry.on_boards, version))

    async def SetAlias(self, request: pb.SetAliasRequest, call: Call) -> pb.Model:
        args = (ids.model_name(request.name), request.alias, request.version)
        return model_to_pb(await self._threads.call(self._registry.set_alias, call.who, *args))


def model_to_pb(model: Model) -> pb.Model:
    return pb.Model(name=model.name, task=model.task, latest_version=model.latest_version, aliases=dict(model.aliases))


def version_to_pb(
    version: ModelVersion, *, report: bool = True, boards: Sequence[tuple[str, Sequence[Standing]]] = ()
) -> pb.ModelVersion:
    """Reports are large: a list of versions goes without."""
    return pb.ModelVersion(
        name=version.name,
        version=version.version,
        variants=map(variant_to_pb, version.variants),
        aliases=version.aliases,
        job_id=version.job_id,
        report_json=json.dumps(version.report, sort_keys=True) if report else "",
        created_at_ms=to_ms(version.created_at),
        on_boards=[on_board_to_pb(name, one) for name, found in boards for one in found],
    )


def on_board_to_pb(board: str, standing: Standing) -> pb.VariantOnBoard:
    fit = standing.measured
    return pb.VariantOnBoard(
        board=board,
        target=standing.target,
        chosen=not standing.passed_over,
        passed_over=standing.passed_over,
        devices=fit.devices if fit else 0,
        p50_ms=fit.p50_ms if fit else 0.0,
        p95_ms=fit.p95_ms if fit else 0.0,
        peak_bytes=fit.peak_bytes if fit else 0,
        error=fit.error if fit else 0.0,
        agreement=fit.agreement if fit else 0.0,
    )


def variant_to_pb(variant: Variant) -> pb.Variant:
    return pb.Variant(
        target=variant.target,
        manifest_digest=variant.manifest_digest,
        manifest_size_bytes=variant.manifest_size_bytes,
        artifact_digest=variant.artifact_digest,
        artifact_size_bytes=variant.artifact_size_bytes,
        score=variant.score,
        metric=variant.metric,
        latency_p50_ms=variant.latency_p50_ms,
        output_error=variant.output_error,
        boards=variant.boards,
    )
