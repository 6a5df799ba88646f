from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from cloud_hub.core.errors import Invalid, NotFound
from cloud_hub.core.pages import Page
from protos.contract import ids
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import MAX_SEQUENCE
from protos.contract.twin import Health, ModelAssignment, Presence, ReportedTwin, Status
from tests.hub.fleet_parts import ADMIN, BOARD, START, STRANGER, TENANT, Hub

MODEL = ModelAssignment(
    name=ids.model_name("signs"), version=3, manifest_digest=ids.digest_of(b"manifest"), manifest_size_bytes=100
)
REPORTED = ReportedTwin(
    generation=0,
    boot_id="b1",
    agent_version="0.1.0",
    board="camera-x86",
    at=START,
    health=Health(started_at=START, inferences=7),
    runtimes=("onnx",),
    model=MODEL,
)


@pytest.fixture
def hub(tmp_path: Path, database_url: str) -> Iterator[Hub]:
    hub = Hub(tmp_path, database_url=database_url)
    yield hub
    hub.db.close()


def _status(hub: Hub, id: DeviceId, status: Status, tenant: TenantId = TENANT) -> None:
    with hub.db.write() as tx:
        hub.fleet.on_status(tx, tenant, id, status)


def _reported(hub: Hub, id: DeviceId, twin: ReportedTwin, tenant: TenantId = TENANT) -> None:
    with hub.db.write() as tx:
        hub.fleet.on_reported(tx, tenant, id, twin)


def _ask(hub: Hub, id: DeviceId, model: ModelAssignment | None = MODEL) -> int:
    with hub.db.write() as tx:
        return hub.fleet.set_desired(tx, id, model, "r-1").generation


def _ids(hub: Hub, **selector: str) -> list[str]:
    return [device.id for device in hub.fleet.list(ADMIN, selector, Page())[0]]


def test_a_new_device_was_never_seen_and_nothing_is_asked_of_it(hub: Hub) -> None:
    device = hub.fleet.get(ADMIN, hub.device("cam-1", site="gate").id)
    assert (device.presence, device.last_seen, device.reported, device.enrolled) == (None, None, None, False)
    assert (device.desired.generation, device.desired.model) == (0, None)
    assert (device.labels, device.created_at) == ({"site": "gate"}, START)


def test_selectors_match_labels_board_id_and_the_reported_model_and_all_terms_must_hold(hub: Hub) -> None:
    hub.device("cam-1", site="gate", floor="1")
    hub.device("cam-2", site="gate", floor="2")
    hub.device("car-1", board="vehicle-arm64", site="gate")
    _reported(hub, ids.device_id("cam-2"), REPORTED)
    assert _ids(hub) == ["cam-1", "cam-2", "car-1"]
    assert _ids(hub, site="gate", floor="2") == ["cam-2"]
    assert _ids(hub, board="vehicle-arm64") == ["car-1"]
    assert _ids(hub, id="cam-1") == ["cam-1"]
    assert _ids(hub, model="signs") == _ids(hub, model="signs:3") == ["cam-2"]
    assert _ids(hub, model="signs:4") == _ids(hub, site="elsewhere") == []


def test_pages_hold_every_device_once(hub: Hub) -> None:
    for i in range(5):
        hub.device(f"cam-{i}")
    seen: list[str] = []
    page = Page(size=2)
    while True:
        devices, token = hub.fleet.list(ADMIN, {}, page)
        seen += [device.id for device in devices]
        if not token:
            break
        page = Page(size=2, token=token)
    assert seen == [f"cam-{i}" for i in range(5)]
    with pytest.raises(Invalid, match="page size"):
        hub.fleet.list(ADMIN, {}, Page(size=0))


def test_labels_are_replaced_as_a_whole(hub: Hub) -> None:
    id = hub.device("cam-1", site="gate", floor="1").id
    assert hub.fleet.set_labels(ADMIN, id, {"site": "yard"}).labels == {"site": "yard"}
    assert hub.fleet.get(ADMIN, id).labels == {"site": "yard"}
    assert _ids(hub, floor="1") == []


def test_another_tenants_device_is_not_found_whatever_is_done_with_it(hub: Hub) -> None:
    id = hub.device("cam-1").id
    assert hub.fleet.list(STRANGER, {}, Page()) == ([], "")
    for act in (
        lambda: hub.fleet.get(STRANGER, id),
        lambda: hub.fleet.set_labels(STRANGER, id, {}),
        lambda: hub.fleet.delete(STRANGER, id),
        lambda: _status(hub, id, Status(presence=Presence.ONLINE, boot_id="b", agent_version="1", at=START), STRANGER.tenant),
        lambda: _reported(hub, id, REPORTED, STRANGER.tenant),
        lambda: _reported(hub, ids.device_id("nobody"), REPORTED),
    ):
        with pytest.raises(NotFound):
            act()
    assert hub.fleet.get(ADMIN, id).reported is None


def test_a_report_comes_back_as_it_was_said(hub: Hub) -> None:
    id = hub.device("cam-1").id
    hub.clock.advance(5)
    _reported(hub, id, REPORTED)
    device = hub.fleet.get(ADMIN, id)
    assert (device.reported, device.last_seen) == (REPORTED, hub.clock.now())


def test_presence_follows_the_device(hub: Hub) -> None:
    id = hub.device("cam-1").id
    online = Status(presence=Presence.ONLINE, boot_id="b1", agent_version="1", at=START)
    _status(hub, id, online)
    hub.clock.advance(60)
    _status(hub, id, replace(online, presence=Presence.OFFLINE))
    device = hub.fleet.get(ADMIN, id)
    assert (device.presence, device.last_seen) == (Presence.OFFLINE, START), "the broker's word is no sign of life"


def test_a_retained_status_that_comes_again_is_no_sign_of_life(hub: Hub) -> None:
    id = hub.device("cam-1").id
    stopped = Status(presence=Presence.STOPPED, boot_id="b1", agent_version="1", at=START)
    _status(hub, id, stopped)
    hub.clock.advance(3600)
    _status(hub, id, stopped)
    assert hub.fleet.get(ADMIN, id).last_seen == START


def test_the_will_of_a_connection_that_was_replaced_does_not_make_a_device_offline(hub: Hub) -> None:
    id = hub.device("cam-1").id
    online = Status(presence=Presence.ONLINE, boot_id="b1", agent_version="1", at=START + timedelta(seconds=10))
    _status(hub, id, online)
    _status(hub, id, replace(online, presence=Presence.OFFLINE, at=START))
    assert hub.fleet.get(ADMIN, id).presence is Presence.ONLINE


def test_a_device_whose_clock_jumped_back_at_boot_is_still_believed(hub: Hub) -> None:
    id = hub.device("cam-1").id
    _status(hub, id, Status(presence=Presence.OFFLINE, boot_id="b1", agent_version="1", at=START))
    _status(hub, id, Status(presence=Presence.ONLINE, boot_id="b2", agent_version="1", at=START - timedelta(days=900)))
    assert hub.fleet.get(ADMIN, id).presence is Presence.ONLINE


# -- the outbox of desired twins ----------------------------------------------------------------------------------------


def test_every_change_is_a_new_generation_and_waits_in_the_outbox_until_it_is_delivered(hub: Hub) -> None:
    id = hub.device("cam-1").id
    assert hub.fleet.undelivered() == []
    assert [_ask(hub, id), _ask(hub, id)] == [1, 2]
    ((tenant, device, twin),) = hub.fleet.undelivered()
    assert (tenant, device, twin.generation, twin.model, twin.rollout_id) == (TENANT, id, 2, MODEL, "r-1")
    hub.fleet.delivered(id, 2)
    assert hub.fleet.undelivered() == []
    assert hub.fleet.get(ADMIN, id).desired == twin


def test_a_change_while_the_older_one_is_being_delivered_is_not_lost(hub: Hub) -> None:
    id = hub.device("cam-1").id
    _ask(hub, id)
    _ask(hub, id, None)
    hub.fleet.delivered(id, 1)
    assert [twin.generation for _, _, twin in hub.fleet.undelivered()] == [2]
    hub.fleet.delivered(id, 2)
    hub.fleet.delivered(id, 1)
    assert hub.fleet.undelivered() == [], "an older acknowledgement takes nothing back"


def test_everything_can_be_delivered_again_to_a_broker_that_forgot(hub: Hub) -> None:
    asked, silent = hub.device("cam-1").id, hub.device("cam-2").id
    hub.fleet.delivered(asked, _ask(hub, asked))
    hub.fleet.redeliver()
    assert [device for _, device, _ in hub.fleet.undelivered()] == [asked]
    assert hub.fleet.get(ADMIN, silent).desired.generation == 0


def test_the_outbox_is_read_in_bounded_pieces(hub: Hub) -> None:
    for i in range(3):
        _ask(hub, hub.device(f"cam-{i}").id)
    assert len(hub.fleet.undelivered(limit=2)) == 2


def test_deleting_a_device_withdraws_its_desired_twin_and_a_new_one_of_that_name_counts_on(hub: Hub) -> None:
    id = hub.device("cam-1", site="gate").id
    hub.fleet.delivered(id, _ask(hub, id))
    hub.fleet.delete(ADMIN, id)
    with pytest.raises(NotFound):
        hub.fleet.get(ADMIN, id)
    ((_, device, twin),) = hub.fleet.undelivered()
    assert (device, twin.generation, twin.model) == (id, 2, None)
    hub.fleet.delivered(id, 2)
    assert hub.fleet.undelivered() == []
    hub.device("cam-1")
    again = hub.fleet.get(ADMIN, id)
    assert (again.labels, again.enrolled, again.desired.model) == ({}, False, None)
    assert hub.fleet.undelivered() == []
    assert _ask(hub, id) == 3, "a disk that survived knows generation 2"


def test_a_device_that_was_never_asked_for_anything_leaves_nothing_to_withdraw(hub: Hub) -> None:
    hub.fleet.delete(ADMIN, hub.device("cam-1").id)
    assert hub.fleet.undelivered() == []


def test_a_device_that_saw_more_generations_than_the_hub_holds_is_asked_anew_above_them(hub: Hub) -> None:
    id = hub.device("cam-1").id
    hub.fleet.delivered(id, _ask(hub, id))
    _reported(hub, id, replace(REPORTED, generation=9))
    ((_, _, twin),) = hub.fleet.undelivered()
    assert (twin.generation, twin.model) == (10, MODEL)


def test_a_generation_that_no_hub_can_have_given_is_refused(hub: Hub) -> None:
    id = hub.device("cam-1").id
    with pytest.raises(Invalid, match="generation"):
        _reported(hub, id, replace(REPORTED, generation=MAX_SEQUENCE))


def test_nothing_can_be_asked_of_an_unknown_device(hub: Hub) -> None:
    with pytest.raises(NotFound, match="nobody"):
        _ask(hub, ids.device_id("nobody"))


def test_devices_have_their_board_and_labels_as_groups(hub: Hub) -> None:
    hub.device("cam-1", site="north")
    groups = hub.fleet.groups(ADMIN, {"cam-1", "gone"})
    assert groups == {"cam-1": {"board": BOARD, "site": "north"}}
    assert hub.fleet.groups(STRANGER, {"cam-1"}) == {}
