"""The whole way of a message: device, broker, database, and the answer back."""

from dataclasses import replace

from protos.contract import codec, topics
from protos.contract.ids import DeviceId
from protos.contract.telemetry import Lane
from protos.contract.twin import Health, Held, Presence, ReportedTwin, Status
from tests.hub.fleet_parts import ADMIN, BOARD, START, TENANT
from tests.hub.ingest.parts import Ingesting, down, up
from tests.hub.mqtt_parts import EPOCH, MqttClient, batch, wait_for


def reported(generation: int = 0) -> ReportedTwin:
    return ReportedTwin(
        generation=generation,
        boot_id="b1",
        agent_version="1.2.3",
        board=BOARD,
        at=START,
        health=Health(started_at=START, inferences=7),
        runtimes=("onnx",),
    )


def test_a_batch_becomes_a_row_and_the_device_hears_its_mark(on_each_broker: Ingesting) -> None:
    on_each_broker.hub.device("cam-a")
    device = on_each_broker.client("cam-a")
    on_each_broker.send(device, "cam-a", batch(0))
    on_each_broker.send(device, "cam-a", batch(10))
    on_each_broker.send(device, "cam-a", replace(batch(0), lane=Lane.CRITICAL))
    wait_for(lambda: device.marks() == {(EPOCH, Lane.NORMAL): 19, (EPOCH, Lane.CRITICAL): 9}, "the marks")
    [stats] = on_each_broker.telemetry.stats(ADMIN).devices
    assert (stats.device, stats.records) == ("cam-a", 30)
    counters = on_each_broker.ingest.counters
    assert (counters.batches, counters.records, counters.duplicates, counters.quarantined) == (3, 30, 0, 0)


def test_a_batch_sent_twice_is_stored_once_and_answered_again(running: Ingesting) -> None:
    running.hub.device("cam-a")
    device = running.client("cam-a")
    running.send(device, "cam-a", batch(0))
    wait_for(lambda: device.marks(), "the first mark")
    device.received.clear()
    running.send(device, "cam-a", batch(0))
    wait_for(lambda: device.marks() == {(EPOCH, Lane.NORMAL): 9}, "the second mark")
    assert running.stored("cam-a") == 1
    assert running.ingest.counters.duplicates == 1


def test_a_hole_holds_the_mark_back_until_it_is_filled(running: Ingesting) -> None:
    running.hub.device("cam-a")
    device = running.client("cam-a")
    running.send(device, "cam-a", batch(0))
    running.send(device, "cam-a", batch(20))
    wait_for(lambda: running.stored("cam-a") == 2, "both batches")
    wait_for(lambda: device.marks() == {(EPOCH, Lane.NORMAL): 9}, "the mark before the hole")
    running.send(device, "cam-a", batch(10))
    wait_for(lambda: device.marks() == {(EPOCH, Lane.NORMAL): 29}, "the mark behind the hole")


def test_a_device_goes_on_with_a_hub_that_lost_its_database(on_each_broker: Ingesting) -> None:
    """It has forgotten what the lost one had confirmed, and says so."""
    on_each_broker.hub.device("cam-a")
    device = on_each_broker.client("cam-a")
    on_each_broker.send(device, "cam-a", batch(500))
    wait_for(lambda: on_each_broker.stored("cam-a") == 1, "the batch")
    assert device.marks() == {}
    held = (Held(epoch=EPOCH, lane=Lane.NORMAL, oldest=500, next=510),)
    device.publish(up("cam-a", "reported"), codec.encode_reported(replace(reported(), held=held)))
    wait_for(lambda: device.marks() == {(EPOCH, Lane.NORMAL): 509}, "the mark")
    [event] = on_each_broker.telemetry.events(ADMIN, DeviceId("cam-a"))
    assert (event.kind, event.detail) == ("telemetry.lost", "500 records of epoch e1, lane normal: 0..499")


def test_status_and_reported_twin_reach_the_fleet(on_each_broker: Ingesting) -> None:
    on_each_broker.hub.device("cam-a")
    device = on_each_broker.client("cam-a")
    status = Status(presence=Presence.ONLINE, boot_id="b1", agent_version="1.2.3", at=START)
    device.publish(up("cam-a", "status"), codec.encode_status(status), retain=True)
    device.publish(up("cam-a", "reported"), codec.encode_reported(reported()))
    fleet, id = on_each_broker.hub.fleet, DeviceId("cam-a")
    wait_for(lambda: fleet.get(ADMIN, id).presence is Presence.ONLINE, "presence")
    wait_for(lambda: fleet.get(ADMIN, id).reported == reported(), "reported twin")


def test_the_broker_tells_when_a_device_vanishes(on_each_broker: Ingesting) -> None:
    on_each_broker.hub.device("cam-a")
    tls = on_each_broker.identity.device("cam-a")
    offline = codec.encode_status(Status(presence=Presence.OFFLINE, boot_id="b1", agent_version="1", at=START))
    device = MqttClient(on_each_broker.broker.address, tls, "cam-a", will=up("cam-a", "status"), will_payload=offline).ready()
    device.vanish()
    fleet = on_each_broker.hub.fleet
    wait_for(lambda: fleet.get(ADMIN, DeviceId("cam-a")).presence is Presence.OFFLINE, "offline")


def test_a_desired_twin_reaches_a_device_that_is_there(on_each_broker: Ingesting) -> None:
    on_each_broker.hub.device("cam-a")
    device = on_each_broker.client("cam-a")
    with on_each_broker.hub.db.write() as tx:
        twin = on_each_broker.hub.fleet.set_desired(tx, DeviceId("cam-a"), None, "r1")
    on_each_broker.ingest.wake()
    wait_for(lambda: device.payloads(down("cam-a", topics.DESIRED)) == [codec.encode_desired(twin)], "the desired twin")


def test_a_desired_twin_waits_for_a_device_that_is_away(on_each_broker: Ingesting) -> None:
    on_each_broker.hub.device("cam-a")
    with on_each_broker.hub.db.write() as tx:
        twin = on_each_broker.hub.fleet.set_desired(tx, DeviceId("cam-a"), None, "r1")
    wait_for(lambda: not on_each_broker.hub.fleet.undelivered(), "an empty outbox, though nobody woke the publisher")
    device = on_each_broker.client("cam-a")
    wait_for(lambda: device.payloads(down("cam-a", topics.DESIRED)) == [codec.encode_desired(twin)], "the desired twin")


def test_what_a_device_reports_moves_a_rollout_and_its_next_twin_goes_out(running: Ingesting) -> None:
    hub = running.hub
    hub.device("cam-a")
    device = running.client("cam-a")
    device.publish(up("cam-a", "reported"), codec.encode_reported(reported()))
    wait_for(lambda: hub.fleet.get(ADMIN, DeviceId("cam-a")).reported, "reported twin")
    status = Status(presence=Presence.ONLINE, boot_id="b1", agent_version="1.2.3", at=START)
    device.publish(up("cam-a", "status"), codec.encode_status(status))
    version = hub.publish()
    hub.rollouts.create(ADMIN, version.name, version.version, {}, canary=0, soak_s=0, max_failures=0)
    hub.tick()
    wait_for(lambda: device.payloads(down("cam-a", topics.DESIRED)), "the desired twin")
    twin = codec.decode_desired(device.payloads(down("cam-a", topics.DESIRED))[-1])
    assert twin.model is not None
    assert (twin.model.name, twin.model.version) == (version.name, version.version)


def test_devices_of_another_tenant_are_kept_apart(running: Ingesting) -> None:
    running.hub.device("cam-a")
    device = running.client("cam-a")
    running.send(device, "cam-a", batch(0), tenant="other")
    wait_for(lambda: running.ingest.counters.quarantined == 1, "quarantine")
    assert running.stored("cam-a") == 0
    running.send(device, "cam-a", batch(0), tenant=TENANT)
    wait_for(lambda: running.stored("cam-a") == 1, "the good batch")
