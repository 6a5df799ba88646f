"""The Trust service of the programmable hub: honest by itself, and for each device whatever an attack makes of it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import grpc
from tuf.api.metadata import TargetFile

from protos.v1 import trust_pb2, trust_pb2_grpc
from tests.conformance.repository import Ask, Release, Repository

CHUNK_BYTES = 64 << 10
Served = bytes | Callable[[], Iterable[bytes]] | None  # whole, piece by piece, or nothing of that name


class Teller(Protocol):
    """Who answers one device."""

    def metadata(self, repository: int, name: str) -> Served: ...

    def director(self, ask: Ask) -> bytes: ...


@dataclass
class Answers:
    """What one device is told. What stands in ``images``, ``directors`` and ``sign`` goes before the truth."""

    repository: Repository
    generation: int = 0  # desired last
    release: Release | None = None
    beside: Sequence[TargetFile] = ()  # of its challenger
    images: dict[str, Served] = field(default_factory=dict)
    directors: dict[str, Served] = field(default_factory=dict)
    sign: Callable[[Ask, Sequence[TargetFile]], bytes] | None = None
    given: list[bytes] = field(default_factory=list)  # director metadata, in order

    def honest(self) -> None:
        """From now on."""
        self.images.clear()
        self.directors.clear()
        self.sign = None

    def director(self, ask: Ask) -> bytes:
        ask = replace(ask, generation=self.generation)
        sign = self.sign or self.repository.director.answer
        self.given.append(sign(ask, (*(self.release.targets if self.release else ()), *self.beside)))
        return self.given[-1]

    def metadata(self, repository: int, name: str) -> Served:
        if repository == trust_pb2.REPOSITORY_DIRECTOR:
            return self.directors.get(name, self.repository.director.files.get(name))
        return self.images.get(name, self.repository.images.files.get(name))


class TrustService(trust_pb2_grpc.TrustServicer):
    def __init__(self, answers: Callable[[str], Teller], *, tenant: str, board: str) -> None:
        """``answers``: of the device with a name."""
        self._answers, self._tenant, self._board = answers, tenant, board

    def GetMetadata(
        self, request: trust_pb2.GetMetadataRequest, context: grpc.ServicerContext
    ) -> Iterator[trust_pb2.MetadataChunk]:
        served = self._answers(_caller(context)).metadata(request.repository, request.name)
        if served is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no metadata {request.name}")
            return
        for piece in _pieces(served) if isinstance(served, bytes) else served():
            yield trust_pb2.MetadataChunk(data=piece)

    def GetDirector(self, request: trust_pb2.GetDirectorRequest, context: grpc.ServicerContext) -> trust_pb2.GetDirectorReply:
        device = _caller(context)
        ask = Ask(device=device, tenant=self._tenant, board=self._board, nonce=bytes(request.nonce))
        return trust_pb2.GetDirectorReply(metadata=self._answers(device).director(ask))


def _caller(context: grpc.ServicerContext) -> str:
    name: bytes = context.auth_context()["x509_common_name"][0]
    return name.decode()


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]
