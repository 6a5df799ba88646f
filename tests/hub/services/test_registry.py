import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import firmware_images
from cloud_hub.core.errors import Conflict, Invalid, NotFound, NotReady
from cloud_hub.core.model import Principal, Role
from cloud_hub.services.registry import PublishedVersion
from protos.contract import ids
from protos.contract.update import UpdateState
from tests.hub.fleet_parts import ADMIN, SIGNS, STRANGER, Hub


@pytest.fixture
def hub(tmp_path: Path, database_url: str) -> Iterator[Hub]:
    hub = Hub(tmp_path, database_url=database_url)
    yield hub
    hub.db.close()


def _reserved(hub: Hub, *targets: str) -> PublishedVersion:
    return hub.unpublished(hub.registry.reserve(SIGNS), *targets)


def test_version_numbers_are_handed_out_once_however_many_ask(hub: Hub) -> None:
    numbers: list[int] = []
    threads = [threading.Thread(target=lambda: numbers.append(hub.registry.reserve(SIGNS))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(numbers) == list(range(1, 9))
    assert hub.registry.reserve(ids.model_name("lanes")) == 1


def test_a_number_reserved_in_a_transaction_that_fails_is_free_again(hub: Hub) -> None:
    with pytest.raises(KeyError), hub.db.write() as tx:
        assert hub.registry.reserve(SIGNS, tx) == 1
        raise KeyError
    assert hub.registry.reserve(SIGNS) == 1


def test_a_published_version_comes_back_as_it_was_and_is_the_challenger(hub: Hub) -> None:
    published = _reserved(hub)
    version = hub.registry.publish(published)
    assert version == hub.registry.get(ADMIN, SIGNS, 1) == hub.registry.get(ADMIN, SIGNS, alias="challenger")
    assert (version.variants, version.baseline, version.report) == (published.variants, published.baseline, published.report)
    assert (version.aliases, version.task, version.created_at) == (("challenger",), "image-classification", hub.clock.now())


def test_models_and_versions_are_listed(hub: Hub) -> None:
    hub.publish()
    hub.publish()
    hub.publish(name="lanes")
    hub.registry.reserve(ids.model_name("never-published"))
    hub.registry.set_alias(ADMIN, SIGNS, "champion", 1)
    lanes, signs = hub.registry.models(ADMIN)
    assert (lanes.name, lanes.latest_version) == ("lanes", 1)
    assert (signs.name, signs.latest_version, signs.aliases) == ("signs", 2, {"champion": 1, "challenger": 2})
    assert [(version.version, version.aliases) for version in hub.registry.versions(ADMIN, SIGNS)] == [
        (2, ("challenger",)),
        (1, ("champion",)),
    ]


def test_a_version_never_changes(hub: Hub) -> None:
    published = _reserved(hub)
    hub.registry.publish(published)
    with pytest.raises(Conflict, match="already"):
        hub.registry.publish(published)


def test_a_job_that_is_run_again_after_it_published_publishes_nothing_more(hub: Hub) -> None:
    first = hub.publish(job_id="j-1")
    assert hub.publish(job_id="j-1") == first
    assert len(hub.registry.versions(ADMIN, SIGNS)) == 1
    assert hub.publish().version == 3, "its number is spent"


def test_a_number_that_was_not_reserved_cannot_be_published(hub: Hub) -> None:
    with pytest.raises(Conflict, match="not reserved"):
        hub.registry.publish(hub.unpublished(1))


def test_a_model_keeps_its_task(hub: Hub) -> None:
    hub.publish()
    with pytest.raises(Conflict, match="image-classification"):
        hub.publish(task="detection")


def test_variants_are_what_their_manifests_say(hub: Hub) -> None:
    published = _reserved(hub, "onnx-int8")
    (variant,) = published.variants
    for wrong in (
        replace(published, version=2),
        replace(published, name=ids.model_name("lanes")),
        replace(published, task="detection"),
        replace(published, baseline=replace(published.baseline, labels=("a", "b"))),
        replace(published, variants=()),
        replace(published, variants=(variant, variant)),
        replace(published, variants=(replace(variant, artifact_size_bytes=1),)),
        replace(published, variants=(replace(variant, manifest_size_bytes=1),)),
        replace(published, variants=(replace(variant, golden_digest=variant.artifact_digest),)),
        replace(published, variants=(replace(variant, manifest_digest=variant.artifact_digest),)),
    ):
        with pytest.raises(Invalid):
            hub.registry.publish(wrong)
    with pytest.raises(NotFound):
        hub.registry.publish(replace(published, variants=(replace(variant, manifest_digest=ids.digest_of(b"?")),)))
    assert hub.registry.models(ADMIN) == []


def test_an_alias_is_a_name_that_points_at_a_version(hub: Hub) -> None:
    hub.publish()
    assert hub.registry.set_alias(ADMIN, SIGNS, "stable", 1).aliases == {"challenger": 1, "stable": 1}
    with pytest.raises(NotFound, match="version 7"):
        hub.registry.set_alias(ADMIN, SIGNS, "stable", 7)
    for alias in ("", "7", "Über", "-x"):
        with pytest.raises(Invalid, match="alias"):
            hub.registry.set_alias(ADMIN, SIGNS, alias, 1)


def test_what_is_not_there_is_not_found(hub: Hub) -> None:
    hub.publish()
    for act in (
        lambda: hub.registry.get(ADMIN, SIGNS, 9),
        lambda: hub.registry.get(ADMIN, SIGNS, alias="nope"),
        lambda: hub.registry.versions(ADMIN, ids.model_name("lanes")),
        lambda: hub.registry.versions(STRANGER, SIGNS),
        lambda: hub.registry.get(STRANGER, SIGNS, 1),
    ):
        with pytest.raises(NotFound):
            act()
    with pytest.raises(Invalid):
        hub.registry.get(ADMIN, SIGNS)


# -- the file for a device ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("board", "runtimes", "targets", "chosen"),
    [
        ("camera-x86", (), ("onnx-fp32", "onnx-int8", "tflite-int8"), "onnx-int8"),
        ("camera-arm64", (), ("onnx-int8", "tflite-int8"), "tflite-int8"),
        ("camera-x86", ("tflite",), ("onnx-int8", "tflite-int8"), "tflite-int8"),
        ("camera-x86", (), ("onnx-fp32", "tflite-int8"), "tflite-int8"),
        ("camera-x86", (), ("onnx-fp32",), "onnx-fp32"),
        ("camera-armv7", (), ("onnx-int8", "tflite-int8"), "tflite-int8"),
    ],
)
def test_a_device_gets_int8_first_and_then_what_its_board_runs_best(
    hub: Hub, board: str, runtimes: tuple[str, ...], targets: tuple[str, ...], chosen: str
) -> None:
    version = hub.publish(*targets)
    variant, assignment = hub.registry.assignment(version, firmware_images.board(board), runtimes)
    assert variant.target == chosen
    assert (assignment.name, assignment.version) == ("signs", 1)
    assert assignment.manifest_digest == variant.manifest_digest


def test_a_board_that_no_variant_fits_is_told_why(hub: Hub) -> None:
    version = hub.publish("onnx-int8")
    board = firmware_images.board("camera-x86-tflite")
    with pytest.raises(NotReady, match="tflite-int8: not published"):
        hub.registry.assignment(version, board)
    with pytest.raises(NotReady, match="reports only onnx"):
        hub.registry.assignment(version, board, ("onnx",))
    small = replace(firmware_images.board("camera-x86"), max_model_bytes=3)
    with pytest.raises(NotReady, match="more than the board's 3"):
        hub.registry.assignment(version, small)


def test_a_variant_made_for_some_boards_is_not_given_to_others(hub: Hub) -> None:
    published = _reserved(hub, "onnx-int8", "onnx-fp32")
    only = replace(published.variants[0], boards=("vehicle-arm64",))
    version = hub.registry.publish(replace(published, variants=(only, published.variants[1])))
    assert hub.registry.assignment(version, firmware_images.board("camera-x86"))[0].target == "onnx-fp32"
    assert hub.registry.assignment(version, firmware_images.board("vehicle-arm64"))[0].target == "onnx-int8"


def test_a_device_reads_only_the_blobs_of_what_it_should_run_or_runs(hub: Hub) -> None:
    first = hub.publish("onnx-int8", "tflite-int8").variants[0]
    device, other = hub.device("cam-1", site="a"), hub.device("cam-2")
    who = Principal(role=Role.DEVICE, name=device.id)
    blobs = (first.manifest_digest, first.artifact_digest, first.golden_digest)
    assert not any(hub.registry.readable_by(who, digest) for digest in blobs)
    hub.rollouts.create(ADMIN, SIGNS, 1, {"site": "a"})
    assert all(hub.registry.readable_by(who, digest) for digest in blobs)
    device.report(UpdateState.COMMITTED)
    second = hub.publish("onnx-int8").variants[0]
    assert not hub.registry.readable_by(who, second.artifact_digest)
    hub.rollouts.create(ADMIN, SIGNS, 2, {"site": "a"})
    assert hub.registry.readable_by(who, second.artifact_digest)
    assert hub.registry.readable_by(who, first.artifact_digest), "it runs it still"
    assert not hub.registry.readable_by(Principal(role=Role.DEVICE, name=other.id), first.artifact_digest)
    assert not hub.registry.readable_by(replace(who, tenant=STRANGER.tenant), first.artifact_digest)
    assert not hub.registry.readable_by(Principal(role=Role.ANONYMOUS, name=""), first.artifact_digest)
    assert hub.registry.readable_by(ADMIN, first.artifact_digest)
    assert not hub.registry.readable_by(STRANGER, first.artifact_digest)
    hub.fleet.delete(ADMIN, device.id)
    assert not hub.registry.readable_by(who, first.artifact_digest)


def test_a_blob_that_is_no_model_is_not_for_devices_even_where_a_report_names_it(hub: Hub) -> None:
    hub.publish("onnx-int8")
    device = hub.device("cam-1")
    hub.rollouts.create(ADMIN, SIGNS, 1, {})
    sample = hub.artifacts.put(b"a picture of somebody else")
    asked = device.desired().model
    assert asked is not None
    device.runs = replace(asked, manifest_digest=sample)
    device.report()
    assert not hub.registry.readable_by(Principal(role=Role.DEVICE, name=device.id), sample)
