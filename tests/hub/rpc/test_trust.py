"""Metadata and what is to run, over the wire, as a device and as an admin get them."""

import os
from pathlib import Path
from typing import Any

import grpc
import pytest
from tuf.api.metadata import Metadata, Targets

from cloud_hub.core.targets import DIRECTOR, IMAGE
from cloud_hub.rpc.trust import CHUNK_BYTES
from protos.v1 import trust_pb2 as pb
from protos.v1 import trust_pb2_grpc
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
