"""What the download bench measures against: a hub in a process of its own, nginx on its files, and a slow link."""

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from cloud_hub.app import bootstrap
from cloud_hub.core.config import GrpcConfig, HubConfig
from cloud_hub.core.model import DEFAULT_TENANT, Baseline, ModelVersion, Role, Variant
from cloud_hub.core.ports import BrokerAddress
from cloud_hub.rpc.server import build_server
from cloud_hub.services.users import recorded
from cloud_hub.store import certificates, users
from cloud_hub.store import registry as store
from cloud_hub.store.database import Database
from cloud_hub.trust.authority import Authority, Issued
from edge_agent.core.clock import SystemClock
from protos.contract import codec
from protos.contract.ids import ModelName, digest_of
from protos.contract.manifest import Blob, Chunks
from scripts.benches._networks import manifest_for

START_S = 30.0


def main() -> None:
    """``FOLDER``: serve its hub until the standard input ends."""
    asyncio.run(_serve(Path(sys.argv[1])))


async def _serve(folder: Path) -> None:
    config, clock = _config(folder), SystemClock()
    db, authority = Database(f"sqlite:///{folder / 'hub.db'}"), Authority.load(folder / "ca", clock=clock)
    services = bootstrap.make_services(config, db, authority, clock)
    broker = BrokerAddress(host="localhost", port=8883, protocol=5)
    server = build_server(services, authority=authority, broker=broker, config=config.grpc, clock=clock)
    await server.start()
    print(json.dumps(server.addresses.hub), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(0.2)


def _config(folder: Path) -> HubConfig:
    return HubConfig(data_dir=folder, grpc=GrpcConfig(port=0, enroll_port=0, token_port=0))


def prepare(folder: Path, blobs: list[bytes]) -> tuple[Authority, Issued, list[Blob], list[Chunks]]:
    """A hub with these models, and a user who may read them."""
    authority, clock = Authority.create(folder / "ca"), SystemClock()
    db = Database(f"sqlite:///{folder / 'hub.db'}")
    db.migrate()
    user = authority.sign_user("bench")
    with db.write() as tx:
        users.add(tx, DEFAULT_TENANT, "bench", Role.ADMIN, clock.now())
        certificates.add(tx, recorded(user.certificate_pem, DEFAULT_TENANT, "bench"))
    services = bootstrap.make_services(_config(folder), db, authority, clock)
    published, chunks = [], []
    for number, data in enumerate(blobs):
        manifest = codec.encode_manifest(manifest_for(data, side=32))
        name = ModelName(f"blob-{number}")
        variant = Variant(
            target="onnx-fp32",
            manifest_digest=services.artifacts.put(manifest),
            manifest_size_bytes=len(manifest),
            artifact_digest=services.artifacts.put(data),
            artifact_size_bytes=len(data),
            golden_digest=services.artifacts.put(b"-"),
            score=1.0,
            metric="accuracy",
            latency_p50_ms=1.0,
            output_error=0.0,
        )
        _publish(db, name, variant)
        published.append(Blob(digest=digest_of(data), size_bytes=len(data)))
        chunks.append(Chunks.of(data, 128 << 10))
    db.close()
    return authority, user, published, chunks


def _publish(db: Database, name: ModelName, variant: Variant) -> None:
    """Straight into the store: the manifest names another model, which the registry would rightly refuse."""
    clock = SystemClock()
    baseline = Baseline(labels=("a", "b"), label_share=(0.5, 0.5), confidence_share=(0.1,) * 10, confidence_mean=0.9, samples=1)
    with db.write() as tx:
        number = store.reserve(tx, DEFAULT_TENANT, name, clock.now())
        store.add_version(
            tx,
            DEFAULT_TENANT,
            ModelVersion(
                name=name,
                version=number,
                task="image-classification",
                variants=(variant,),
                baseline=baseline,
                report={},
                job_id="",
                created_at=clock.now(),
                aliases=(),
            ),
        )


class ServedHub:
    """The hub's process."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "scripts.benches._blobs", str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.address: str = json.loads(self._process.stdout.readline())

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def rss_bytes(self) -> int:
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * 4096

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(START_S)


@contextlib.contextmanager
def nginx(folder: Path, authority: Authority) -> Iterator[tuple[str, str]]:
    """(HTTP, HTTPS) URLs of the hub's artifact folder."""
    binary = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if binary is None:
        raise SystemExit("no nginx on this machine: install it, there is nothing to compare with")
    home = folder / "nginx"
    home.mkdir()
    issued = authority.issue_server(["localhost"])
    (home / "key.pem").touch(mode=0o600)
    (home / "key.pem").write_text(issued.key_pem)
    (home / "cert.pem").write_text(issued.certificate_pem)
    plain, tls = _free_port(), _free_port()
    (home / "nginx.conf").write_text(f"""
user root;
worker_processes 1;
daemon off;
pid {home}/pid;
error_log {home}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  sendfile on;
  client_body_temp_path {home}; proxy_temp_path {home}; fastcgi_temp_path {home}; uwsgi_temp_path {home}; scgi_temp_path {home};
  server {{
    listen 127.0.0.1:{plain};
    listen 127.0.0.1:{tls} ssl;
    ssl_certificate {home}/cert.pem;
    ssl_certificate_key {home}/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
    root {folder}/artifacts;
  }}
}}
""")
    process = subprocess.Popen([binary, "-p", str(home), "-c", str(home / "nginx.conf")], stderr=subprocess.DEVNULL)
    try:
        for port in (plain, tls):
            _wait(port)
        yield f"http://localhost:{plain}", f"https://localhost:{tls}"
    finally:
        process.terminate()
        process.wait(10)


class SlowLinks:
    """A relay before the hub; each connection gets ``bytes_per_s`` from it. Runs in a loop of its own, in this thread."""

    def __init__(self, hub: str, bytes_per_s: int) -> None:
        host, _, port = hub.rpartition(":")
        self._hub, self._rate = (host, int(port)), bytes_per_s

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=16 << 10)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = socket.socket()
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)  # what the link cannot take stays with the hub
        own.setblocking(False)
        await asyncio.get_running_loop().sock_connect(own, ("127.0.0.1", self._hub[1]))
        back, forth = await asyncio.open_connection(sock=own, limit=16 << 10)
        pumps = [asyncio.ensure_future(_pump(reader, forth, 0)), asyncio.ensure_future(_pump(back, writer, self._rate))]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        forth.close()
        writer.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, rate: int) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(4 << 10):
            sink.write(data)
            await sink.drain()
            if rate:
                await asyncio.sleep(len(data) / rate)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait(port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


if __name__ == "__main__":
    main()
