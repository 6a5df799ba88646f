"""Trust: signed metadata, and the keys and roots behind it."""

from collections.abc import AsyncGenerator, Iterator

from cloud_hub.core.errors import Invalid
from cloud_hub.core.targets import DIRECTOR, IMAGE
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.threads import Threads
from cloud_hub.rpc.times import opt_to_ms
from cloud_hub.services.trust import TrustService
from cloud_hub.services.trust_status import RoleStatus, TrustStatus
from cloud_hub.trust.tuf.keys import OnlineKey
from protos.v1 import trust_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Trust"]
CHUNK_BYTES = 64 << 10

_REPOSITORIES = {pb.REPOSITORY_IMAGE: IMAGE, pb.REPOSITORY_DIRECTOR: DIRECTOR}
_NUMBERS = {name: number for number, name in _REPOSITORIES.items()}


class TrustServicer:
    def __init__(self, trust: TrustService, threads: Threads) -> None:
        self._trust = trust
        self._threads = threads

    def GetMetadata(self, request: pb.GetMetadataRequest, call: Call) -> AsyncGenerator[pb.MetadataChunk, None]:
        return self._threads.each(lambda: self._chunks(request))

    async def GetDirector(self, request: pb.GetDirectorRequest, call: Call) -> pb.GetDirectorReply:
        return pb.GetDirectorReply(metadata=await self._threads.call(self._trust.director, call.who, request.nonce))

    async def GetTrust(self, request: pb.GetTrustRequest, call: Call) -> pb.TrustStatus:
        return status_to_pb(await self._threads.call(self._trust.status))

    async def PrepareKeys(self, request: pb.PrepareKeysRequest, call: Call) -> pb.PrepareKeysReply:
        wanted = {(repository_from_pb(one.repository), one.role) for one in request.roles}
        keys = await self._threads.call(self._trust.prepare_keys, call.who, wanted)
        roots = await self._threads.call(self._trust.roots)
        image, director = roots or (b"", b"")
        return pb.PrepareKeysReply(keys=map(key_to_pb, keys), image_root=image, director_root=director)

    async def PutRoot(self, request: pb.PutRootRequest, call: Call) -> pb.TrustStatus:
        args = (request.image_root, request.director_root)
        return status_to_pb(await self._threads.call(self._trust.put_root, call.who, *args))

    def _chunks(self, request: pb.GetMetadataRequest) -> Iterator[pb.MetadataChunk]:
        data = self._trust.metadata(repository_from_pb(request.repository), request.name)
        for start in range(0, len(data), CHUNK_BYTES):
            yield pb.MetadataChunk(data=data[start : start + CHUNK_BYTES])


def repository_from_pb(number: pb.Repository) -> str:
    """Raises Invalid."""
    if number not in _REPOSITORIES:
        raise Invalid("say which repository: image or director")
    return _REPOSITORIES[number]


def key_to_pb(key: OnlineKey) -> pb.OnlineKey:
    public = bytes.fromhex(key.public.keyval["public"])
    return pb.OnlineKey(repository=_NUMBERS[key.repository], role=key.role, key_id=key.id, public_key=public)


def status_to_pb(status: TrustStatus) -> pb.TrustStatus:
    return pb.TrustStatus(
        roles=map(role_to_pb, status.roles), targets=status.targets, waiting=status.waiting, problem=status.problem
    )


def role_to_pb(role: RoleStatus) -> pb.RoleStatus:
    return pb.RoleStatus(
        repository=_NUMBERS[role.repository],
        role=role.role,
        version=role.version,
        expires_at_ms=opt_to_ms(role.expires_at),
        threshold=role.threshold,
        key_ids=role.key_ids,
    )
