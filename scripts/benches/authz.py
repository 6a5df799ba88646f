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

import grpc

from cloud_hub.trust.authority import Authority, Issued
from protos.v1 import fleet_pb2 as pb
from scripts.benches._figures import figure
from scripts.benches._guarded import BARE, GUARDED, handlers, static_credentials

AIM = "<= 1.05 of the bare handler"


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


async def _serve(folder: Path, rounds: int) -> None:
    authority = Authority.create(folder / "ca")
    async with handlers(folder, {"ada": _user(folder, authority)}) as both:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(both)
        port = server.add_secure_port("localhost:0", static_credentials(authority))
        await server.start()
        try:
            await _measure(f"localhost:{port}", folder, rounds)
        finally:
            await server.stop(0)


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


def _user(folder: Path, authority: Authority) -> Issued:
    """Also in files, for the client."""
    user = authority.sign_user("ada")
    for name, text in (("ca.pem", authority.ca_pem), ("user.key", user.key_pem), ("user.pem", user.certificate_pem)):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(text)
    return user


if __name__ == "__main__":
    main()
