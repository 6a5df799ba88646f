"""Rollouts over the wire, and watching one."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import grpc
import pytest

from protos.contract.ids import DeviceId
from protos.contract.twin import Health, ReportedTwin, UpdateStatus
from protos.contract.update import UpdateState
from protos.v1 import fleet_pb2, rollouts_pb2_grpc
from protos.v1 import rollouts_pb2 as pb
from tests.hub.rpc.running import ADMIN, RunningHub

DEADLINE_S = 20.0


@pytest.fixture
def stub(hub: RunningHub) -> Iterator[rollouts_pb2_grpc.RolloutsStub]:
    with hub.channel(hub.user) as channel:
        yield rollouts_pb2_grpc.RolloutsStub(channel)


def report(hub: RunningHub, device: str, state: UpdateState) -> None:
    """As ingest hands over what a device says."""
    now = datetime.now(UTC)
    desired = hub.services.fleet.get(ADMIN, DeviceId(device)).desired
    assert desired.model is not None
    update = UpdateStatus(
        generation=desired.generation, state=state, model=desired.model, at=now, rollout_id=desired.rollout_id, reason="why"
    )
    twin = ReportedTwin(
        generation=desired.generation,
        boot_id="b",
        agent_version="1",
        board="camera-x86",
        at=now,
        health=Health(started_at=now),
        runtimes=("onnx",),
        model=desired.model,
        update=update,
    )
    with hub.db.write() as tx:
        hub.services.fleet.on_reported(tx, ADMIN.tenant, DeviceId(device), twin)
        hub.services.rollouts.on_reported(tx, DeviceId(device), twin)


def started(hub: RunningHub, stub: rollouts_pb2_grpc.RolloutsStub, name: str) -> pb.Rollout:
    """One device, one wave."""
    hub.device(f"cam-{name}")
    hub.publish(name)
    selector = fleet_pb2.Selector(match={"id": f"cam-{name}"})
    return stub.CreateRollout(pb.CreateRolloutRequest(model=name, version=1, selector=selector))


def test_a_watch_sends_every_change_and_ends_with_the_rollout(hub: RunningHub, stub: rollouts_pb2_grpc.RolloutsStub) -> None:
    rollout = started(hub, stub, "watched")
    watch = stub.WatchRollout(pb.GetRolloutRequest(id=rollout.id), timeout=DEADLINE_S)
    first = next(watch)
    assert (first.state, first.created_by) == (pb.ROLLOUT_STATE_RUNNING, "ada")
    report(hub, "cam-watched", UpdateState.TRIAL)
    states = [next(watch).devices[0].state]
    report(hub, "cam-watched", UpdateState.COMMITTED)
    rest = list(watch)
    assert states[0] == int(UpdateState.TRIAL)
    assert rest[-1].state == pb.ROLLOUT_STATE_SUCCEEDED
    assert rest[-1].ended_at_ms >= rest[-1].created_at_ms > 0


def test_a_watch_ends_when_its_client_leaves(
    hub: RunningHub, stub: rollouts_pb2_grpc.RolloutsStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, left = threading.Event(), threading.Event()

    async def forever(_: float) -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            left.set()
            raise

    monkeypatch.setattr("cloud_hub.rpc.rollouts.sleep", forever)
    watch = stub.WatchRollout(pb.GetRolloutRequest(id=started(hub, stub, "left").id), timeout=DEADLINE_S)
    next(watch)
    assert waiting.wait(DEADLINE_S)
    watch.cancel()
    assert left.wait(DEADLINE_S)


def test_a_rollout_is_paused_resumed_and_aborted_once(hub: RunningHub, stub: rollouts_pb2_grpc.RolloutsStub) -> None:
    action = pb.RolloutActionRequest(id=started(hub, stub, "acted").id)
    assert stub.PauseRollout(action).state == pb.ROLLOUT_STATE_PAUSED
    assert stub.ResumeRollout(action).state == pb.ROLLOUT_STATE_RUNNING
    assert stub.AbortRollout(action).state == pb.ROLLOUT_STATE_ABORTED
    with pytest.raises(grpc.RpcError) as refused:
        stub.AbortRollout(action)
    assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert action.id in [rollout.id for rollout in stub.ListRollouts(pb.ListRolloutsRequest()).rollouts]
    assert action.id not in [rollout.id for rollout in stub.ListRollouts(pb.ListRolloutsRequest(active_only=True)).rollouts]


def test_a_listing_comes_in_pages_and_leaves_the_devices_out(hub: RunningHub, stub: rollouts_pb2_grpc.RolloutsStub) -> None:
    made = [started(hub, stub, f"page-{number}").id for number in range(3)]
    first = stub.ListRollouts(pb.ListRolloutsRequest(page_size=2))
    assert [rollout.id for rollout in first.rollouts] == made[:0:-1]
    second = stub.ListRollouts(pb.ListRolloutsRequest(page_size=2, page_token=first.next_page_token))
    assert second.rollouts[0].id == made[0]
    assert not any(rollout.devices for rollout in (*first.rollouts, *second.rollouts))


PLAN = """
model: {name}
version: challenger
selector: {{line: {name}}}
waves: [{{count: 1}}, {{rest: true, approval: true}}]
soak_s: 0
start: manual
"""


def test_a_plan_is_started_approved_and_seen_by_waves(hub: RunningHub, stub: rollouts_pb2_grpc.RolloutsStub) -> None:
    for number in range(3):
        hub.device(f"cam-plan-{number}")
        hub.services.fleet.set_labels(ADMIN, DeviceId(f"cam-plan-{number}"), {"line": "planned"})
    hub.publish("planned")
    made = stub.CreateRollout(pb.CreateRolloutRequest(plan_yaml=PLAN.format(name="planned")))
    assert (made.state, made.component, made.version) == (pb.ROLLOUT_STATE_SCHEDULED, "model", 1)
    action = pb.RolloutActionRequest(id=made.id)
    started = stub.StartRollout(action)
    assert [(wave.title, wave.waiting + wave.pending, wave.approval) for wave in started.standings] == [
        ("1 device", 1, False),
        ("the rest", 2, True),
    ]
    report(hub, started.devices[0].device_id, UpdateState.COMMITTED)
    waiting = stub.GetRollout(pb.GetRolloutRequest(id=made.id))
    assert (waiting.state, waiting.wave) == (pb.ROLLOUT_STATE_AWAITING_APPROVAL, 1)
    approved = stub.ApproveRollout(action)
    assert (approved.state, approved.standings[1].approved_by, approved.standings[1].pending) == (
        pb.ROLLOUT_STATE_RUNNING,
        "ada",
        2,
    )
    assert '"approval":true' in approved.plan_json
    stub.AbortRollout(action)


def test_devices_come_in_pages_and_by_state(hub: RunningHub, stub: rollouts_pb2_grpc.RolloutsStub) -> None:
    rollout = started(hub, stub, "listed")
    report(hub, "cam-listed", UpdateState.TRIAL)
    request = pb.ListRolloutDevicesRequest(id=rollout.id, state=int(UpdateState.TRIAL))  # type: ignore[arg-type]
    (device,) = stub.ListRolloutDevices(request).devices
    assert (device.device_id, device.asked_at_ms > 0, device.ended_at_ms) == ("cam-listed", True, 0)
    request.state = int(UpdateState.COMMITTED)  # type: ignore[assignment]
    assert not stub.ListRolloutDevices(request).devices
    for bad in (
        pb.ListRolloutDevicesRequest(id=rollout.id, page_token="x y"),
        pb.ListRolloutDevicesRequest(id=rollout.id, state=99),  # type: ignore[arg-type]  # no state of the contract
    ):
        with pytest.raises(grpc.RpcError) as refused:
            stub.ListRolloutDevices(bad)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_plan_that_cannot_be_used_is_invalid_and_names_the_key(hub: RunningHub, stub: rollouts_pb2_grpc.RolloutsStub) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        stub.CreateRollout(pb.CreateRolloutRequest(plan_yaml="model: a\nversion: 1\nsokat_s: 3"))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "sokat_s" in (refused.value.details() or "")
