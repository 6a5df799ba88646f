"""Registry: models, versions, aliases."""

import json
from collections.abc import AsyncIterator

from cloud_hub.core.errors import Invalid
from cloud_hub.core.model import Model, ModelVersion, Variant
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.requests import page_from_pb
from cloud_hub.rpc.threads import Threads
from cloud_hub.services.firmware import Announced, Firmware
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
        return version_to_pb(await self._threads.call(self._registry.get, call.who, *args))

    async def SetAlias(self, request: pb.SetAliasRequest, call: Call) -> pb.Model:
        args = (ids.model_name(request.name), request.alias, request.version)
        return model_to_pb(await self._threads.call(self._registry.set_alias, call.who, *args))

    async def PublishFirmware(self, requests: AsyncIterator[pb.FirmwareChunk], call: Call) -> pb.Firmware:
        upload = None
        try:
            async for chunk in requests:
                if upload is None:
                    upload = await self._threads.call(self._registry.firmware.begin, call.who, announced_from_pb(chunk))
                if chunk.data:
                    await self._threads.call(upload.take, chunk.data)
            if upload is None:
                raise Invalid("no firmware came")
            return firmware_to_pb(await self._threads.call(upload.finish))
        finally:
            if upload is not None:
                await self._threads.call(upload.close)

    async def ListFirmware(self, request: pb.ListFirmwareRequest, call: Call) -> pb.ListFirmwareReply:
        page = page_from_pb(request.page_size, request.page_token)
        found, following = await self._threads.call(self._registry.firmware.list, call.who, page)
        return pb.ListFirmwareReply(firmware=map(firmware_to_pb, found), next_page_token=following)


def model_to_pb(model: Model) -> pb.Model:
    return pb.Model(name=model.name, task=model.task, latest_version=model.latest_version, aliases=dict(model.aliases))


def version_to_pb(version: ModelVersion, *, report: bool = True) -> pb.ModelVersion:
    """Reports are large: a list of versions goes without."""
    return pb.ModelVersion(
        name=version.name,
        version=version.version,
        variants=map(variant_to_pb, version.variants),
        aliases=version.aliases,
        job_id=version.job_id,
        report_json=json.dumps(version.report, sort_keys=True) if report else "",
        created_at_ms=to_ms(version.created_at),
    )


def variant_to_pb(variant: Variant) -> pb.Variant:
    return pb.Variant(
        target=variant.target,
        manifest_digest=variant.manifest_digest,
        manifest_size_bytes=variant.manifest_size_bytes,
        artifact_digest=variant.artifact_digest,
        artifact_size_bytes=variant.artifact_size_bytes,
        accuracy=variant.accuracy,
        latency_p50_ms=variant.latency_p50_ms,
        output_error=variant.output_error,
        boards=variant.boards,
    )


def announced_from_pb(chunk: pb.FirmwareChunk) -> Announced:
    return Announced(
        board=chunk.board,
        name=ids.model_name(chunk.name),
        version=chunk.version,
        digest=ids.digest(chunk.digest),
        size_bytes=chunk.size_bytes,
    )


def firmware_to_pb(firmware: Firmware) -> pb.Firmware:
    return pb.Firmware(
        board=firmware.board,
        name=firmware.name,
        version=firmware.version,
        digest=firmware.digest,
        size_bytes=firmware.size_bytes,
        release=firmware.release,
        signed=firmware.signed,
        created_at_ms=to_ms(firmware.created_at),
    )
