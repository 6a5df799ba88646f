"""How a blob gets from the hub to a device: a delta where both know its base, the web where the hub names it, else the hub."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cloud_hub.core.config import ArtifactsConfig
from cloud_hub.core.model import ModelVersion
from cloud_hub.store.web import open_web
from edge_agent.sync import identity as identities
from edge_agent.sync.hub import GrpcHub
from edge_agent.sync.identity import Broker, Identity
from edge_agent.update.obtain import Obtainer
from protos.contract.ids import DeviceId, TenantId
from protos.contract.manifest import MIN_CHUNK_BYTES, Blob, Chunks
from protos.contract.sources import Encoding
from protos.contract.twin import Health, ReportedTwin
from tests.agent.sync.broker import free_port
from tests.hub.rpc.running import ADMIN, RunningHub

DEVICE = "cam-1"


def model(seed: int, size: int = 400_000) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes(byte ^ 1 for byte in data[at : at + 2000]) + data[at + 2000 :]


def runs(hub: RunningHub, version: ModelVersion) -> None:
    """The device says so."""
    now = hub.clock.now()
    assignment = hub.services.fleet.get(ADMIN, DeviceId(DEVICE)).desired.model
    assert assignment is not None and assignment.version == version.version
    said = ReportedTwin(
        generation=1,
        boot_id="b1",
        agent_version="1",
        board="camera-x86",
        at=now,
        health=Health(started_at=now),
        runtimes=("onnx",),
        model=assignment,
    )
    with hub.db.write() as tx:
        hub.services.fleet.on_reported(tx, TenantId("default"), DeviceId(DEVICE), said)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[RunningHub]:
    running = RunningHub(tmp_path / "hub")
    yield running
    running.close()


def identity_of(hub: RunningHub, folder: Path) -> Identity:
    issued = hub.device(DEVICE)
    return identities.save(
        Identity(
            device_id=DeviceId(DEVICE),
            tenant=TenantId("default"),
            board="camera-x86",
            hub_address=hub.address,
            broker=Broker(host="localhost", port=1),
            folder=folder / identities.FOLDER,
        ),
        key_pem=issued.key_pem.encode(),
        certificate_pem=issued.certificate_pem.encode(),
        ca_pem=hub.authority.ca_pem.encode(),
    )


@pytest.fixture
def device(hub: RunningHub, tmp_path: Path) -> Iterator[GrpcHub]:
    (tmp_path / "device").mkdir()
    link = GrpcHub(identity_of(hub, tmp_path / "device"), total_timeout_s=60)
    yield link
    link.close()


def obtainer(memory_bytes: int = 64 << 20) -> Obtainer:
    return Obtainer(free_bytes=lambda _: 1 << 30, reserve_bytes=0, delta_memory_bytes=memory_bytes)


class Counted:
    """A link that counts what was downloaded."""

    def __init__(self, link: GrpcHub) -> None:
        self._link = link
        self.bytes = 0
        self.urls: list[str] = []
        self.from_hub = 0  # bytes that were missing when the hub was asked

    def __getattr__(self, name: str) -> object:
        return getattr(self._link, name)

    def download(self, blob: Blob, path: Path, *, chunks: Chunks | None = None, url: str = "") -> None:
        self.bytes += blob.size_bytes
        self.urls.append(url)
        part = path.with_name(path.name + ".part")
        if not url:
            self.from_hub += blob.size_bytes - (part.stat().st_size if part.exists() else 0)
        self._link.download(blob, path, chunks=chunks, url=url)


def test_the_next_version_comes_as_a_delta_once_the_hub_has_made_it(hub: RunningHub, device: GrpcHub, tmp_path: Path) -> None:
    old, new = model(1), changed(model(1), 100_000)
    first = hub.publish("signs", artifact=old)
    hub.assign(DEVICE, first)
    slots = [tmp_path / name for name in "ab"]
    for slot in slots:
        slot.mkdir()
    base, target = (slot / "model.bin" for slot in slots)
    link = Counted(device)
    whole = Blob(digest=first.variants[0].artifact_digest, size_bytes=len(old))
    obtainer().obtain(link, whole, base, bases=[target])
    assert (base.read_bytes(), link.bytes) == (old, len(old))

    second = hub.publish("signs", artifact=new)
    hub.services.deltas.tick(hub.clock.now())  # one for the model, one for the golden set
    hub.services.deltas.tick(hub.clock.now())
    runs(hub, first)
    hub.assign(DEVICE, second)
    link.bytes = 0
    blob = Blob(digest=second.variants[0].artifact_digest, size_bytes=len(new))
    obtainer().obtain(link, blob, target, chunks=Chunks.of(new, MIN_CHUNK_BYTES), bases=[base])
    assert target.read_bytes() == new
    assert 0 < link.bytes < 0.1 * len(new)
    assert sorted(path.name for path in slots[1].iterdir()) == ["model.bin"]
    (delta, *_) = device.locate(blob.digest, [whole.digest], 64 << 20)
    assert delta.encoding is not Encoding.WHOLE and delta.base == whole.digest


@pytest.fixture
def nginx(hub: RunningHub, tmp_path: Path) -> Iterator[str]:
    """Shows the hub's artifact folder over HTTPS, with a certificate of the hub's authority."""
    binary = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if binary is None:
        pytest.skip("no nginx on this machine")
    home, port = tmp_path / "nginx", free_port()
    home.mkdir()
    issued = hub.authority.issue_server(["localhost"])
    (home / "key.pem").write_text(issued.key_pem)
    (home / "cert.pem").write_text(issued.certificate_pem)
    temporary = " ".join(f"{kind}_temp_path {home};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (home / "nginx.conf").write_text(
        f"{'user root;' if os.geteuid() == 0 else ''} daemon off; pid {home}/pid; error_log {home}/error.log; events {{}}"
        f" http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port} ssl; root {hub.config.data_dir}/artifacts;"
        f" ssl_certificate {home}/cert.pem; ssl_certificate_key {home}/key.pem; }} }}"
    )
    process = subprocess.Popen([binary, "-p", str(home), "-c", str(home / "nginx.conf")], stderr=subprocess.DEVNULL)
    wait_for_port(port)
    yield f"https://localhost:{port}/"
    process.terminate()
    process.wait(10)


def test_where_the_hub_names_a_web_server_everything_comes_from_there(
    hub: RunningHub, device: GrpcHub, nginx: str, tmp_path: Path
) -> None:
    show(hub, nginx)
    old, new = model(1), changed(model(1), 100_000)
    first = hub.publish("signs", artifact=old)
    hub.assign(DEVICE, first)
    base, target = tmp_path / "a", tmp_path / "b"
    link = Counted(device)
    blob = Blob(digest=first.variants[0].artifact_digest, size_bytes=len(old))
    base.with_name("a.part").write_bytes(old[: MIN_CHUNK_BYTES + 5])  # left by a try over gRPC: the web goes on from there
    obtainer().obtain(link, blob, base, chunks=Chunks.of(old, MIN_CHUNK_BYTES))
    assert base.read_bytes() == old and [url.startswith(nginx) for url in link.urls] == [True]
    second = hub.publish("signs", artifact=new)
    for _ in range(3):
        hub.services.deltas.tick(hub.clock.now())
    runs(hub, first)
    hub.assign(DEVICE, second)
    link.urls.clear()
    obtainer().obtain(link, Blob(digest=second.variants[0].artifact_digest, size_bytes=len(new)), target, bases=[base])
    assert target.read_bytes() == new
    assert [url.startswith(f"{nginx}deltas/sha256/") for url in link.urls] == [True]


def test_where_the_web_server_has_other_bytes_the_hub_makes_up_for_it(
    hub: RunningHub, device: GrpcHub, nginx: str, tmp_path: Path
) -> None:
    show(hub, f"{nginx}elsewhere/")
    data = model(1)
    version = hub.publish("signs", artifact=data)
    hub.assign(DEVICE, version)
    digest = version.variants[0].artifact_digest
    wrong = hub.config.data_dir / "artifacts" / "elsewhere" / hub.services.artifacts.path(digest)
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(data[:200_000] + b"!" + data[200_001:])
    link, path = Counted(device), tmp_path / "model.bin"
    obtainer().obtain(link, Blob(digest=digest, size_bytes=len(data)), path, chunks=Chunks.of(data, MIN_CHUNK_BYTES))
    assert path.read_bytes() == data
    assert [bool(url) for url in link.urls] == [True, False]
    assert link.from_hub == len(data) - MIN_CHUNK_BYTES  # the first chunk was good


def show(hub: RunningHub, url: str) -> None:
    """As ``artifacts.url`` would have it."""
    hub.services.sources._web = open_web(ArtifactsConfig(url=url), hub.config.data_dir / "artifacts")


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "nginx does not listen"
            time.sleep(0.02)
