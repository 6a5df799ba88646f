"""Who is in a rollout changes while it is under way, by events; and rollouts that want the same device."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from cloud_hub.core import rollout_spec
from cloud_hub.core.model import Principal, Role, Rollout, RolloutState
from cloud_hub.services.packages import Announced
from cloud_hub.store import device_changes
from protos.contract import ids
from protos.contract.ids import TenantId
from protos.contract.twin import PackageAssignment, PackageKind, PackageStatus
from protos.contract.update import UpdateState
from tests.hub.fleet_parts import ADMIN, BOARD, SIGNS, Device, Hub

OTHER = Principal(role=Role.ADMIN, name="oda", tenant=TenantId("other"))


@pytest.fixture
def hub(tmp_path: Path, database_url: str) -> Iterator[Hub]:
    hub = Hub(tmp_path, database_url=database_url)
    hub.publish()
    yield hub
    hub.db.close()


def launch(hub: Hub, text: str) -> Rollout:
    return hub.rollouts.launch(ADMIN, rollout_spec.parse(f"soak_s: 0\n{text}"))


def members(hub: Hub, rollout: Rollout) -> dict[str, int]:
    """Wave by device."""
    return {row.device: row.wave for row in hub.rollouts.get(ADMIN, rollout.id).devices}


TWO_WAVES = "model: signs\nversion: 1\nselector: {site: a}\nwaves: [{count: 1}]"


# -- joining and leaving ------------------------------------------------------------------------------------------------


def test_a_new_device_and_one_with_a_new_label_wait_with_the_last_wave(hub: Hub) -> None:
    canary, other = hub.device("cam-0", site="a"), hub.device("cam-1", site="b")
    rollout = launch(hub, TWO_WAVES)
    new = hub.device("cam-2", site="a")
    hub.fleet.set_labels(ADMIN, other.id, {"site": "a"})
    hub.tick()
    assert members(hub, rollout) == {"cam-0": 0, "cam-1": 1, "cam-2": 1}
    assert (other.receives(), new.receives()) == (None, None), "the canaries do not multiply"
    canary.commits()
    hub.tick()
    assert other.receives() is not None and new.receives() is not None


def test_a_device_that_matches_no_more_leaves_until_it_has_been_asked(hub: Hub) -> None:
    canary, rest = hub.device("cam-0", site="a"), hub.device("cam-1", site="a")
    rollout = launch(hub, TWO_WAVES)
    for device in (canary, rest):
        hub.fleet.set_labels(ADMIN, device.id, {"site": "b"})
    hub.tick()
    assert members(hub, rollout) == {"cam-0": 0}, "the canary has been asked, and stays"
    hub.fleet.set_labels(ADMIN, rest.id, {"site": "a"})
    hub.tick()
    assert members(hub, rollout) == {"cam-0": 0, "cam-1": 1}, "it came back"


def test_a_device_joins_when_it_begins_to_run_the_version_that_is_selected(hub: Hub) -> None:
    early, late = hub.device("cam-0"), hub.device("cam-1")
    launch(hub, "model: signs\nversion: 1")
    early.commits()
    late.receives()
    hub.publish()
    hub.tick()
    rollout = launch(hub, 'model: signs\nversion: 2\nselector: {model: "signs:1"}')
    assert members(hub, rollout) == {"cam-0": 0}
    late.commits()
    hub.tick()
    assert members(hub, rollout) == {"cam-0": 0, "cam-1": 0}
    twin = late.receives()
    assert twin is not None and twin.model is not None and twin.model.version == 2
    early.commits()
    late.commits()
    hub.tick()
    assert members(hub, rollout) == {"cam-0": 0, "cam-1": 0}, "what it runs now no longer matches, and it stays"
    assert hub.rollouts.get(ADMIN, rollout.id).state is RolloutState.SUCCEEDED


def test_a_device_that_joins_late_has_the_whole_deadline(hub: Hub) -> None:
    first = hub.device("cam-0")
    rollout = hub.rollouts.launch(
        ADMIN, rollout_spec.parse("model: signs\nversion: 1\nsoak_s: 86400\nsuccess: {deadline_s: 3600}")
    )
    first.commits()
    hub.tick(7200)
    hub.device("cam-1")
    hub.tick()
    hub.tick(3599)
    assert hub.rollouts.get(ADMIN, rollout.id).state is RolloutState.RUNNING
    hub.tick(1)
    assert hub.rollouts.get(ADMIN, rollout.id).state is RolloutState.FAILED


def test_a_device_that_was_deleted_and_registered_again_joins_again(hub: Hub) -> None:
    hub.device("cam-0", site="a")
    again = hub.device("cam-1", site="a")
    rollout = launch(hub, "model: signs\nversion: 1\nselector: {site: a}")
    hub.fleet.delete(ADMIN, again.id)
    hub.tick()
    assert members(hub, rollout) == {"cam-0": 0}
    again = hub.device("cam-1", site="a")
    hub.tick()
    assert members(hub, rollout) == {"cam-0": 0, "cam-1": 0}
    assert again.receives() is not None


def test_a_paused_rollout_takes_note_of_who_joins_and_asks_it_when_it_goes_on(hub: Hub) -> None:
    hub.device("cam-0", site="a")
    rollout = launch(hub, "model: signs\nversion: 1\nselector: {site: a}")
    hub.rollouts.pause(ADMIN, rollout.id)
    new = hub.device("cam-1", site="a")
    hub.tick()
    assert (members(hub, rollout), new.receives()) == ({"cam-0": 0, "cam-1": 0}, None)
    hub.rollouts.resume(ADMIN, rollout.id)
    assert new.receives() is not None


def test_devices_of_another_tenant_never_join(hub: Hub) -> None:
    hub.device("cam-0")
    rollout = launch(hub, "model: signs\nversion: 1")
    hub.enrollment.create_device(OTHER, "cam-9", "camera-x86", {})
    hub.tick()
    assert members(hub, rollout) == {"cam-0": 0}


def test_a_quiet_fleet_is_not_looked_at(hub: Hub) -> None:
    """However large: nothing but what changed is read, and nothing is written."""
    device = hub.device("cam-0")
    launch(hub, "model: signs\nversion: 1\nsoak_s: 60")
    hub.tick()
    device.online()
    said: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        said.append(statement)

    engine = hub.db._backend.engine
    event.listen(engine, "before_cursor_execute", note)
    hub.rollouts.tick(hub.clock.now())
    event.remove(engine, "before_cursor_execute", note)
    assert not [text for text in said if "FROM devices" in text or "device_labels" in text]
    assert not [text for text in said if text.startswith(("UPDATE", "INSERT", "DELETE"))]


def test_a_change_is_noted_once_and_forgotten_when_it_was_looked_at(hub: Hub) -> None:
    device = hub.device("cam-0")
    for site in "abc":
        hub.fleet.set_labels(ADMIN, device.id, {"site": site})
    with hub.db.read() as tx:
        assert device_changes.oldest(tx, 9) == [device.id]
    hub.tick()
    device.report()
    with hub.db.read() as tx:
        assert device_changes.oldest(tx, 9) == [], "a report that changes nothing is no change"


KEPT_OPEN = "model: signs\nversion: 1\nselector: {site: a}\nkeep_open: true"


def test_a_rollout_that_is_kept_open_asks_who_joins_after_it_has_succeeded(hub: Hub) -> None:
    first = hub.device("cam-0", site="a")
    rollout = launch(hub, KEPT_OPEN)
    first.commits()
    late = hub.device("cam-1", site="a")
    hub.tick()
    twin = late.receives()
    assert twin is not None and twin.rollout_id == rollout.id
    late.commits()
    seen = hub.rollouts.get(ADMIN, rollout.id)
    assert (seen.state, seen.standings[0].committed) == (RolloutState.SUCCEEDED, 2)


def test_a_rollout_that_is_kept_open_is_closed_when_too_many_of_those_that_join_fail(hub: Hub) -> None:
    first = hub.device("cam-0")
    rollout = launch(hub, "model: signs\nversion: 1\nkeep_open: true")
    first.commits()
    first.receives()
    bad = hub.device("cam-1")
    hub.tick()
    bad.report(UpdateState.FAILED, "disk full")
    next_one = hub.device("cam-2")
    hub.tick()
    closed = hub.rollouts.get(ADMIN, rollout.id)
    assert (closed.state, closed.reason) == (RolloutState.ABORTED, "closed: 1 device failed, more than 0")
    assert (first.receives(), next_one.receives()) == (None, None)


def test_a_rollout_that_is_kept_open_loses_who_a_newer_one_names_and_can_be_closed(hub: Hub) -> None:
    first = hub.device("cam-0", site="a")
    older = launch(hub, KEPT_OPEN)
    first.commits()
    hub.publish()
    newer = launch(hub, "model: signs\nversion: 2\nselector: {site: a}\nwaves: [{count: 1}]\nkeep_open: true")
    late = hub.device("cam-1", site="a")
    hub.tick()
    assert members(hub, older) == {"cam-0": 0} and members(hub, newer) == {"cam-0": 0, "cam-1": 1}
    hub.rollouts.abort(ADMIN, newer.id)
    hub.rollouts.abort(ADMIN, older.id)
    assert hub.rollouts.get(ADMIN, older.id).state is RolloutState.ABORTED
    hub.device("cam-2", site="a")
    hub.tick()
    assert members(hub, older) == {"cam-0": 0} and late.receives() is None


# -- two that want the same device --------------------------------------------------------------------------------------


def test_the_newest_rollout_of_a_component_wins_and_the_older_one_goes_on_with_the_rest(hub: Hub) -> None:
    shared, own = hub.device("cam-0", line="new"), hub.device("cam-1")
    older = launch(hub, "model: signs\nversion: 1")
    hub.publish()
    newer = launch(hub, "model: signs\nversion: 2\nselector: {line: new}")
    assert shared.desired().rollout_id == newer.id and own.desired().rollout_id == older.id
    states = {row.device: row.state for row in hub.rollouts.get(ADMIN, older.id).devices}
    assert states == {"cam-0": UpdateState.SUPERSEDED, "cam-1": UpdateState.OFFERED}
    hub.tick()
    hub.tick()
    own.commits()
    shared.commits()
    for rollout in (older, newer):
        assert hub.rollouts.get(ADMIN, rollout.id).state is RolloutState.SUCCEEDED
    assert hub.registry.models(ADMIN)[0].aliases["champion"] == 2, "the older one does not take the name from the newer"


def test_two_rollouts_of_one_model_do_not_overtake_each_others_releases(hub: Hub) -> None:
    one, two = hub.device("cam-0", line="1"), hub.device("cam-1", line="2")
    hub.publish()
    launch(hub, "model: signs\nversion: 1\nselector: {line: '1'}")
    launch(hub, "model: signs\nversion: 2\nselector: {line: '2'}")
    for _ in range(3):
        hub.tick()
    assert one.receives() is not None and two.receives() is not None


def test_an_older_rollout_gets_no_device_that_a_newer_one_has_had(hub: Hub) -> None:
    hub.device("cam-0", site="a")
    older = launch(hub, "model: signs\nversion: 1\nselector: {site: a}")
    late = hub.device("cam-1")
    hub.publish()
    launch(hub, "model: signs\nversion: 2\nselector: {id: cam-1}")
    hub.tick()
    late.commits()
    hub.fleet.set_labels(ADMIN, late.id, {"site": "a"})
    hub.tick()
    assert members(hub, older) == {"cam-0": 0}


# -- packages -----------------------------------------------------------------------------------------------------------


def _publish(hub: Hub, version: str, kind: PackageKind = PackageKind.CONFIG, who: Principal = ADMIN) -> None:
    data = f"capture: {{rate: {version}}}".encode()
    announced = Announced(kind=kind, board="", name="lobby", version=version, digest=ids.digest_of(data), size_bytes=len(data))
    upload = hub.packages.begin(who, announced)
    upload.take(data)
    upload.finish()
    upload.close()
    hub.sign()


def _says(device: Device, state: UpdateState, reason: str = "", installed: PackageAssignment | None = None) -> None:
    """How the update of its settings goes."""
    twin = device.desired()
    device.report()
    reported = device.hub.fleet.get(ADMIN, device.id).reported
    assert reported is not None
    (package,) = twin.packages or (installed,)
    assert package is not None
    status = PackageStatus(generation=twin.generation, state=state, package=package, at=device.hub.clock.now(), reason=reason)
    has = package if state is UpdateState.COMMITTED else installed
    device.say(replace(reported, packages=(has,) if has else (), package_updates=(status,)))


def test_a_package_is_rolled_out_in_waves_like_a_model(hub: Hub) -> None:
    one, two = hub.device("cam-0"), hub.device("cam-1")
    _publish(hub, "1.0")
    rollout = launch(hub, "config: lobby\nversion: '1.0'\nwaves: [{count: 1}]")
    hub.tick()
    twin = one.receives()
    assert twin is not None and twin.model is None
    assert [(p.kind, p.name, p.version, p.rollout_id) for p in twin.packages] == [
        (PackageKind.CONFIG, "lobby", "1.0", rollout.id)
    ]
    assert two.receives() is None
    _says(one, UpdateState.TRIAL)
    _says(one, UpdateState.COMMITTED)
    assert two.receives() is not None
    _says(two, UpdateState.COMMITTED)
    ended = hub.rollouts.get(ADMIN, rollout.id)
    assert (ended.state, ended.plan.what) == (RolloutState.SUCCEEDED, "config lobby 1.0")
    assert "champion" not in hub.registry.models(ADMIN)[0].aliases, "that is for models"


def test_a_package_that_fails_is_taken_back_to_the_version_before(hub: Hub) -> None:
    one, two = hub.device("cam-0"), hub.device("cam-1")
    for version in ("1.0", "1.1"):
        _publish(hub, version)
    launch(hub, "config: lobby\nversion: '1.0'")
    hub.tick()
    for device in (one, two):
        _says(device, UpdateState.COMMITTED)
        device.receives()
    (old,) = one.desired().packages
    rollout = launch(hub, "config: lobby\nversion: '1.1'")
    hub.tick()
    _says(one, UpdateState.COMMITTED)
    _says(two, UpdateState.FAILED, "no key 'rate'", installed=old)
    ended = hub.rollouts.get(ADMIN, rollout.id)
    assert (ended.state, "no key 'rate'" in ended.reason) == (RolloutState.FAILED, True)
    assert [row.reason for row in ended.devices] == ["sent back to lobby 1.0", "no key 'rate'"]
    for device in (one, two):
        assert [package.version for package in device.desired().packages] == ["1.0"]


def test_a_device_joins_whatever_another_tenant_did_with_one_of_its_id(hub: Hub) -> None:
    config = "config: lobby\nversion: '1.0'"
    for who in (ADMIN, OTHER):
        _publish(hub, "1.0", who=who)
    hub.device("cam-0")
    ours = launch(hub, config)
    hub.enrollment.create_device(OTHER, "cam-1", BOARD, {})
    theirs = hub.rollouts.launch(OTHER, rollout_spec.parse(config))
    hub.rollouts.abort(OTHER, theirs.id)
    hub.fleet.delete(OTHER, ids.device_id("cam-1"))
    hub.device("cam-1")
    hub.tick()
    assert members(hub, ours) == {"cam-0": 0, "cam-1": 0}


def test_rollouts_of_different_components_leave_each_other_alone(hub: Hub) -> None:
    device = hub.device("cam-0")
    _publish(hub, "1.0")
    model = launch(hub, 'model: signs\nversion: 1\nwindows: [{from: "22:00", to: "04:00"}]')
    settings = launch(hub, "config: lobby\nversion: '1.0'")
    hub.tick()
    twin = device.desired()
    assert (twin.rollout_id, [package.rollout_id for package in twin.packages]) == (model.id, [settings.id])
    assert len(twin.windows) == 1, "what is asked later does not open the window of what still waits in it"
    _says(device, UpdateState.COMMITTED)
    assert hub.rollouts.get(ADMIN, settings.id).state is RolloutState.SUCCEEDED
    assert hub.rollouts.get(ADMIN, model.id).state is RolloutState.RUNNING
    device.commits()
    assert hub.rollouts.get(ADMIN, model.id).state is RolloutState.SUCCEEDED


def test_a_model_that_commits_under_the_generation_of_before_a_package_was_asked_for_counts(hub: Hub) -> None:
    device = hub.device("cam-0")
    _publish(hub, "1.0")
    rollout = launch(hub, "model: signs\nversion: 1")
    old = device.desired()
    launch(hub, "config: lobby\nversion: '1.0'")
    assert device.desired().generation > old.generation
    device.report(UpdateState.TRIAL, twin=old)
    device.report(UpdateState.COMMITTED, twin=old)
    assert hub.rollouts.get(ADMIN, rollout.id).state is RolloutState.SUCCEEDED


def test_aborting_a_package_calls_it_off_and_leaves_the_model_alone(hub: Hub) -> None:
    device = hub.device("cam-0")
    _publish(hub, "1.0")
    launch(hub, "model: signs\nversion: 1")
    rollout = launch(hub, "config: lobby\nversion: '1.0'")
    hub.tick()
    hub.rollouts.abort(ADMIN, rollout.id)
    twin = device.desired()
    assert twin.packages == () and twin.model is not None and twin.model.name == SIGNS
