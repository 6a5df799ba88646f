"""Crashes of every part, and poison: nothing is lost, nothing counts twice, good traffic flows on."""

import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from cloud_hub.broker import mosquitto
from cloud_hub.broker.mosquitto import MosquittoBroker
from cloud_hub.core.config import IngestConfig
from cloud_hub.services.telemetry import Incoming, Landed, TelemetryService
from cloud_hub.store.database import Tx
from protos.contract import codec, topics
from protos.contract.ids import DeviceId
from protos.contract.telemetry import Lane
from protos.contract.twin import Presence, Status
from tests.hub.fleet_parts import ADMIN, START
from tests.hub.ingest.parts import Ingesting, Repeating, down, up
from tests.hub.ingest.test_way import reported
from tests.hub.mqtt_parts import EPOCH, batch, wait_for

KINDS = ("status", "reported", "telemetry/critical", "telemetry/normal", "telemetry/bulk")


class FailingTelemetry(TelemetryService):
    """The real service, whose database fails as often as it is told."""

    failures: list[Exception]

    def land_many(self, tx: Tx, messages: Sequence[Incoming]) -> list[Landed]:
        landed = super().land_many(tx, messages)
        if messages and self.failures:
            raise self.failures.pop()
        return landed


def failing(running: Ingesting, *failures: Exception) -> None:
    """Swap the ingest of ``running`` for one whose telemetry service fails."""
    telemetry = FailingTelemetry(running.hub.db, running.hub.clock)
    telemetry.failures = list(failures)
    running.ingest.stop()
    running.ingest = running.new_ingest(telemetry)
    running.start_ingest()


def test_while_the_database_fails_nothing_is_acknowledged_and_then_everything_lands(running: Ingesting) -> None:
    full = OperationalError("insert", {}, Exception("database or disk is full"))
    failing(running, *[full] * 3)
    running.hub.device("cam-a")
    device = running.client("cam-a")
    for first in range(0, 100, 10):
        running.send(device, "cam-a", batch(first))
    wait_for(lambda: device.marks() == {(EPOCH, Lane.NORMAL): 99}, "the mark")
    assert running.stored("cam-a") == 10
    assert running.ingest.counters.quarantined == 0


def test_a_message_that_brings_out_a_bug_goes_to_quarantine_and_the_others_land(running: Ingesting) -> None:
    failing(running, ZeroDivisionError("bug"), ZeroDivisionError("bug"))
    running.hub.device("cam-a")
    device = running.client("cam-a")
    running.send(device, "cam-a", batch(0), wait=False)
    running.send(device, "cam-a", batch(10), wait=False)
    running.send(device, "cam-a", batch(20), wait=False)
    wait_for(lambda: running.ingest.counters.messages == 3, "all three")
    assert running.ingest.counters.quarantined + running.ingest.counters.batches == 3
    assert running.stored("cam-a") >= 2
    assert all("internal error: ZeroDivisionError" in reason for reason in running.reasons())


def test_a_hub_that_can_land_nothing_says_so_loudly_and_not_for_every_message(
    running: Ingesting, caplog: pytest.LogCaptureFixture
) -> None:
    failing(running, *[ZeroDivisionError("bug")] * 1000)
    running.hub.device("cam-a")
    device = running.client("cam-a")
    for first in range(0, 200, 10):
        running.send(device, "cam-a", batch(first), wait=False)
    wait_for(lambda: running.ingest.counters.quarantined == 20, "all of them in quarantine")
    [said] = [record for record in caplog.records if record.levelname == "ERROR" and "report this bug" in record.message]
    assert said.exc_info is not None


def test_a_hub_killed_between_landing_and_acknowledging_stores_once(tmp_path: Path) -> None:
    made = Ingesting(tmp_path)
    made.broker.start()
    made.ingest.start()  # makes the persistent session
    wait_for(lambda: made.ingest.ready, "ingest is connected")
    made.ingest.stop()
    made.hub.device("cam-a")
    device = made.client("cam-a")
    for first in range(0, 200, 10):
        made.send(device, "cam-a", batch(first))
    script = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from cloud_hub.core.ports import BrokerAddress, TlsFiles
        from cloud_hub.ingest.link import Link
        from tests.hub.ingest.parts import Ingesting
        Link.ack = lambda self, group: os.kill(os.getpid(), signal.SIGKILL)  # the worst moment
        made = Ingesting(Path({str(tmp_path)!r}), broker_address={made.broker.local!r}, tls={made.broker.hub_tls!r},
                         share_tls={made.broker.ingest_tls!r})
        made.ingest.start()
        signal.pause()
    """).replace("PosixPath", "Path")
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert made.stored("cam-a") > 0, "it was killed before it had committed"
    made.ingest = made.new_ingest()
    made.start_ingest()
    wait_for(lambda: device.marks() == {(EPOCH, Lane.NORMAL): 199}, "the mark")
    assert made.stored("cam-a") == 20
    assert made.ingest.counters.messages == 20, "all were delivered again"
    made.stop()


def test_the_broker_is_killed_and_ingest_goes_on(running: Ingesting) -> None:
    broker = running.broker
    assert isinstance(broker, MosquittoBroker)
    running.hub.device("cam-a")
    with running.hub.db.write() as tx:
        twin = running.hub.fleet.set_desired(tx, DeviceId("cam-a"), None, "r1")
    wait_for(lambda: not running.hub.fleet.undelivered(), "the outbox is empty")
    first = broker.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: broker.pid not in (None, first) and running.ingest.ready, "both are back")
    device = running.client("cam-a")
    running.send(device, "cam-a", batch(0))
    wait_for(lambda: device.marks() == {(EPOCH, Lane.NORMAL): 9}, "the mark")
    wait_for(lambda: device.payloads(down("cam-a", topics.DESIRED)) == [codec.encode_desired(twin)], "the desired twin, again")


def test_what_was_sent_while_ingest_was_away_lands_when_it_is_back(running: Ingesting) -> None:
    running.hub.device("cam-a")
    running.ingest.stop()
    device = running.client("cam-a")
    for first in range(0, 3000, 10):
        running.send(device, "cam-a", batch(first), wait=False)
    running.ingest = running.new_ingest()
    running.start_ingest()
    wait_for(lambda: device.marks() == {(EPOCH, Lane.NORMAL): 2999}, "the mark")
    assert running.stored("cam-a") == 300


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
@pytest.mark.parametrize("limit", [{"queue_messages": 5}, {"queue_bytes": 1000}], ids=["messages", "bytes"])
def test_a_small_queue_holds_the_broker_back_and_loses_nothing(tmp_path: Path, kind: str, limit: dict[str, int]) -> None:
    made = Ingesting(tmp_path, kind, config=IngestConfig(group_messages=3, group_wait_s=0.001, **limit)).start()
    made.hub.device("cam-a")
    device = made.client("cam-a")
    for first in range(0, 2000, 10):
        made.send(device, "cam-a", batch(first), wait=False)
    wait_for(lambda: device.marks() == {(EPOCH, Lane.NORMAL): 1999}, "the mark")
    assert made.stored("cam-a") == 200
    made.stop()


def test_what_a_full_queue_of_the_broker_drops_the_device_sends_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tight = {"max_inflight_messages 20000": "max_inflight_messages 3", "max_queued_messages 100000": "max_queued_messages 10"}
    for usual, small in tight.items():
        assert usual in mosquitto._CONFIG
        monkeypatch.setattr(mosquitto, "_CONFIG", mosquitto._CONFIG.replace(usual, small))
    made = Ingesting(tmp_path).start()
    made.ingest.stop()
    device = Repeating(made, "cam-a", [batch(first) for first in range(0, 2000, 10)])
    for _ in range(60):  # all of it, while nobody takes it
        assert not device.done()
    made.ingest = made.new_ingest()
    made.start_ingest()
    wait_for(device.done, "the mark")
    assert made.stored("cam-a") == 200
    assert made.ingest.counters.batches == 200
    made.stop()


def test_what_is_above_the_quota_is_not_stored_until_the_device_keeps_to_it(tmp_path: Path) -> None:
    size = len(codec.encode_batch(batch(0)))
    config = IngestConfig(group_messages=10, group_wait_s=0.001, device_bytes_per_s=10 * size, device_burst_bytes=20 * size)
    made = Ingesting(tmp_path, config=config).start()
    greedy = Repeating(made, "cam-a", [batch(first) for first in range(0, 600, 10)], patience_s=0.1)
    other = Repeating(made, "cam-b", [batch(0), batch(10)])
    wait_for(lambda: not greedy.done() and made.ingest.counters.throttled > 10, "the greedy device to be throttled")
    assert made.stored("cam-a") < 25
    wait_for(other.done, "the other device is served as ever")

    def served() -> bool:
        made.hub.clock.advance(0.1)
        return greedy.done()

    wait_for(served, "everything, in the end")
    assert made.stored("cam-a") == 60
    events = made.telemetry.events(ADMIN, DeviceId("cam-a"))
    assert [event.kind for event in events] == ["telemetry.throttled"]
    made.stop()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "poison",
    [
        b"",
        b"\0",
        b"{}",
        b'{"lone": "\\ud800"}',
        b"\xff" * 100,
        b"\x28\xb5\x2f\xfd",
        b"\0" * (1 << 20),
        b"\x28\xb5\x2f\xfd" + b"\xff" * 99,
    ],
    ids=["empty", "zero", "json", "surrogate", "ones", "bare zstd", "huge", "bad zstd"],
)
def test_poison_is_quarantined_with_its_reason_on_every_topic(running_module: Ingesting, kind: str, poison: bytes) -> None:
    running = running_module
    before = running.ingest.counters.quarantined
    device = running.shared_client("cam-a")
    device.publish(up("cam-a", kind), poison)
    wait_for(lambda: running.ingest.counters.quarantined == before + 1, "quarantine")
    assert all(running.reasons())


def test_topics_that_are_none_are_quarantined(running_module: Ingesting) -> None:
    running = running_module
    before = running.ingest.counters.quarantined
    device = running.shared_client("cam-a")
    bad = ["telemetry", "telemetry/urgent", "telemetry/NORMAL", "telemetry/normal/x", "nothing", "", "\N{ROCKET}"]
    for kind in ["status/x", *bad]:  # to the first nobody subscribes
        device.publish(up("cam-a", kind), codec.encode_batch(batch(0)))
    device.publish(up("cam-a", "status", tenant="Not A Tenant"), b"x")
    wait_for(lambda: running.ingest.counters.quarantined == before + len(bad) + 1, "quarantine")


def test_an_unknown_device_is_quarantined_whatever_it_says(running: Ingesting) -> None:
    device = running.client("ghost")
    status = Status(presence=Presence.ONLINE, boot_id="b", agent_version="1", at=START)
    device.publish(up("ghost", "status"), codec.encode_status(status))
    device.publish(up("ghost", "reported"), codec.encode_reported(reported()))
    running.send(device, "ghost", batch(0))
    wait_for(lambda: running.ingest.counters.quarantined == 3, "quarantine")
    assert all("no device ghost" in reason for reason in running.reasons())
    assert device.received == []


def test_a_batch_on_the_topic_of_another_lane_is_quarantined(running: Ingesting) -> None:
    running.hub.device("cam-a")
    device = running.client("cam-a")
    device.publish(up("cam-a", "telemetry/critical"), codec.encode_batch(batch(0, lane=Lane.BULK)))
    wait_for(lambda: running.ingest.counters.quarantined == 1, "quarantine")
    assert "lane bulk" in running.reasons()[0]


def test_a_cloned_device_is_quarantined_and_told_about(running: Ingesting) -> None:
    running.hub.device("cam-a")
    device = running.client("cam-a")
    running.send(device, "cam-a", batch(0))
    wait_for(device.marks, "the mark")
    device.received.clear()
    running.send(device, "cam-a", batch(0, salt=1))
    wait_for(lambda: running.ingest.counters.quarantined == 1, "quarantine")
    wait_for(lambda: device.marks() == {(EPOCH, Lane.NORMAL): 9}, "the mark, which tells it that it is not alone")
    assert running.stored("cam-a") == 1
    assert "two devices use one identity" in running.reasons()[0]


def mutants(seed: int, count: int) -> list[bytes]:
    """Valid messages with bytes flipped, cut, doubled and inserted."""
    rng = random.Random(seed)
    seeds = [
        codec.encode_batch(batch(0), compress=False),
        codec.encode_batch(batch(0)),
        codec.encode_reported(reported()),
        codec.encode_status(Status(presence=Presence.ONLINE, boot_id="b", agent_version="1", at=START)),
    ]
    ways: list[Callable[[bytearray], bytes]] = [
        lambda data: bytes(data[: rng.randrange(len(data))]),
        lambda data: bytes(data[rng.randrange(len(data)) :]),
        lambda data: bytes(data + data),
        lambda data: bytes(byte ^ (rng.random() < 0.05) * rng.randrange(256) for byte in data),
        lambda data: bytes(data[:4] + rng.randbytes(8) + data[4:]),
    ]
    return [rng.choice(ways)(bytearray(rng.choice(seeds))) for _ in range(count)]


def test_a_thousand_mutants_do_no_harm_and_good_traffic_flows_on(running: Ingesting) -> None:
    running.hub.device("cam-bad")
    running.hub.device("cam-good")
    bad, good = running.client("cam-bad"), running.client("cam-good")
    rng = random.Random(4)
    for payload in mutants(3, 1000):
        bad.publish(up("cam-bad", rng.choice(KINDS)), payload, wait=False)
    wait_for(lambda: running.ingest.counters.messages == 1000, "all the poison")
    running.send(good, "cam-good", batch(0))
    wait_for(lambda: good.marks() == {(EPOCH, Lane.NORMAL): 9}, "the mark of the good device")
    assert running.ingest.alive()
    assert running.ingest.counters.quarantined > 500
