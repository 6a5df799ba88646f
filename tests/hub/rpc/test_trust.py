"""Metadata and what is to run, over the wire, as a device and as an admin get them."""

import os
from pathlib import Path
from typing import Any

import grpc
import pytest
from tuf.api.metadata import Metadata, Targets

from cloud_hub.core.targets import DIRECTOR, IMAGE
from cloud_hub.rpc.trust import CHUNK_BYTES
from protos.contract import ids
from protos.v1 import registry_pb2, registry_pb2_grpc, trust_pb2_grpc
from protos.v1 import trust_pb2 as pb
from tests.hub.rpc.running import RunningHub
from tests.hub.trust.test_tuf_signing import target
from tests.hub.trust_parts import Holders, root_key

IMAGE_PB, DIRECTOR_PB = pb.REPOSITORY_IMAGE, pb.REPOSITORY_DIRECTOR


def stub(channel: grpc.Channel) -> Any:
    return trust_pb2_grpc.TrustStub(channel)


def chunks(channel: grpc.Channel, name: str, repository: Any = IMAGE_PB) -> list[bytes]:
    request = pb.GetMetadataRequest(repository=repository, name=name)
    return [chunk.data for chunk in stub(channel).GetMetadata(request, timeout=20)]


def refusal(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    return refused.value.code()


def test_a_device_is_given_metadata_as_it_was_signed(hub: RunningHub) -> None:
    hub.publish("wire")
    with hub.channel(hub.device("cam-wire")) as channel:
        for repository, number, name in ((IMAGE, IMAGE_PB, "timestamp.json"), (DIRECTOR, DIRECTOR_PB, "1.root.json")):
            assert b"".join(chunks(channel, name, number)) == hub.services.trust.metadata(repository, name)
        for name in ("2.root.json", "../hub.key", "", "x" * 100_000):
            assert refusal(lambda name=name: chunks(channel, name)) is grpc.StatusCode.NOT_FOUND
        assert refusal(lambda: chunks(channel, "1.root.json", pb.REPOSITORY_UNSPECIFIED)) is grpc.StatusCode.INVALID_ARGUMENT


def test_large_metadata_comes_in_small_pieces(hub: RunningHub) -> None:
    from cloud_hub.store import targets

    crowded = [one for one in map(target, range(100_000)) if one.bin == target(0).bin]
    with hub.db.write() as tx:
        targets.add(tx, crowded, hub.clock.now())
    hub.services.trust.tick(hub.clock.now())
    with hub.channel(hub.user) as channel:
        version = next(
            number
            for number in range(2, 20)
            if target(0).path.encode() in b"".join(chunks(channel, f"{number}.{target(0).bin}.json"))
        )
        pieces = chunks(channel, f"{version}.{target(0).bin}.json")
    assert len(pieces) > 1 and {len(piece) for piece in pieces[:-1]} == {CHUNK_BYTES}
    metadata: Metadata[Targets] = Metadata.from_bytes(b"".join(pieces))
    assert len(metadata.signed.targets) >= len(crowded)


def test_a_device_gets_its_own_director_metadata_with_its_nonce(hub: RunningHub) -> None:
    version, nonce = hub.publish("directed"), os.urandom(16)
    with hub.channel(hub.device("cam-directed")) as channel:
        hub.assign("cam-directed", version)
        reply = stub(channel).GetDirector(pb.GetDirectorRequest(nonce=nonce), timeout=20)
        metadata: Metadata[Targets] = Metadata.from_bytes(reply.metadata)
        for wrong in (b"", b"x" * 15, b"x" * 33):
            call = pb.GetDirectorRequest(nonce=wrong)
            assert refusal(lambda call=call: stub(channel).GetDirector(call, timeout=20)) is grpc.StatusCode.INVALID_ARGUMENT
    about = metadata.signed.unrecognized_fields["tideline"]
    assert (about["device"], about["nonce"]) == ("cam-directed", nonce.hex())
    assert {path.split("/")[2] for path in metadata.signed.targets} == {"directed"}


def test_an_admin_sees_what_is_in_force(hub: RunningHub) -> None:
    with hub.channel(hub.user) as channel:
        status = stub(channel).GetTrust(pb.GetTrustRequest(), timeout=20)
    roles = {(one.repository, one.role): one for one in status.roles}
    assert set(roles) == {(IMAGE_PB, name) for name in ("root", "timestamp", "snapshot", "targets", "bins")} | {
        (DIRECTOR_PB, "root"),
        (DIRECTOR_PB, "targets"),
    }
    assert (roles[IMAGE_PB, "root"].threshold, len(roles[IMAGE_PB, "root"].key_ids)) == (2, 3)
    assert status.problem == "" and status.waiting == 0


def test_roots_and_keys_go_over_the_wire(tmp_path: Path) -> None:
    hub = RunningHub(tmp_path)
    with hub.channel(hub.user) as channel:
        trust = stub(channel)
        reply = trust.PrepareKeys(pb.PrepareKeysRequest(roles=[pb.OnlineKey(repository=IMAGE_PB, role="bins")]), timeout=20)
        assert len(reply.keys) == 5 and {len(key.public_key) for key in reply.keys} == {32}
        assert reply.image_root == hub.services.trust.metadata(IMAGE, "1.root.json")
        unknown = pb.PrepareKeysRequest(roles=[pb.OnlineKey(repository=DIRECTOR_PB, role="bins")])
        assert refusal(lambda: trust.PrepareKeys(unknown, timeout=20)) is grpc.StatusCode.INVALID_ARGUMENT
        strangers = Holders(hub.services.trust, [root_key() for _ in range(3)])
        image, director = strangers.drafts(hub.clock.now())
        for draft in (image, director):
            draft.sign(strangers.signers)
        put = pb.PutRootRequest(image_root=image.root.to_bytes(), director_root=director.root.to_bytes())
        assert refusal(lambda: trust.PutRoot(put, timeout=20)) is grpc.StatusCode.INVALID_ARGUMENT
        huge = pb.PutRootRequest(image_root=b" " * 1_000_000)
        assert refusal(lambda: trust.PutRoot(huge, timeout=20)) is grpc.StatusCode.INVALID_ARGUMENT
        old = pb.PutRootRequest(image_root=reply.image_root)
        assert refusal(lambda: trust.PutRoot(old, timeout=20)) is grpc.StatusCode.ALREADY_EXISTS
    hub.close()


# -- firmware -----------------------------------------------------------------------------------------------------------


def firmware(data: bytes, **fields: Any) -> list[registry_pb2.FirmwareChunk]:
    values = {"board": "camera-x86", "name": "base", "version": "1.0", "digest": ids.digest_of(data), "size_bytes": len(data)}
    pieces = [data[start : start + 100_000] for start in range(0, len(data), 100_000)]
    return [
        registry_pb2.FirmwareChunk(**{**values, **fields}),
        *(registry_pb2.FirmwareChunk(data=piece) for piece in pieces),
    ]


def test_firmware_is_kept_and_signed(hub: RunningHub) -> None:
    data = os.urandom(250_000)
    with hub.channel(hub.user) as channel:
        registry: Any = registry_pb2_grpc.RegistryStub(channel)
        first = registry.PublishFirmware(iter(firmware(data)), timeout=20)
        again = registry.PublishFirmware(iter(firmware(data)), timeout=20)
        hub.services.trust.tick(hub.clock.now())
        (found,) = registry.ListFirmware(registry_pb2.ListFirmwareRequest(), timeout=20).firmware
    assert (first.release, first.signed, found.signed) == (1, False, True)
    assert first == again and found.digest == ids.digest_of(data)
    assert hub.services.artifacts.read(ids.digest(found.digest)) == data
    path = "firmware/default/camera-x86/base/1.0"
    name = f"{target(0, path=path).bin}.json"
    with hub.channel(hub.user) as channel:
        signed = [b"".join(chunks(channel, f"{number}.{name}")) for number in (1, 2)][-1]
    custom = Metadata[Targets].from_bytes(signed).signed.targets[path].custom
    assert custom == {"kind": "firmware", "boards": ["camera-x86"], "release": 1}


def test_firmware_comes_in_pages_and_counts_its_releases_by_name(hub: RunningHub) -> None:
    with hub.channel(hub.user) as channel:
        registry: Any = registry_pb2_grpc.RegistryStub(channel)
        for version in ("1", "2", "3"):
            registry.PublishFirmware(iter(firmware(b"image " + version.encode(), name="paged", version=version)), timeout=20)
        found, token = [], ""
        while True:
            reply = registry.ListFirmware(registry_pb2.ListFirmwareRequest(page_size=2, page_token=token), timeout=20)
            assert len(reply.firmware) <= 2
            found += [one for one in reply.firmware if one.name == "paged"]
            if not (token := reply.next_page_token):
                break
    assert [(one.version, one.release) for one in found] == [("1", 1), ("2", 2), ("3", 3)]


@pytest.mark.parametrize(
    ("requests", "code"),
    [
        ([], grpc.StatusCode.INVALID_ARGUMENT),
        (firmware(b"abc", version="odd", digest=ids.digest_of(b"other")), grpc.StatusCode.INVALID_ARGUMENT),
        (firmware(b"abc", version="odd", size_bytes=2), grpc.StatusCode.INVALID_ARGUMENT),
        (firmware(b"abc", version="odd", size_bytes=4), grpc.StatusCode.INVALID_ARGUMENT),
        (firmware(b"", version="odd", size_bytes=0), grpc.StatusCode.INVALID_ARGUMENT),
        (firmware(b"abc", size_bytes=1 << 50), grpc.StatusCode.INVALID_ARGUMENT),
        (firmware(b"abc", version=".."), grpc.StatusCode.INVALID_ARGUMENT),
        (firmware(b"abc", version="a/b"), grpc.StatusCode.INVALID_ARGUMENT),
        (firmware(b"abc", name="../x"), grpc.StatusCode.INVALID_ARGUMENT),
        (firmware(b"abc", board="toaster"), grpc.StatusCode.INVALID_ARGUMENT),
        (firmware(b"abc", digest="sha256:../../x"), grpc.StatusCode.INVALID_ARGUMENT),
        (firmware(b"abc", version="taken"), grpc.StatusCode.ALREADY_EXISTS),
    ],
)
def test_firmware_that_is_not_what_was_announced_leaves_nothing_behind(
    hub: RunningHub, requests: list[registry_pb2.FirmwareChunk], code: grpc.StatusCode
) -> None:
    with hub.channel(hub.user) as channel:
        registry: Any = registry_pb2_grpc.RegistryStub(channel)
        registry.PublishFirmware(iter(firmware(b"first", version="taken")), timeout=20)
        before = _files(hub)
        assert refusal(lambda: registry.PublishFirmware(iter(requests), timeout=20)) is code
        assert _files(hub) == before


def test_an_upload_that_breaks_off_leaves_nothing_behind(hub: RunningHub) -> None:
    def broken() -> Any:
        yield firmware(b"x" * 200_000)[0]
        yield firmware(b"x" * 200_000)[1]
        raise RuntimeError("the link broke")

    before = _files(hub)
    with hub.channel(hub.user) as channel:
        registry: Any = registry_pb2_grpc.RegistryStub(channel)
        with pytest.raises(grpc.RpcError):
            registry.PublishFirmware(broken(), timeout=20)
    _wait(lambda: _files(hub) == before)


def _files(hub: RunningHub) -> set[str]:
    return {str(path) for path in (hub.config.data_dir / "artifacts").rglob("*") if path.is_file()}


def _wait(condition: Any) -> None:
    from tests.hub.mqtt_parts import wait_for

    wait_for(condition, "the end of the upload")
