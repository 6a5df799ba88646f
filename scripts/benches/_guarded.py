"""One call that is answered at once: behind the hub's guard, and bare."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc

from cloud_hub.core.metrics import HubMetrics
from cloud_hub.core.model import DEFAULT_TENANT, Role
from cloud_hub.rpc.admission import Admission
from cloud_hub.rpc.auth import Certificates, Door
from cloud_hub.rpc.guard import Guard
from cloud_hub.rpc.record import Record
from cloud_hub.rpc.threads import Threads
from cloud_hub.services.access import AccessService
from cloud_hub.services.audit import AuditService
from cloud_hub.services.users import recorded
from cloud_hub.store import certificates, users
from cloud_hub.store.database import Database
from cloud_hub.trust.authority import Authority, Issued
from edge_agent.core.clock import SystemClock
from protos.v1 import fleet_pb2 as pb

GUARDED, BARE = "/tideline.v1.Fleet/GetDevice", "/bench.Bare/GetDevice"
REPLY = pb.Device(id="cam-1", tenant="default", board="camera-x86", labels={"site": "north"}, enrolled=True)

Handler = grpc.GenericRpcHandler


class _Servicer:
    """Every method of ``Fleet`` answers the same."""

    def __getattr__(self, name: str) -> Any:
        async def answer(request: pb.GetDeviceRequest, call: object) -> pb.Device:
            return REPLY

        return answer


async def _bare(request: pb.GetDeviceRequest, context: Any) -> pb.Device:
    return REPLY


@contextlib.asynccontextmanager
async def handlers(folder: Path, people: Mapping[str, Issued]) -> "AsyncIterator[tuple[Handler[Any, Any], Handler[Any, Any]]]":
    """The guarded and the bare one. ``people``: whom the hub knows, as admins, by name; its database is in ``folder``."""
    clock, threads = SystemClock(), Threads(4)
    db = Database(f"sqlite:///{folder / 'hub.db'}")
    db.migrate()
    with db.write() as tx:
        for name, issued in people.items():
            users.add(tx, DEFAULT_TENANT, name, Role.ADMIN, clock.now())
            certificates.add(tx, recorded(issued.certificate_pem, DEFAULT_TENANT, name))
    admission = Admission(AccessService(db, clock), threads, clock)
    record = Record(AuditService(db, clock), threads, clock)
    guard = Guard(admission=admission, record=record, clock=clock, metrics=HubMetrics().calls)
    door = Door(Certificates().shown, "a client certificate", strangers=False)
    bare = grpc.unary_unary_rpc_method_handler(_bare, pb.GetDeviceRequest.FromString, pb.Device.SerializeToString)
    admission.start()
    try:
        yield (
            guard.service(pb.DESCRIPTOR.services_by_name["Fleet"], _Servicer(), door),
            grpc.method_handlers_generic_handler("bench.Bare", {"GetDevice": bare}),
        )
    finally:
        await admission.stop()
        threads.close()
        db.close()


def static_credentials(authority: Authority) -> grpc.ServerCredentials:
    """Mutual TLS with a certificate that never changes."""
    own = authority.issue_server(["localhost"])
    pair = (own.key_pem.encode(), own.certificate_pem.encode())
    return grpc.ssl_server_credentials([pair], authority.ca_pem.encode(), require_client_auth=True)
