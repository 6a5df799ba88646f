"""Where devices are sent for a blob: a web server that shows its folder, copies of it, or an object store's signed URLs."""

import os
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_hub.core.config import ArtifactsConfig
from cloud_hub.core.errors import Invalid
from cloud_hub.services.deltas import DeltaService
from cloud_hub.services.sources import DELTAS, SourceService
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.web import open_web
from edge_agent.core.errors import ConfigError
from protos.contract.ids import Digest
from protos.contract.sources import Encoding
from tests.hub.fleet_parts import ADMIN, Hub

BUCKET = "blobs"


@pytest.fixture
def hub(tmp_path: Path, database_url: str) -> Iterator[Hub]:
    hub = Hub(tmp_path, database_url=database_url)
    yield hub
    hub.db.close()


def service(hub: Hub, config: ArtifactsConfig) -> SourceService:
    folder = hub.folder / "artifacts"
    deltas = DeltaService(hub.db, hub.artifacts, ArtifactStore(folder / DELTAS), config, hub.clock)
    return SourceService(hub.db, hub.registry, hub.artifacts, deltas, open_web(config, folder), hub.clock)


def published(hub: Hub) -> tuple[Digest, bytes]:
    digest = hub.publish("onnx-int8").variants[0].artifact_digest
    return digest, hub.artifacts.read(digest)


def test_without_a_web_there_is_the_hub(hub: Hub) -> None:
    digest, _ = published(hub)
    assert service(hub, ArtifactsConfig()).locate(ADMIN, digest, [], 0) == []


@pytest.mark.parametrize("base", ["https://blobs.example/tideline", "https://blobs.example/tideline/"])
def test_a_folder_that_is_shown_has_everything_at_once(hub: Hub, base: str) -> None:
    digest, data = published(hub)
    (source,) = service(hub, ArtifactsConfig(url=base)).locate(ADMIN, digest, [], 0)
    hexadecimal = digest.removeprefix("sha256:")
    assert source.url == f"https://blobs.example/tideline/sha256/{hexadecimal[:2]}/{hexadecimal}"
    assert (source.encoding, source.base, source.blob.digest, source.blob.size_bytes) == (
        Encoding.WHOLE,
        None,
        digest,
        len(data),
    )


def test_copies_are_named_once_they_are_there_and_anybody_may_read_them(hub: Hub, tmp_path: Path) -> None:
    copies = tmp_path / "srv" / "blobs"
    ways = service(hub, ArtifactsConfig(url="https://blobs.example", copies=f"file://{copies}"))
    digest, data = published(hub)
    assert ways.locate(ADMIN, digest, [], 0) == []
    ways.tick(hub.clock.now())
    (source,) = ways.locate(ADMIN, digest, [], 0)
    copy = copies / source.url.removeprefix("https://blobs.example/")
    assert copy.read_bytes() == data
    assert copy.stat().st_mode & 0o777 == 0o644


def test_a_copy_that_fails_is_tried_again_and_holds_up_no_other(hub: Hub, tmp_path: Path) -> None:
    ways = service(hub, ArtifactsConfig(url="https://blobs.example", copies=str(tmp_path / "copies")))
    lost, _ = published(hub)
    path = hub.folder / "artifacts" / hub.artifacts.path(lost)
    ways.locate(ADMIN, lost, [], 0)
    path.rename(path.with_name("moved"))
    other, _ = published(hub)
    for _ in range(3):
        hub.clock.advance(1)
        ways.locate(ADMIN, other, [], 0)
        ways.tick(hub.clock.now())
    assert ways.locate(ADMIN, other, [], 0) != []
    path.with_name("moved").rename(path)
    ways.tick(hub.clock.now())
    assert ways.locate(ADMIN, lost, [], 0) != []


@pytest.fixture(scope="module")
def s3() -> Iterator[Mapping[str, Any]]:
    moto = pytest.importorskip("moto.server", reason="moto[server] is not installed: pip install 'tideline[dev]'")
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'tideline[s3]'")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"endpoint_url": f"http://{host}:{port}", "key": "key", "secret": "secret"}
    s3fs.S3FileSystem(**options).mkdir(BUCKET)
    yield options
    server.stop()


def test_an_object_store_signs_urls_that_do_ranges(hub: Hub, s3: Mapping[str, Any], tmp_path: Path) -> None:
    copies = f"s3://{BUCKET}/{tmp_path.name}-{os.getpid()}"
    ways = service(hub, ArtifactsConfig(copies=copies, storage_options=dict(s3), signed_s=900))
    digest, data = published(hub)
    assert ways.locate(ADMIN, digest, [], 0) == []
    ways.tick(hub.clock.now())
    (source,) = ways.locate(ADMIN, digest, [], 0)
    assert source.url.startswith(s3["endpoint_url"]) and "ignature" in source.url and "secret" not in source.url
    request = urllib.request.Request(source.url, headers={"Range": "bytes=5-"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        assert (reply.status, reply.read()) == (206, data[5:])


def test_a_store_with_an_address_of_its_own_is_not_signed_for(hub: Hub, s3: Mapping[str, Any], tmp_path: Path) -> None:
    copies = f"s3://{BUCKET}/{tmp_path.name}-cdn-{os.getpid()}"
    ways = service(hub, ArtifactsConfig(copies=copies, storage_options=dict(s3), url="https://cdn.example/"))
    digest, _ = published(hub)
    ways.locate(ADMIN, digest, [], 0)
    ways.tick(hub.clock.now())
    (source,) = ways.locate(ADMIN, digest, [], 0)
    assert source.url == f"https://cdn.example/{hub.artifacts.path(digest)}"


@pytest.mark.parametrize(
    "config",
    [
        ArtifactsConfig(url="ftp://blobs.example"),
        ArtifactsConfig(url="blobs.example"),
        ArtifactsConfig(copies="/srv/blobs"),
        ArtifactsConfig(copies="nosuch://bucket"),
    ],
    ids=["ftp", "no scheme", "a folder nobody shows", "an unknown store"],
)
def test_what_cannot_work_is_refused_when_the_hub_starts(config: ArtifactsConfig, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="artifacts"):
        open_web(config, tmp_path)


@pytest.mark.parametrize("wrong", [{"signed_s": 5}, {"signed_s": 1 << 30}, {"max_delta_bytes": -1}])
def test_bounds_of_the_configuration_are_checked(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="artifacts"):
        replace(ArtifactsConfig(), **wrong)  # type: ignore[arg-type]
