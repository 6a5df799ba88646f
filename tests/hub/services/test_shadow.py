"""Challengers from the hub's side, and what devices measure of what they try."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

import firmware_images
from cloud_hub.core.errors import Invalid, NotFound
from cloud_hub.core.model import Principal, Role
from cloud_hub.core.pages import FIRST, Page
from cloud_hub.services import fits
from cloud_hub.services.shadow import Match, ShadowService
from cloud_hub.store.database import Tx
from protos.contract.ids import DeviceId, digest_of
from protos.contract.twin import Fit, Health, ReportedTwin, ShadowReport, UpdateStatus
from protos.contract.update import UpdateState
from tests.hub.fleet_parts import ADMIN, SIGNS, STRANGER, Device, Hub

X86 = firmware_images.board("camera-x86")
FIT = Fit(p50_ms=2.0, p95_ms=3.0, peak_bytes=60 << 20, error=0.25, agreement=1.0)


@pytest.fixture
def hub(tmp_path: Path, database_url: str) -> Iterator[Hub]:
    hub = Hub(tmp_path, database_url=database_url)
    hub.sign()
    yield hub
    hub.db.close()


@pytest.fixture
def shadows(hub: Hub) -> ShadowService:
    return ShadowService(hub.db, hub.registry, hub.fleet, hub.clock)


def says(device: Device, shadow: ShadowReport | None, update: UpdateStatus | None = None) -> None:
    now = device.hub.clock.now()
    device.say(
        ReportedTwin(
            generation=device.desired().generation,
            boot_id="b1",
            agent_version="1",
            board=device.board,
            at=now,
            health=Health(started_at=now),
            runtimes=("onnx", "tflite"),
            model=device.runs,
            update=update,
            shadow=shadow,
        )
    )


def compared(device: Device, frames: int, agreed: int, **more: object) -> None:
    challenger = device.desired().challenger
    assert challenger is not None
    report = ShadowReport(model=challenger.model, since=device.hub.clock.now(), frames=frames, agreed=agreed)
    says(device, replace(report, **more))  # type: ignore[arg-type]  # type: ignore[arg-type]  # by name


def measured(device: Device, target: str, fit: Fit, version: int = 1) -> None:
    """Its golden run of a variant, as a canary reports it."""
    found = device.hub.registry.get(ADMIN, SIGNS, version)
    variant = next(one for one in found.variants if one.target == target)
    now = device.hub.clock.now()
    assignment = device.hub.registry.assignment(found, X86, ())[1]
    model = replace(assignment, manifest_digest=variant.manifest_digest, manifest_size_bytes=variant.manifest_size_bytes)
    says(device, None, UpdateStatus(generation=1, state=UpdateState.TRIAL, model=model, at=now, fit=fit))


def test_a_challenger_goes_to_the_devices_that_match_and_nothing_else_about_them_changes(
    hub: Hub, shadows: ShadowService
) -> None:
    hub.publish()
    hub.publish()
    north, south = hub.device("cam-1", site="north"), hub.device("cam-2", site="south")
    first = hub.registry.assignment(hub.registry.get(ADMIN, SIGNS, 1), X86)[1]
    with hub.db.write() as tx:
        hub.fleet.set_desired(tx, north.id, first, "r7")
    before = north.desired()
    started = shadows.start(ADMIN, Match(model=SIGNS, version=2, share=0.5), {"site": "north"})
    assert (started.devices, started.passed_over) == (1, ())
    twin = north.desired()
    assert twin.challenger is not None
    assert (twin.challenger.model.version, twin.challenger.share, twin.challenger.max_share_of_time) == (2, 0.5, 0.25)
    assert replace(twin, challenger=None, generation=before.generation) == before
    assert twin.generation == before.generation + 1 and south.desired().challenger is None
    assert north.receives() == twin, "the outbox delivers it"


def test_starting_it_again_asks_nobody_twice(hub: Hub, shadows: ShadowService) -> None:
    hub.publish()
    device = hub.device("cam-1")
    match = Match(model=SIGNS, version=1)
    shadows.start(ADMIN, match, {})
    generation = device.desired().generation
    assert shadows.start(ADMIN, match, {}).devices == 1
    assert device.desired().generation == generation
    shadows.start(ADMIN, replace(match, share=0.9), {})
    challenger = device.desired().challenger
    assert challenger is not None and (device.desired().generation, challenger.share) == (generation + 1, 0.9)


def test_what_devices_say_is_summed_up_and_stays_when_it_is_stopped(hub: Hub, shadows: ShadowService) -> None:
    hub.publish()
    one, two, silent = (hub.device(f"cam-{i}") for i in (1, 2, 3))
    shadows.start(ADMIN, Match(model=SIGNS, version=1), {})
    compared(one, 100, 90, captured=4, champion_confidence=0.9, challenger_confidence=0.5, challenger_p95_ms=7.0)
    compared(two, 300, 300, skipped=5, champion_confidence=0.5, challenger_confidence=0.9, challenger_p95_ms=3.0)
    totals, devices, following = shadows.get(ADMIN, SIGNS, 1, FIRST)
    assert (totals.devices, totals.active, totals.reporting, totals.troubled) == (3, 3, 2, 0)
    assert (totals.frames, totals.agreed, totals.skipped, totals.captured) == (400, 390, 5, 4)
    assert (totals.champion_confidence, totals.challenger_confidence) == (pytest.approx(0.6), pytest.approx(0.8))
    assert totals.challenger_p95_ms == 7.0
    assert [(it.device, it.report.frames if it.report else None) for it in devices] == [
        ("cam-1", 100), ("cam-2", 300), ("cam-3", None),
    ]  # fmt: skip
    assert following == ""
    assert shadows.stop(ADMIN, SIGNS, None, {"id": "cam-1"}) == 1
    assert one.desired().challenger is None and two.desired().challenger is not None
    says(one, None)
    totals, devices, _ = shadows.get(ADMIN, SIGNS, 1, FIRST)
    assert (totals.frames, totals.active, devices[0].stopped_at) == (400, 2, hub.clock.now())
    assert shadows.stop(ADMIN, SIGNS, 1, {}) == 2 and silent.desired().challenger is None
    assert shadows.stop(ADMIN, SIGNS, 1, {}) == 0
    assert [it.version for it in shadows.list(ADMIN)] == [1]


def test_a_device_tells_nothing_about_a_challenger_that_it_was_not_given(hub: Hub, shadows: ShadowService) -> None:
    hub.publish()
    hub.publish()
    device = hub.device("cam-1")
    shadows.start(ADMIN, Match(model=SIGNS, version=1), {})
    challenger = device.desired().challenger
    assert challenger is not None
    other = replace(challenger.model, manifest_digest=digest_of(b"other"))
    says(device, ShadowReport(model=other, since=hub.clock.now(), frames=9, agreed=9))
    assert shadows.get(ADMIN, SIGNS, 1, FIRST)[0].frames == 0
    shadows.start(ADMIN, Match(model=SIGNS, version=2), {})
    says(device, ShadowReport(model=challenger.model, since=hub.clock.now(), frames=9, agreed=9))  # late, of the one before
    assert shadows.get(ADMIN, SIGNS, 1, FIRST)[0].frames == 0
    assert [(it.version, it.active) for it in shadows.list(ADMIN)] in ([(2, 1), (1, 0)], [(1, 0), (2, 1)])


def test_the_files_of_a_challenger_are_for_the_devices_that_have_it(hub: Hub, shadows: ShadowService) -> None:
    version = hub.publish()
    device = hub.device("cam-1")
    who = Principal(role=Role.DEVICE, name="cam-1")
    artifact = version.variants[0].artifact_digest
    assert not hub.registry.readable_by(who, artifact)
    shadows.start(ADMIN, Match(model=SIGNS, version=1), {})
    assert hub.registry.readable_by(who, artifact)
    assert not hub.registry.readable_by(who, version.variants[1].artifact_digest), "of its own variant alone"
    signed = hub.trust.director(who, bytes(16)).decode()
    assert "models/default/signs/1/onnx-int8/manifest.pb" in signed and "tflite" not in signed
    shadows.stop(ADMIN, SIGNS, None, {})
    assert not hub.registry.readable_by(who, artifact) and device.desired().challenger is None


def test_another_variant_of_what_a_device_runs_can_be_tried_there(hub: Hub, shadows: ShadowService) -> None:
    hub.publish("onnx-int8", "onnx-fp32")
    device = hub.device("cam-1")
    first = hub.registry.assignment(hub.registry.get(ADMIN, SIGNS, 1), X86)[1]
    with hub.db.write() as tx:
        hub.fleet.set_desired(tx, device.id, first)
    same = shadows.start(ADMIN, Match(model=SIGNS, version=1), {})
    assert (same.devices, same.passed_over) == (0, (("cam-1", "it runs this very file"),))
    assert shadows.start(ADMIN, Match(model=SIGNS, version=1, target="onnx-fp32"), {}).devices == 1
    signed = hub.trust.director(Principal(role=Role.DEVICE, name="cam-1"), bytes(16)).decode()
    assert "onnx-int8/model.onnx" in signed and "onnx-fp32/model.onnx" in signed
    challenger = device.desired().challenger
    assert challenger is not None
    says(device, ShadowReport(model=challenger.model, since=hub.clock.now(), fit=replace(FIT, p50_ms=0.5)))
    measured(device, "onnx-int8", FIT)
    assert hub.registry.assignment(hub.registry.get(ADMIN, SIGNS, 1), X86)[0].target == "onnx-fp32"


def test_a_board_that_cannot_run_it_is_passed_over_with_the_reason(hub: Hub, shadows: ShadowService) -> None:
    hub.publish("onnx-int8")
    hub.device("cam-1", board="camera-armv7")
    started = shadows.start(ADMIN, Match(model=SIGNS, version=1), {})
    ((device, reason),) = started.passed_over
    assert device == "cam-1" and "no variant for board camera-armv7" in reason


def test_an_id_that_changes_hands_in_between_is_not_asked(
    hub: Hub, shadows: ShadowService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large start takes several transactions; meanwhile a device is deleted, and another tenant registers one by its name."""
    hub.publish()
    device, write = hub.device("cam-0"), hub.db.write
    begun: list[int] = []

    def writing() -> AbstractContextManager[Tx]:
        begun.append(1)
        if len(begun) == 2:
            monkeypatch.undo()
            hub.fleet.delete(ADMIN, device.id)
            hub.enrollment.create_device(STRANGER, device.id, device.board, {})
        return write()

    monkeypatch.setattr(hub.db, "write", writing)
    assert shadows.start(ADMIN, Match(model=SIGNS, version=1), {}).devices == 0
    assert len(begun) == 2 and hub.fleet.get(STRANGER, device.id).desired.challenger is None


def test_what_cannot_be_started_is_refused(hub: Hub, shadows: ShadowService) -> None:
    hub.publish()
    hub.device("cam-1")
    for match, error in (
        (Match(model=SIGNS, version=9), NotFound),
        (Match(model=SIGNS, version=1, target="onnx-fp16"), Invalid),
        (Match(model=SIGNS, version=1, share=1.5), Invalid),
        (Match(model=SIGNS, version=1, max_share_of_time=-1.0), Invalid),
    ):
        with pytest.raises(error):
            shadows.start(ADMIN, match, {})
    with pytest.raises(NotFound, match="no device matches"):
        shadows.start(ADMIN, Match(model=SIGNS, version=1), {"site": "moon"})
    with pytest.raises(NotFound):
        shadows.start(STRANGER, Match(model=SIGNS, version=1), {})
    with pytest.raises(NotFound, match="never started"):
        shadows.get(ADMIN, SIGNS, 1, FIRST)


def test_a_limit_takes_the_first_devices_and_pages_go_through_them(hub: Hub, shadows: ShadowService) -> None:
    hub.publish()
    for i in range(5):
        hub.device(f"cam-{i}")
    assert shadows.start(ADMIN, Match(model=SIGNS, version=1), {}, limit=3).devices == 3
    _, devices, following = shadows.get(ADMIN, SIGNS, 1, Page(size=2))
    assert ([it.device for it in devices], following) == (["cam-0", "cam-1"], "cam-1")
    _, devices, following = shadows.get(ADMIN, SIGNS, 1, Page(size=2, token=following))
    assert ([it.device for it in devices], following) == (["cam-2"], "")


def test_a_device_that_is_deleted_leaves_the_figures(hub: Hub, shadows: ShadowService) -> None:
    hub.publish()
    hub.device("cam-1")
    hub.device("cam-2")
    shadows.start(ADMIN, Match(model=SIGNS, version=1), {})
    hub.fleet.delete(ADMIN, DeviceId("cam-1"))
    assert [it.device for it in shadows.get(ADMIN, SIGNS, 1, FIRST)[1]] == ["cam-2"]


# -- what devices measure -------------------------------------------------------------------------------------------------


def test_golden_runs_decide_between_variants_by_their_median(hub: Hub) -> None:
    hub.publish("onnx-int8", "onnx-fp32")
    devices = [hub.device(f"cam-{i}") for i in range(4)]
    for device, p50_ms in zip(devices[:3], (8.0, 9.0, 1e6), strict=True):
        measured(device, "onnx-int8", replace(FIT, p50_ms=p50_ms))
    measured(devices[3], "onnx-fp32", replace(FIT, p50_ms=2.0, peak_bytes=99))
    version = hub.registry.get(ADMIN, SIGNS, 1)
    by_target = {fit.target: fit for fit in version.fits}
    assert (by_target["onnx-int8"].devices, by_target["onnx-int8"].p50_ms) == (3, 9.0)
    assert (by_target["onnx-fp32"].devices, by_target["onnx-fp32"].peak_bytes) == (1, 99)
    assert hub.registry.assignment(version, X86)[0].target == "onnx-fp32"
    ((_, standings),) = [it for it in hub.registry.on_boards(version) if it[0] == "camera-x86"]
    assert standings[0].passed_over == "slower there: p50 9 ms, onnx-fp32 takes 2 ms"


def test_the_newest_measurement_of_a_device_counts_and_only_so_many_devices_do(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fits, "MOST_DEVICES", 2)
    hub.publish()
    devices = [hub.device(f"cam-{i}") for i in range(3)]
    for device in devices:
        measured(device, "onnx-int8", FIT)
    measured(devices[0], "onnx-int8", replace(FIT, p50_ms=4.0))
    (fit,) = hub.registry.get(ADMIN, SIGNS, 1).fits
    assert (fit.devices, fit.p50_ms, fit.board) == (2, 3.0, "camera-x86")


def test_a_device_cannot_speak_for_another_board_or_of_models_that_were_never_published(hub: Hub) -> None:
    hub.publish()
    device = hub.device("cam-1", board="vehicle-arm64")
    device.board = "camera-x86"  # it says so
    measured(device, "onnx-int8", FIT)
    (fit,) = hub.registry.get(ADMIN, SIGNS, 1).fits
    assert fit.board == "vehicle-arm64"
    model = replace(hub.registry.assignment(hub.registry.get(ADMIN, SIGNS, 1), X86)[1], manifest_digest=digest_of(b"?"))
    says(device, ShadowReport(model=model, since=hub.clock.now(), fit=FIT))
    assert len(hub.registry.get(ADMIN, SIGNS, 1).fits) == 1
