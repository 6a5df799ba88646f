"""Packages over the wire: published piece by piece, listed in pages, read by those they are for."""

import os
from typing import Any

import grpc
import pytest
from tuf.api.metadata import Metadata, Targets

from protos.contract import ids
from protos.v1 import packages_pb2 as pb
from protos.v1 import packages_pb2_grpc, twin_pb2
from tests.hub.mqtt_parts import wait_for
from tests.hub.rpc.running import RunningHub
from tests.hub.rpc.test_trust import chunks, refusal
from tests.hub.trust.test_tuf_signing import target

CONFIG, AGENT, FIRMWARE = (twin_pb2.PackageKind.Value(f"PACKAGE_KIND_{name}") for name in ("CONFIG", "AGENT", "FIRMWARE"))
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def package(data: bytes, **fields: Any) -> list[pb.PackageChunk]:
    values: dict[str, Any] = {
        "kind": FIRMWARE,
        "board": "camera-x86",
        "name": "base",
        "version": "1.0",
        "digest": ids.digest_of(data),
        "size_bytes": len(data),
    }
    pieces = [data[start : start + 100_000] for start in range(0, len(data), 100_000)]
    return [
        pb.PackageChunk(**{**values, **fields}),
        *(pb.PackageChunk(data=piece) for piece in pieces),
    ]


def test_a_package_is_kept_and_signed(hub: RunningHub) -> None:
    data = os.urandom(250_000)
    with hub.channel(hub.user) as channel:
        packages: Any = packages_pb2_grpc.PackagesStub(channel)
        first = packages.PublishPackage(iter(package(data)), timeout=20)
        again = packages.PublishPackage(iter(package(data)), timeout=20)
        hub.services.trust.tick(hub.clock.now())
        (found,) = packages.ListPackages(pb.ListPackagesRequest(), timeout=20).packages
    assert (first.release, first.signed, found.signed) == (1, False, True)
    assert first == again and found.digest == ids.digest_of(data)
    assert hub.services.artifacts.read(ids.digest(found.digest)) == data
    path = "firmware/default/base/1.0/camera-x86"
    name = f"{target(0, path=path).bin}.json"
    with hub.channel(hub.user) as channel:
        signed = [b"".join(chunks(channel, f"{number}.{name}")) for number in (1, 2)][-1]
    custom = Metadata[Targets].from_bytes(signed).signed.targets[path].custom
    assert custom == {"kind": "firmware", "boards": ["camera-x86"], "release": 1}


def test_a_package_comes_in_pages_and_counts_its_releases_by_name(hub: RunningHub) -> None:
    with hub.channel(hub.user) as channel:
        packages: Any = packages_pb2_grpc.PackagesStub(channel)
        for version in ("1", "2", "3"):
            packages.PublishPackage(iter(package(b"image " + version.encode(), name="paged", version=version)), timeout=20)
        found, token = [], ""
        while True:
            reply = packages.ListPackages(pb.ListPackagesRequest(page_size=2, page_token=token), timeout=20)
            assert len(reply.packages) <= 2
            found += [one for one in reply.packages if one.name == "paged"]
            if not (token := reply.next_page_token):
                break
    assert [(one.version, one.release) for one in found] == [("1", 1), ("2", 2), ("3", 3)]


@pytest.mark.parametrize(
    ("requests", "code"),
    [
        ([], INVALID),
        (package(b"abc", version="odd", digest=ids.digest_of(b"other")), INVALID),
        (package(b"abc", version="odd", size_bytes=2), INVALID),
        (package(b"abc", version="odd", size_bytes=4), INVALID),
        (package(b"", version="odd", size_bytes=0), INVALID),
        (package(b"abc", size_bytes=1 << 50), INVALID),
        (package(b"abc", version=".."), INVALID),
        (package(b"abc", version="a/b"), INVALID),
        (package(b"abc", name="../x"), INVALID),
        (package(b"abc", board="toaster"), INVALID),
        (package(b"abc", board=""), INVALID),
        (package(b"abc", kind=0), INVALID),
        (package(b"abc", kind=9), INVALID),
        (package(b"abc", kind=CONFIG, size_bytes=1 << 20), INVALID),
        (package(b"abc", digest="sha256:../../x"), INVALID),
        (package(b"abc", version="taken"), grpc.StatusCode.ALREADY_EXISTS),
    ],
)
def test_a_package_that_is_not_what_was_announced_leaves_nothing_behind(
    hub: RunningHub, requests: list[pb.PackageChunk], code: grpc.StatusCode
) -> None:
    with hub.channel(hub.user) as channel:
        packages: Any = packages_pb2_grpc.PackagesStub(channel)
        packages.PublishPackage(iter(package(b"first", version="taken")), timeout=20)
        before = _files(hub)
        assert refusal(lambda: packages.PublishPackage(iter(requests), timeout=20)) is code
        assert _files(hub) == before


def test_an_upload_that_breaks_off_leaves_nothing_behind(hub: RunningHub) -> None:
    def broken() -> Any:
        yield package(b"x" * 200_000)[0]
        yield package(b"x" * 200_000)[1]
        raise RuntimeError("the link broke")

    before = _files(hub)
    with hub.channel(hub.user) as channel:
        packages: Any = packages_pb2_grpc.PackagesStub(channel)
        with pytest.raises(grpc.RpcError):
            packages.PublishPackage(broken(), timeout=20)
    wait_for(lambda: _files(hub) == before, "the end of the upload")


def test_packages_are_listed_by_kind(hub: RunningHub) -> None:
    with hub.channel(hub.user) as channel:
        packages: Any = packages_pb2_grpc.PackagesStub(channel)
        for kind in (CONFIG, AGENT, FIRMWARE):
            packages.PublishPackage(iter(package(b"%d" % kind, kind=kind, name="sorted")), timeout=20)
        for kind in (CONFIG, AGENT, FIRMWARE):
            found = packages.ListPackages(pb.ListPackagesRequest(kind=kind), timeout=20).packages
            assert {one.kind for one in found} == {kind} and "sorted" in {one.name for one in found}
        assert refusal(lambda: packages.ListPackages(pb.ListPackagesRequest(kind=9), timeout=20)) is INVALID


def _files(hub: RunningHub) -> set[str]:
    return {str(path) for path in (hub.config.data_dir / "artifacts").rglob("*") if path.is_file()}
