"""What it costs a device to come: full mutual TLS handshakes with the first call or packet, each by another certificate.

gRPC: the hub's own credentials (a certificate that is exchanged while it runs) and its guard (certificate, policy, who it is
now, from the database) against a bare grpc.aio echo with credentials that never change, in the same process, in turns. MQTT:
CONNECT to the hub's mosquitto, with its configuration, against the handshakes alone that `openssl s_time` makes with it.
Chains have the same length everywhere: own certificate, issuing authority, root. Clients are processes of their own; the
server's CPU is told too, because it says more than a rate on a machine whose cores both sides share.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from cloud_hub.broker.mosquitto import MosquittoBroker
from cloud_hub.broker.supervisor import open_broker
from cloud_hub.core.config import BrokerConfig
from cloud_hub.rpc.credentials import ServerCertificate
from cloud_hub.trust.authority import Authority, Issued
from edge_agent.core.clock import SystemClock
from protos.v1 import fleet_pb2 as pb
from scripts.benches._figures import figure
from scripts.benches._guarded import BARE, GUARDED, handlers, static_credentials

BENCH = "tls-connect"
PEOPLE = 400  # so many that the hub has forgotten each, half a second later, when it comes again
AT_ONCE = 8
AIM = "reference: a bare server with the same certificates"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--client", choices=("grpc", "mqtt"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.client:
        _client(given.folder, _connect_grpc if given.client == "grpc" else _connect_mqtt)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        people = _people(folder, Authority.create(folder / "ca"))
        asyncio.run(_grpc(folder, people, rounds=7 if given.quick else 31))
        _mqtt(folder, rounds=5 if given.quick else 15, seconds=2 if given.quick else 5)


def _people(folder: Path, authority: Authority) -> list[Issued]:
    """Certificates in the files that the clients read."""
    made = [authority.sign_user(f"ada-{number}") for number in range(PEOPLE)]
    (folder / "ca.pem").write_text(authority.ca_pem)
    (folder / "chain.pem").write_text(authority.ca_pem + made[0].certificate_pem.partition("-----END CERTIFICATE-----\n")[2])
    for number, one in enumerate(made):
        path = folder / f"{number}.pem"
        path.touch(mode=0o600)
        path.write_text(one.key_pem + one.certificate_pem)
    return made


# -- gRPC -----------------------------------------------------------------------------------------------------------------


async def _grpc(folder: Path, people: list[Issued], rounds: int) -> None:
    authority = Authority.load(folder / "ca")
    dynamic = ServerCertificate(authority, ("localhost",), SystemClock()).credentials(client_certificates=True)
    async with handlers(folder, {f"ada-{number}": one for number, one in enumerate(people)}) as (guarded, bare):
        servers, ports = [], {}
        for path, handler, credentials in ((GUARDED, guarded, dynamic), (BARE, bare, static_credentials(authority))):
            server = grpc.aio.server()
            server.add_generic_rpc_handlers([handler])
            ports[path] = server.add_secure_port("localhost:0", credentials)
            servers.append(server)
            await server.start()
        try:
            await _measure_grpc(folder, ports, rounds)
        finally:
            for server in servers:
                await server.stop(0)


async def _measure_grpc(folder: Path, ports: dict[str, int], rounds: int) -> None:
    pipe = asyncio.subprocess.PIPE
    client = await asyncio.create_subprocess_exec(*_client_command("grpc", folder), stdin=pipe, stdout=pipe)

    async def turn(path: str, at_once: int) -> tuple[float, float]:
        """Connections a second, and seconds of the server's CPU for one."""
        assert client.stdin is not None and client.stdout is not None
        before = time.process_time()
        client.stdin.write(f"{json.dumps([[path, ports[path]], PEOPLE // at_once, at_once])}\n".encode())
        rate = float(await client.stdout.readline())
        return rate, (time.process_time() - before) / (PEOPLE // at_once * at_once)

    for at_once, words in ((1, "one after the other"), (AT_ONCE, f"{AT_ONCE} at once")):
        for path in ports:
            await turn(path, at_once)
        pairs = []
        for number in range(rounds):
            first, second = (GUARDED, BARE) if number % 2 else (BARE, GUARDED)
            found = {path: await turn(path, at_once) for path in (first, second)}
            pairs.append((found[GUARDED], found[BARE]))
        _tell(f"gRPC handshakes with the first call, {words}", "1/s", pairs, 0, 1.0)
        _tell(f"the hub's CPU for one gRPC handshake and call, {words}", "us", pairs, 1, 1e6)
    assert client.stdin is not None
    client.stdin.close()
    await client.wait()


def _tell(name: str, unit: str, pairs: list[tuple[tuple[float, float], tuple[float, float]]], side: int, scale: float) -> None:
    ours, bare = [[pair[which][side] * scale for pair in pairs] for which in (0, 1)]
    ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
    figure(BENCH, name, statistics.median(ours), unit, reference=statistics.median(bare), ratio=ratio, aim=AIM)


# -- MQTT -----------------------------------------------------------------------------------------------------------------


def _mqtt(folder: Path, rounds: int, seconds: int) -> None:
    if not shutil.which("mosquitto"):
        print("tls-connect: no mosquitto on this machine, so nothing is told of MQTT", file=sys.stderr)
        return
    config = BrokerConfig(kind="mosquitto", port=0)
    broker = open_broker(config, folder / "broker", Authority.load(folder / "ca"))
    assert isinstance(broker, MosquittoBroker)
    broker.start()
    try:
        _measure_mqtt(folder, broker, rounds, seconds)
    finally:
        broker.stop()


def _measure_mqtt(folder: Path, broker: MosquittoBroker, rounds: int, seconds: int) -> None:
    port = broker.local.port
    clients = [
        subprocess.Popen(_client_command("mqtt", folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]

    def turn() -> tuple[float, float]:
        """Connections a second of all clients, and seconds of the broker's CPU for one."""
        before = _cpu_s(broker)
        for client in clients:
            assert client.stdin is not None
            client.stdin.write(json.dumps([["", port], PEOPLE, 1]) + "\n")
            client.stdin.flush()
        rate = sum(float(client.stdout.readline()) for client in clients if client.stdout is not None)
        return rate, (_cpu_s(broker) - before) / (PEOPLE * len(clients))

    turn()
    found = [turn() for _ in range(rounds)]
    for client in clients:
        assert client.stdin is not None
        client.stdin.close()
        client.wait()
    rate, cpu = (statistics.median(one[side] for one in found) for side in (0, 1))
    alone = _s_time(folder, port, seconds, lambda: _cpu_s(broker))
    figure(BENCH, "MQTT connections", rate, "1/s", reference=alone and alone[0], aim="reference: handshakes by openssl s_time")
    figure(BENCH, "the broker's CPU for one MQTT connection", cpu * 1e6, "us", reference=alone and alone[1] * 1e6, aim=AIM)


def _s_time(folder: Path, port: int, seconds: int, cpu_s: Callable[[], float]) -> tuple[float, float] | None:
    """Handshakes a second, and seconds of the server's CPU for one; None where there is no openssl to ask."""
    if not shutil.which("openssl"):
        print("tls-connect: no openssl on this machine, so MQTT stands without a reference", file=sys.stderr)
        return None
    one = str(folder / "0.pem")
    command = ["openssl", "s_time", "-connect", f"localhost:{port}", "-new", "-time", str(seconds), "-cert", one, "-key", one]
    before, started = cpu_s(), time.perf_counter()
    # It sends no chain from a file, and builds one from what it trusts: hence the issuing authority in there.
    told = subprocess.run([*command, "-CAfile", str(folder / "chain.pem")], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+) connections in \d+ real seconds", told)
    if found is None or not int(found[1]):
        raise RuntimeError(f"openssl s_time says nothing that can be used: {told[-500:]}")
    made = int(found[1])
    return made / (time.perf_counter() - started), (cpu_s() - before) / made


def _cpu_s(broker: MosquittoBroker) -> float:
    fields = Path(f"/proc/{broker.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- clients --------------------------------------------------------------------------------------------------------------


def _client_command(kind: str, folder: Path) -> tuple[str, ...]:
    return (sys.executable, "-m", "scripts.benches.tls_connect", "--client", kind, "--folder", str(folder))


def _client(folder: Path, connect: Callable[..., Any]) -> None:
    """Reads turns from stdin, and says how many connections a second each came to."""
    connect_once = connect(folder)

    async def some(where: list[Any], numbers: range) -> None:
        for number in numbers:
            await connect_once(where, number)

    async def turn(where: list[Any], each: int, at_once: int) -> None:
        await asyncio.gather(*(some(where, range(first * each, (first + 1) * each)) for first in range(at_once)))

    with asyncio.Runner() as runner:
        while line := sys.stdin.readline():
            where, each, at_once = json.loads(line)
            started = time.perf_counter()
            runner.run(turn(where, each, at_once))
            print(each * at_once / (time.perf_counter() - started), flush=True)


def _connect_grpc(folder: Path) -> Callable[..., Any]:
    ca = (folder / "ca.pem").read_bytes()
    pairs = [_halves((folder / f"{number}.pem").read_bytes()) for number in range(PEOPLE)]
    own = [("grpc.use_local_subchannel_pool", 1)]  # a connection for each channel

    async def connect(where: list[Any], number: int) -> None:
        path, port = where
        credentials = grpc.ssl_channel_credentials(ca, *pairs[number])
        async with grpc.aio.secure_channel(f"localhost:{port}", credentials, options=own) as channel:
            call = channel.unary_unary(path, pb.GetDeviceRequest.SerializeToString, pb.Device.FromString)
            assert (await call(pb.GetDeviceRequest(id="cam-1"))).id == "cam-1"

    return connect


def _halves(pem: bytes) -> tuple[bytes, bytes]:
    """Key and chain."""
    key, mark, chain = pem.partition(b"-----BEGIN CERTIFICATE-----")
    return key, mark + chain


def _connect_mqtt(folder: Path) -> Callable[..., Any]:
    contexts = []
    for number in range(PEOPLE):
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(folder / f"{number}.pem")
        contexts.append(context)
    name = b"bench-%d" % os.getpid()
    body = b"\x00\x04MQTT\x05\x02\x00\x3c\x00" + len(name).to_bytes(2, "big") + name
    packet = bytes([0x10, len(body)]) + body

    async def connect(where: list[Any], number: int) -> None:
        with (
            socket.create_connection(("localhost", where[1])) as plain,
            contexts[number].wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as the agent does, or an ACK is waited for
            tls.sendall(packet)
            answer = tls.recv(64)
            if len(answer) < 4 or answer[0] != 0x20 or answer[3] != 0:
                raise RuntimeError(f"the broker refuses the connection: {answer!r}")
            tls.sendall(b"\xe0\x00")

    return connect


if __name__ == "__main__":
    main()
