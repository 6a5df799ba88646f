"""Packages: settings, agents, firmware images."""

from collections.abc import AsyncIterator

from cloud_hub.core.errors import Invalid
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.requests import page_from_pb
from cloud_hub.rpc.threads import Threads
from cloud_hub.services.packages import Announced, Package, PackageService
from protos.contract import ids
from protos.contract.telemetry import to_ms
from protos.contract.twin import PackageKind
from protos.v1 import packages_pb2 as pb
from protos.v1 import twin_pb2

SERVICE = pb.DESCRIPTOR.services_by_name["Packages"]


class PackagesServicer:
    def __init__(self, packages: PackageService, threads: Threads) -> None:
        self._packages = packages
        self._threads = threads

    async def PublishPackage(self, requests: AsyncIterator[pb.PackageChunk], call: Call) -> pb.Package:
        upload = None
        try:
            async for chunk in requests:
                if upload is None:
                    upload = await self._threads.call(self._packages.begin, call.who, announced_from_pb(chunk))
                if chunk.data:
                    await self._threads.call(upload.take, chunk.data)
            if upload is None:
                raise Invalid("no package came")
            return package_to_pb(await self._threads.call(upload.finish))
        finally:
            if upload is not None:
                await self._threads.call(upload.close)

    async def ListPackages(self, request: pb.ListPackagesRequest, call: Call) -> pb.ListPackagesReply:
        page = page_from_pb(request.page_size, request.page_token)
        kinds = (kind_from_pb(request.kind),) if request.kind else tuple(PackageKind)
        found, following = await self._threads.call(self._packages.list, call.who, page, kinds)
        return pb.ListPackagesReply(packages=map(package_to_pb, found), next_page_token=following)


def kind_from_pb(kind: twin_pb2.PackageKind) -> PackageKind:
    """Raises Invalid."""
    try:
        return PackageKind(kind)
    except ValueError as error:
        known = ", ".join(one.name.lower() for one in PackageKind)
        raise Invalid(f"a package is of one kind of {known}, got {int(kind)}") from error


def announced_from_pb(chunk: pb.PackageChunk) -> Announced:
    return Announced(
        kind=kind_from_pb(chunk.kind),
        board=chunk.board,
        name=ids.model_name(chunk.name),
        version=chunk.version,
        digest=ids.digest(chunk.digest),
        size_bytes=chunk.size_bytes,
    )


def package_to_pb(package: Package) -> pb.Package:
    return pb.Package(
        kind=twin_pb2.PackageKind.Name(package.kind),
        board=package.board,
        name=package.name,
        version=package.version,
        digest=package.digest,
        size_bytes=package.size_bytes,
        release=package.release,
        signed=package.signed,
        created_at_ms=to_ms(package.created_at),
    )
