"""What it costs that every call is somebody's: unary calls behind the guard (certificate, policy, standing, limits, metrics)
against the same call of a bare grpc.aio handler, on the same port of the same server over the same TLS connection, in turns.

The client is a process of its own. The server's CPU is told too, because it says more than a latency on a busy machine.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
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
from cloud_hub.trust.authority import Authority
from edge_agent.core.clock import SystemClock
from protos.v1 import fleet_pb2 as pb
from scripts.benches._figures import figure

GUARDED, BARE = "/tideline.v1.Fleet/GetDevice", "/bench.Bare/GetDevice"
AIM = "<= 1.05 of the bare handler"
REPLY = pb.Device(id="cam-1", tenant="default", board="camera-x86", labels={"site": "north"}, enrolled=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--client", nargs=2, metavar=("ADDRESS", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.client:
        asyncio.run(_client(given.client[0], Path(given.client[1])))
        return
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_serve(Path(folder), rounds=21 if given.quick else 101))


class _Servicer:
    """Every method of ``Fleet`` answers the same."""

    def __getattr__(self, name: str) -> Any:
        async def answer(request: pb.GetDeviceRequest, call: object) -> pb.Device:
            return REPLY

        return answer


async def _bare(request: pb.GetDeviceRequest, context: Any) -> pb.Device:
    return REPLY


async def _serve(folder: Path, rounds: int) -> None:
    clock, threads = SystemClock(), Threads(4)
    authority = Authority.create(folder / "ca")
    db = Database(f"sqlite:///{folder / 'hub.db'}")
    db.migrate()
    _add_user(folder, authority, db)
    own = authority.issue_server(["localhost"])
    admission = Admission(AccessService(db, clock), threads, clock)
    record = Record(AuditService(db, clock), threads, clock)
    guard = Guard(admission=admission, record=record, clock=clock, metrics=HubMetrics().calls)
    server = grpc.aio.server()
    door = Door(Certificates().shown, "a client certificate", strangers=False)
    bare = grpc.unary_unary_rpc_method_handler(_bare, pb.GetDeviceRequest.FromString, pb.Device.SerializeToString)
    server.add_generic_rpc_handlers(
        [
            guard.service(pb.DESCRIPTOR.services_by_name["Fleet"], _Servicer(), door),
            grpc.method_handlers_generic_handler("bench.Bare", {"GetDevice": bare}),
        ]
    )
    credentials = grpc.ssl_server_credentials(
        [(own.key_pem.encode(), own.certificate_pem.encode())], authority.ca_pem.encode(), require_client_auth=True
    )
    port = server.add_secure_port("localhost:0", credentials)
    admission.start()
    await server.start()
    try:
        await _measure(f"localhost:{port}", folder, rounds)
    finally:
        await server.stop(0)
        await admission.stop()
        threads.close()
        db.close()


async def _measure(address: str, folder: Path, rounds: int) -> None:
    command = (sys.executable, "-m", "scripts.benches.authz", "--client", address, str(folder))
    pipe = asyncio.subprocess.PIPE
    client = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert client.stdin is not None and client.stdout is not None

    async def turn(path: str, calls: int, at_once: int) -> tuple[float, float]:
        """Seconds of the client, and of the server's CPU, for one call."""
        assert client.stdin is not None and client.stdout is not None
        before = time.process_time()
        client.stdin.write(f"{json.dumps([path, calls, at_once])}\n".encode())
        elapsed = float(await client.stdout.readline())
        return elapsed / calls, (time.process_time() - before) / calls

    for calls, at_once, words in ((200, 1, "one after the other"), (640, 64, "64 at once")):
        for path in (GUARDED, BARE):
            await turn(path, calls, at_once)
        pairs = []
        for number in range(rounds):
            first, second = (GUARDED, BARE) if number % 2 else (BARE, GUARDED)
            found = {path: await turn(path, calls, at_once) for path in (first, second)}
            pairs.append((found[GUARDED], found[BARE]))
        for what, index in (("a call", 0), ("the server's CPU for a call", 1)):
            ours, bare = [[pair[side][index] * 1e6 for pair in pairs] for side in (0, 1)]
            ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
            reference = statistics.median(bare)
            name = f"{what} behind the guard, {words}"
            figure("authz", name, statistics.median(ours), "us", reference=reference, ratio=ratio, aim=AIM)
    client.stdin.close()
    await client.wait()


async def _client(address: str, folder: Path) -> None:
    """Reads turns from stdin, and says how many seconds each took."""
    ca, key, cert = ((folder / name).read_bytes() for name in ("ca.pem", "user.key", "user.pem"))
    loop = asyncio.get_running_loop()
    async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert)) as channel:
        calls = {
            path: channel.unary_unary(path, pb.GetDeviceRequest.SerializeToString, pb.Device.FromString)
            for path in (GUARDED, BARE)
        }

        async def some(path: str, count: int) -> None:
            for _ in range(count):
                assert (await calls[path](pb.GetDeviceRequest(id="cam-1"))).id == "cam-1"

        while line := await loop.run_in_executor(None, sys.stdin.readline):
            path, count, at_once = json.loads(line)
            started = time.perf_counter()
            await asyncio.gather(*(some(path, count // at_once) for _ in range(at_once)))
            print(time.perf_counter() - started, flush=True)


def _add_user(folder: Path, authority: Authority, db: Database) -> None:
    user = authority.sign_user("ada")
    with db.write() as tx:
        users.add(tx, DEFAULT_TENANT, "ada", Role.ADMIN, SystemClock().now())
        certificates.add(tx, recorded(user.certificate_pem, DEFAULT_TENANT, "ada"))
    for name, text in (("ca.pem", authority.ca_pem), ("user.key", user.key_pem), ("user.pem", user.certificate_pem)):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
