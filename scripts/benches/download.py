"""How fast a blob comes to a device: from the hub over gRPC with mutual TLS, and the same file from nginx over HTTPS and HTTP
on the same machine, in turns. The hub and nginx are processes of their own; the client is Python each time.

"wire": the bytes are read and dropped. "device": as the agent does it, each chunk verified, on the disk, synced. Then 64
devices at once, each behind a link of 128 KiB/s, and how the hub answers others meanwhile.
"""

import argparse
import asyncio
import contextlib
import http.client
import random
import ssl
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import grpc

from cloud_hub.trust.authority import Authority, Issued
from edge_agent.sync import identity as identities
from edge_agent.sync.hub import GrpcHub
from edge_agent.sync.identity import Broker, Identity
from protos.contract.ids import DeviceId, TenantId
from protos.contract.manifest import Blob, Chunks
from protos.v1 import artifacts_pb2, artifacts_pb2_grpc
from scripts.benches._blobs import ServedHub, SlowLinks, nginx, prepare
from scripts.benches._figures import figure

BENCH = "download"
AIM = ">= 0.4"
LINKS, LINK_BYTES_PER_S = 64, 128 << 10
_OPTIONS = (("grpc.max_receive_message_length", 2 << 20), ("grpc.use_local_subchannel_pool", 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    large = random.Random(0).randbytes((64 if quick else 256) << 20)
    small = random.Random(1).randbytes((512 << 10) if quick else (2 << 20))
    with tempfile.TemporaryDirectory(prefix="bench-download-") as name:
        folder = Path(name)
        authority, user, (blob, slow), (chunks, _) = prepare(folder, [large, small])
        hub = ServedHub(folder)
        try:
            identity = _identity(folder, authority, user, hub.address)
            with nginx(folder, authority) as (plain, tls):
                path = f"/sha256/{blob.digest[7:9]}/{blob.digest[7:]}"
                ways = {"gRPC": "", "HTTPS": tls + path, "HTTP": plain + path}
                _wire(authority, user, hub, blob, ways, rounds=3 if quick else 9)
                _device(identity, blob, chunks, ways, folder, rounds=3 if quick else 9)
            _slow_links(hub, identity, slow, folder)
        finally:
            hub.stop()


def _wire(authority: Authority, user: Issued, hub: ServedHub, blob: Blob, ways: dict[str, str], *, rounds: int) -> None:
    pair = (user.key_pem.encode(), user.certificate_pem.encode())
    credentials = grpc.ssl_channel_credentials(authority.ca_pem.encode(), *pair)
    channel = grpc.secure_channel(hub.address, credentials, options=_OPTIONS)
    stub = artifacts_pb2_grpc.ArtifactsStub(channel)
    tls = ssl.create_default_context(cadata=authority.ca_pem)

    def over_grpc(_: str) -> int:
        return sum(len(chunk.data) for chunk in stub.Download(artifacts_pb2.DownloadRequest(digest=blob.digest)))

    def over_http(url: str) -> int:
        where = urlsplit(url)
        make: Callable[[], http.client.HTTPConnection] = (
            (lambda: http.client.HTTPSConnection("localhost", where.port, context=tls))
            if where.scheme == "https"
            else (lambda: http.client.HTTPConnection("localhost", where.port))
        )
        connection, buffer, count = make(), bytearray(1 << 20), 0
        connection.request("GET", where.path)
        response = connection.getresponse()
        while came := response.readinto(buffer):
            count += came
        connection.close()
        return count

    def take(way: str) -> int:
        return (over_http if ways[way] else over_grpc)(ways[way])

    before = hub.cpu_s()
    over_grpc("")
    figure(BENCH, "wire: the hub's CPU over gRPC", blob.size_bytes / (1 << 20) / (hub.cpu_s() - before), "MB per CPU second")
    _compare("wire", {way: lambda way=way: take(way) for way in ways}, blob, rounds)  # type: ignore[misc]
    channel.close()


def _device(identity: Identity, blob: Blob, chunks: Chunks, ways: dict[str, str], folder: Path, *, rounds: int) -> None:
    link = GrpcHub(identity, plain_http=True)
    path = folder / "model.bin"

    def take(way: str) -> int:
        path.unlink(missing_ok=True)
        link.download(blob, path, chunks=chunks, url=ways[way])
        return path.stat().st_size

    _compare("device", {way: lambda way=way: take(way) for way in ways}, blob, rounds)  # type: ignore[misc]
    link.close()
    path.unlink()


def _compare(what: str, ways: dict[str, Callable[[], int]], blob: Blob, rounds: int) -> None:
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, take in ways.items():
            started = time.perf_counter()
            if take() != blob.size_bytes:
                raise SystemExit(f"{way} gave another size")
            if number:  # the first warms up
                rates[way].append(blob.size_bytes / (1 << 20) / (time.perf_counter() - started))
    ours, plain, tls = (statistics.median(rates[way]) for way in ("gRPC", "HTTP", "HTTPS"))
    price = statistics.median(a / b for a, b in zip(rates["HTTPS"], rates["HTTP"], strict=True))
    figure(BENCH, f"{what}: the price of TLS, nginx over HTTPS against HTTP", tls, "MB/s", reference=plain, ratio=price)
    for other in ("HTTP", "HTTPS"):
        ratio = statistics.median(a / b for a, b in zip(rates["gRPC"], rates[other], strict=True))
        name = f"{what}: gRPC with mutual TLS against nginx over {other}"
        figure(BENCH, name, ours, "MB/s", reference=statistics.median(rates[other]), ratio=ratio, aim=AIM)


def _slow_links(hub: ServedHub, identity: Identity, blob: Blob, folder: Path) -> None:
    with contextlib.closing(GrpcHub(identity)) as link:
        alone = _answers(link, blob, seconds=2.0)
    before = hub.rss_bytes()
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(SlowLinks(hub.address, LINK_BYTES_PER_S).serve())
    relay = threading.Thread(target=loop.run_forever, daemon=True)
    relay.start()
    address = f"localhost:{server.sockets[0].getsockname()[1]}"
    slow = replace(identity, hub_address=address)

    def take(number: int) -> float:
        started = time.perf_counter()
        with contextlib.closing(GrpcHub(slow)) as link:
            link.download(blob, folder / f"slow-{number}")
        return time.perf_counter() - started

    with ThreadPoolExecutor(LINKS) as devices:
        taken = [devices.submit(take, number) for number in range(LINKS)]
        time.sleep(1.0)
        peak = hub.rss_bytes()
        with contextlib.closing(GrpcHub(identity)) as link:
            beside = _answers(link, blob, seconds=2.0)
        peak = max(peak, hub.rss_bytes())
        seconds = sorted(one.result() for one in taken)
    loop.call_soon_threadsafe(loop.stop)
    relay.join(10)
    ideal = blob.size_bytes / LINK_BYTES_PER_S
    figure(
        BENCH,
        f"{LINKS} slow links: the last has it",
        seconds[-1],
        "s",
        reference=ideal,
        aim="<= 1.5: all of them at their own pace",
    )
    figure(BENCH, f"{LINKS} slow links: another device's call, p95", beside * 1e3, "ms", reference=alone * 1e3)
    figure(BENCH, f"{LINKS} slow links: memory of the hub for each", (peak - before) / LINKS / 1024, "KiB")


def _answers(link: GrpcHub, blob: Blob, *, seconds: float) -> float:
    """The p95 of calls one after the other, in seconds."""
    took, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        link.locate(blob.digest, (), 0)
        took.append(time.perf_counter() - started)
    return statistics.quantiles(took, n=20)[18]


def _identity(folder: Path, authority: Authority, user: Issued, address: str) -> Identity:
    identity = Identity(
        device_id=DeviceId("bench"),
        tenant=TenantId("default"),
        board="camera-x86",
        hub_address=address,
        broker=Broker(host="localhost", port=1),
        folder=folder / "device" / identities.FOLDER,
    )
    (folder / "device").mkdir()
    pems = {"key_pem": user.key_pem.encode(), "certificate_pem": user.certificate_pem.encode()}
    return identities.save(identity, **pems, ca_pem=authority.ca_pem.encode())


if __name__ == "__main__":
    main()
