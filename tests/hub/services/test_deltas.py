"""Deltas on the hub: made beside the request path, told to who may read both blobs, and never in the way of the whole."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import firmware_images
from cloud_hub.core.config import ArtifactsConfig
from cloud_hub.core.errors import NotFound
from cloud_hub.core.model import Principal, Role
from cloud_hub.delta import encode
from cloud_hub.services import deltas as module
from cloud_hub.services.deltas import DeltaService
from cloud_hub.services.sources import DELTAS, SourceService
from cloud_hub.store import deltas as store
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.deltas import DeltaState
from edge_agent.core import delta as decoder
from protos.contract import codec
from protos.contract.ids import Digest, ModelName, digest_of
from protos.contract.manifest import Blob
from protos.contract.sources import Encoding
from protos.contract.update import UpdateState
from protos.v1 import artifacts_pb2
from tests.hub.fleet_parts import ADMIN, SIGNS, STRANGER, Device, Hub

MEMORY = 64 << 20
OLD = np.random.default_rng(0).bytes(100_000)
NEW = OLD[:50_000] + b"new" + OLD[50_000:]
OTHER = np.random.default_rng(1).bytes(100_000)


@pytest.fixture
def hub(tmp_path: Path, database_url: str) -> Iterator[Hub]:
    hub = Hub(tmp_path, database_url=database_url)
    yield hub
    hub.db.close()


def service(hub: Hub, **config: int) -> DeltaService:
    kept = ArtifactStore(hub.folder / "artifacts" / DELTAS)
    return DeltaService(hub.db, hub.artifacts, kept, replace(ArtifactsConfig(), **config), hub.clock)


def sources(hub: Hub, deltas: DeltaService) -> SourceService:
    return SourceService(hub.db, hub.registry, hub.artifacts, deltas, None, hub.clock)


def publish(hub: Hub, data: bytes, *, name: str = SIGNS) -> Digest:
    """A version whose only file is ``data``."""
    number = hub.registry.reserve(ModelName(name))
    made = hub.unpublished(number, "onnx-int8", name=name)
    variant = made.variants[0]
    manifest = codec.decode_manifest(hub.artifacts.read(variant.manifest_digest))
    digest = hub.artifacts.put(data)
    encoded = codec.encode_manifest(replace(manifest, artifact=Blob(digest=digest, size_bytes=len(data))))
    hub.registry.publish(
        replace(
            made,
            variants=(
                replace(
                    variant,
                    manifest_digest=hub.artifacts.put(encoded),
                    manifest_size_bytes=len(encoded),
                    artifact_digest=digest,
                    artifact_size_bytes=len(data),
                ),
            ),
        )
    )
    hub.sign()
    return digest


def work_off(hub: Hub, deltas: DeltaService) -> None:
    for _ in range(20):
        deltas.tick(hub.clock.now())


def row(hub: Hub, base: Digest, target: Digest) -> store.DeltaRow:
    with hub.db.read() as tx:
        (found,) = store.between(tx, [base], target)
    return found


def test_a_new_version_is_encoded_from_the_one_before_it_without_being_asked(hub: Hub) -> None:
    deltas = service(hub)
    old, new = publish(hub, OLD), publish(hub, NEW)
    work_off(hub, deltas)
    (source,) = deltas.sources(new, [old], MEMORY)
    data = deltas.blobs.read(source.blob.digest)
    assert (source.base, len(data)) == (old, source.blob.size_bytes) and len(data) < 1000
    assert b"".join(decoder.decode(source.encoding, OLD, data, len(NEW), source.decode_bytes)) == NEW


def test_what_devices_ask_for_is_made_after_they_asked(hub: Hub) -> None:
    deltas = service(hub)
    old, new = hub.artifacts.put(OLD), hub.artifacts.put(NEW)
    assert deltas.sources(new, [old], MEMORY) == []
    work_off(hub, deltas)
    assert [source.base for source in deltas.sources(new, [old], MEMORY)] == [old]
    assert deltas.sources(new, [], MEMORY) == deltas.sources(new, [old], 0) == []


def test_only_deltas_that_fit_in_the_devices_memory_are_told(hub: Hub) -> None:
    deltas = service(hub)
    old, new = hub.artifacts.put(OLD), hub.artifacts.put(NEW)
    deltas.sources(new, [old], MEMORY)
    work_off(hub, deltas)
    (source,) = deltas.sources(new, [old], MEMORY)
    assert deltas.sources(new, [old], source.decode_bytes - 1) == []
    assert deltas.sources(new, [old], source.decode_bytes) == [source]


def test_the_smallest_comes_first(hub: Hub) -> None:
    deltas = service(hub)
    near, far = hub.artifacts.put(NEW[:-1]), hub.artifacts.put(OLD[:60_000])
    new = hub.artifacts.put(NEW)
    deltas.sources(new, [far, near], MEMORY)
    work_off(hub, deltas)
    assert [source.base for source in deltas.sources(new, [far, near], MEMORY)] == [near, far]


def test_one_that_saves_too_little_is_tried_once_and_never_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    deltas = service(hub)
    old, other = hub.artifacts.put(OLD), hub.artifacts.put(OTHER)
    deltas.sources(other, [old], MEMORY)
    work_off(hub, deltas)
    assert deltas.sources(other, [old], MEMORY) == []
    assert row(hub, old, other).state is DeltaState.USELESS
    assert "would be sent instead of" in row(hub, old, other).note
    monkeypatch.setattr(encode, "smallest", None)
    work_off(hub, deltas)


def test_blobs_above_the_limit_are_left_alone(hub: Hub) -> None:
    deltas = service(hub, max_delta_bytes=99_999)
    old, new = hub.artifacts.put(OLD), hub.artifacts.put(NEW)
    deltas.sources(new, [old], MEMORY)
    work_off(hub, deltas)
    assert "max_delta_bytes" in row(hub, old, new).note


def test_a_pair_that_takes_the_hub_down_is_given_up(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    deltas = service(hub)
    old, new = hub.artifacts.put(OLD), hub.artifacts.put(NEW)
    deltas.sources(new, [old], MEMORY)

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(encode, "smallest", die)
    for _ in range(module.MAX_ATTEMPTS):
        with pytest.raises(Killed):
            deltas.tick(hub.clock.now())
    deltas.tick(hub.clock.now())
    assert row(hub, old, new).state is DeltaState.USELESS


def test_a_broken_encoder_serves_nothing(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    deltas = service(hub)
    old, new = hub.artifacts.put(OLD), hub.artifacts.put(NEW)
    deltas.sources(new, [old], MEMORY)
    monkeypatch.setattr(decoder, "decode", lambda *_: iter([b"other bytes"]))
    work_off(hub, deltas)
    assert row(hub, old, new).state is DeltaState.USELESS and deltas.sources(new, [old], MEMORY) == []


def test_a_blob_that_is_gone_or_damaged_is_no_base(hub: Hub) -> None:
    deltas = service(hub)
    gone, damaged, new = digest_of(b"gone"), hub.artifacts.put(OLD), hub.artifacts.put(NEW)
    (hub.folder / "artifacts" / hub.artifacts.path(damaged)).write_bytes(OLD[:-1] + b"!")
    deltas.sources(new, [gone, damaged], MEMORY)
    work_off(hub, deltas)
    assert {row(hub, base, new).state for base in (gone, damaged)} == {DeltaState.USELESS}


def test_the_least_asked_for_make_room_and_are_made_again_when_asked_for(hub: Hub) -> None:
    deltas = service(hub, max_deltas_bytes=70_000)
    new = hub.artifacts.put(NEW)
    bases = [hub.artifacts.put(OLD[:half]) for half in (60_000, 70_000, 80_000)]  # each leaves 20 to 40 kB to send
    for base in bases:
        deltas.sources(new, [base], MEMORY)
        deltas.tick(hub.clock.now())
        hub.clock.advance(2 * 3600.0)
        deltas.sources(new, [base], MEMORY)  # told to a device, later than those before it
    assert [source.base for source in deltas.sources(new, bases, MEMORY)] == [bases[2], bases[1]]
    kept = [path for path in (hub.folder / "artifacts" / DELTAS).rglob("*") if path.is_file()]
    assert len(kept) == 2 and sum(path.stat().st_size for path in kept) <= 70_000
    hub.clock.advance(60.0)
    work_off(hub, deltas)
    assert bases[0] in [source.base for source in deltas.sources(new, bases, MEMORY)]


def test_the_number_that_waits_is_bounded(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    deltas = service(hub)
    new = hub.artifacts.put(NEW)
    for number in range(5):
        deltas.sources(new, [digest_of(b"%d" % number)], MEMORY)
    with hub.db.read() as tx:
        assert store.waiting(tx) == 3


def test_a_device_is_told_of_deltas_between_what_it_may_read(hub: Hub) -> None:
    deltas = service(hub)
    ways = sources(hub, deltas)
    old, secret = publish(hub, OLD), publish(hub, NEW[:-1], name="secret")
    cam = hub.device("cam-1")
    me = Principal(role=Role.DEVICE, name="cam-1")
    run(hub, cam, 1)
    new = publish(hub, NEW)
    deltas.sources(new, [old, secret], MEMORY)
    work_off(hub, deltas)
    with pytest.raises(NotFound):
        ways.locate(me, new, [old], MEMORY)  # it may not read the new one yet
    ask(hub, cam, 2)
    (source,) = ways.locate(me, new, [old, secret, new], MEMORY)
    assert source.base == old
    total, data = ways.read(me, source.blob.digest, 0, lambda: 1 << 20)
    assert total == source.blob.size_bytes == len(b"".join(data))
    (hidden,) = deltas.sources(new, [secret], MEMORY)
    for who, digest in ((me, hidden.blob.digest), (STRANGER, source.blob.digest), (me, digest_of(b"nothing"))):
        with pytest.raises(NotFound):
            ways.read(who, digest, 0, lambda: 1)
    assert [each.base for each in ways.locate(ADMIN, new, [old, secret], MEMORY)] == [secret, old]
    with pytest.raises(NotFound):
        ways.locate(STRANGER, new, [old], MEMORY)


def ask(hub: Hub, cam: Device, version: int) -> None:
    """Its desired twin names this version."""
    found = hub.registry.get(ADMIN, SIGNS, version)
    _, assignment = hub.registry.assignment(found, firmware_images.board("camera-x86"))
    with hub.db.write() as tx:
        hub.fleet.set_desired(tx, cam.id, assignment)


def run(hub: Hub, cam: Device, version: int) -> None:
    ask(hub, cam, version)
    cam.report(UpdateState.COMMITTED)


def test_encodings_have_the_numbers_of_the_wire() -> None:
    assert [int(each) for each in Encoding] == sorted(artifacts_pb2.Encoding.values())
