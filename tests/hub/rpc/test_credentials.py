"""The server's own certificate under many handshakes at once."""

import asyncio
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import grpc

from cloud_hub.rpc.credentials import ServerCertificate
from cloud_hub.trust.authority import Authority
from edge_agent.core.clock import SystemClock
from tests.agent.clocks import ManualClock
from tests.hub.fleet_parts import Clock

HANDSHAKES, AT_ONCE = 800, 32


def test_a_port_is_told_of_a_certificate_once_and_each_port_by_itself(tmp_path: Path) -> None:
    clock = ManualClock()
    certificate = ServerCertificate(Authority.create(tmp_path / "ca", clock=clock), ("localhost",), clock)
    first = certificate._newest()
    one, other = certificate._changes(first), certificate._changes(first)
    assert (one(), one(), other()) == (None, None, None)
    clock.advance(timedelta(days=61).total_seconds())
    second = one()
    assert second is not None and second is not first
    assert one() is None
    assert other() is second
    assert other() is None


def test_a_clock_that_went_back_brings_a_certificate_that_is_good_by_now(tmp_path: Path) -> None:
    clock = Clock()
    authority = Authority.create(tmp_path / "ca", clock=clock)
    clock.leap(timedelta(days=40).total_seconds())
    certificate = ServerCertificate(authority, ("localhost",), clock)
    change = certificate._changes(certificate._newest())
    clock.leap(-timedelta(days=30).total_seconds())
    assert change() is not None, "the one of then is not good for a month"
    assert change() is None


def test_a_storm_of_handshakes_does_not_end_the_server(tmp_path: Path) -> None:
    """In a process of its own: what this guards against is a crash in gRPC."""
    done = subprocess.run([sys.executable, "-m", __name__, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, str(HANDSHAKES)), done.stderr[-2000:]


async def storm(folder: Path) -> int:
    authority = Authority.create(folder / "ca")
    own = authority.sign_user("ada")
    server = grpc.aio.server()
    credentials = ServerCertificate(authority, ("localhost",), SystemClock()).credentials(client_certificates=True)
    port = server.add_secure_port("localhost:0", credentials)
    await server.start()
    held = grpc.ssl_channel_credentials(authority.ca_pem.encode(), own.key_pem.encode(), own.certificate_pem.encode())
    places, made = asyncio.Semaphore(AT_ONCE), 0

    async def connect() -> None:
        nonlocal made
        options = [("grpc.use_local_subchannel_pool", 1)]  # a connection for each channel
        async with places, grpc.aio.secure_channel(f"localhost:{port}", held, options=options) as channel:
            try:
                await channel.unary_unary("/nobody/home")(b"")
            except grpc.aio.AioRpcError as error:
                made += error.code() is grpc.StatusCode.UNIMPLEMENTED

    await asyncio.gather(*(connect() for _ in range(HANDSHAKES)))
    await server.stop(0)
    return made


if __name__ == "__main__":
    sys.stdout.write(str(asyncio.run(storm(Path(sys.argv[1])))))
