"""The MQTT link and the uplink against a real broker."""

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from edge_agent.core.clock import SystemClock
from edge_agent.core.config import SpoolConfig, SyncConfig
from edge_agent.core.errors import ConfigError, LinkDown
from edge_agent.spool.sqlite import SqliteSpool
from edge_agent.sync import identity as identities
from edge_agent.sync.identity import Identity, Receipt
from edge_agent.sync.mqtt import MqttLink
from edge_agent.sync.uplink import SEND_AHEAD_BYTES, Uplink
from protos.contract.codec import decode_batch, decode_status, encode_desired, encode_watermark
from protos.contract.telemetry import Lane, Mark
from protos.contract.twin import DesiredTwin, Health, Presence, ReportedTwin
from tests.agent.spool.parts import happening, outcome
from tests.agent.sync.authority import Authority
from tests.agent.sync.broker import Mosquitto, Observer, free_port, wait_for

SYNC = SyncConfig(keepalive_s=5, in_flight=4, stall_s=60.0, backoff_min_s=0.05, backoff_max_s=0.2)
SPOOL = SpoolConfig(batch_records=5, linger_s=60.0, commit_interval_s=0.01)
BASE = "tl/v1/default/cam-1"


@pytest.fixture(params=[5, 4], ids=["mqtt5", "mqtt3.1.1"])
def identity(request: pytest.FixtureRequest, tmp_path: Path, authority: Authority, broker: Mosquitto) -> Identity:
    return authority.identity(tmp_path / "device", "cam-1", port=broker.port, protocol=request.param)


@pytest.fixture
def link(identity: Identity) -> Iterator[MqttLink]:
    made = MqttLink(identity, SYNC, SystemClock(), "boot-1", "0.1.0")
    yield made
    made.close()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[SqliteSpool]:
    made = SqliteSpool(tmp_path / "spool.db", SPOOL, SystemClock())
    yield made
    made.close()


@pytest.fixture
def uplink(spool: SqliteSpool, link: MqttLink) -> Iterator[Uplink]:
    made = Uplink(spool, link, SYNC, SystemClock())
    yield made
    made.stop()


def telemetry(observer: Observer, lane: str = "normal") -> bytes:
    return observer.expect(lambda topic, _, retained: topic == f"{BASE}/up/telemetry/{lane}" and not retained)


def presence(observer: Observer, wanted: Presence) -> None:
    observer.expect(lambda topic, payload, _: topic == f"{BASE}/up/status" and decode_status(payload).presence == wanted)


def fill(spool: SqliteSpool, batches: int, lane: Lane = Lane.NORMAL) -> None:
    for i in range(batches * SPOOL.batch_records):
        spool.append(outcome(i), lane)
        if i % SPOOL.batch_records == SPOOL.batch_records - 1:
            spool.flush()


def test_a_record_reaches_a_subscriber(spool: SqliteSpool, link: MqttLink, uplink: Uplink, observer: Observer) -> None:
    link.start()
    uplink.start()
    fill(spool, 1)
    batch = decode_batch(telemetry(observer))
    assert (batch.epoch, batch.lane, batch.first_sequence, batch.last_sequence) == (spool.epoch, Lane.NORMAL, 0, 4)


def test_only_a_watermark_makes_the_spool_forget(
    spool: SqliteSpool, link: MqttLink, uplink: Uplink, observer: Observer
) -> None:
    link.start()
    uplink.start()
    fill(spool, 2)
    for _ in range(2):
        telemetry(observer)
    link.publish_reported(_reported())
    observer.expect(lambda topic, *_: topic == f"{BASE}/up/reported")  # the broker has acknowledged both batches by now
    assert spool.stats().records == 10
    mark = Mark(epoch=spool.epoch, lane=Lane.NORMAL, committed_through=4)
    observer.publish(f"{BASE}/down/watermark", encode_watermark((mark,)))
    wait_for(lambda: spool.stats().records == 5, "the first batch to be forgotten")
    assert [b.first_sequence for b, _ in spool.batches(after=None, lane=Lane.NORMAL, limit=9)] == [5]


def test_no_more_than_the_window_is_under_way(spool: SqliteSpool, link: MqttLink, uplink: Uplink, observer: Observer) -> None:
    fill(spool, 10)
    link.start()
    uplink.start()
    for i in range(SYNC.in_flight):
        assert decode_batch(telemetry(observer)).first_sequence == 5 * i
    spool.append(happening(), Lane.CRITICAL)  # not cut: the lane is far from full, so nothing else may come
    observer.publish(f"{BASE}/down/watermark", encode_watermark((_mark(spool, 9),)))
    assert decode_batch(telemetry(observer)).first_sequence == 5 * SYNC.in_flight
    assert decode_batch(telemetry(observer)).first_sequence == 5 * SYNC.in_flight + 5


def test_lanes_go_by_priority(spool: SqliteSpool, link: MqttLink, uplink: Uplink, observer: Observer) -> None:
    fill(spool, 1, Lane.BULK)
    fill(spool, 1, Lane.NORMAL)
    for _ in range(5):
        spool.append(happening(), Lane.CRITICAL)
    link.start()
    uplink.start()
    seen = [decode_batch(observer.expect(lambda topic, *_: "/up/telemetry/" in topic)).lane for _ in range(3)]
    assert seen == [Lane.CRITICAL, Lane.NORMAL, Lane.BULK]


def test_a_broker_that_dies_gets_everything_unacknowledged_again_byte_for_byte(
    spool: SqliteSpool, link: MqttLink, uplink: Uplink, observer: Observer, broker: Mosquitto
) -> None:
    link.start()
    uplink.start()
    fill(spool, 3)
    before = [telemetry(observer) for _ in range(3)]
    observer.publish(f"{BASE}/down/watermark", encode_watermark((_mark(spool, 4),)))
    wait_for(lambda: spool.stats().records == 10, "the first batch to be forgotten")
    broker.kill()
    wait_for(lambda: not link.connected, "the link to notice")
    with pytest.raises(LinkDown):
        link.publish_reported(_reported())
    fill(spool, 1)
    uplink.stop()  # held back until the observer listens again: a broker keeps nothing for who is away
    broker.start()
    observer.wait_until_listening()
    wait_for(lambda: link.connected, "the link to come back")
    again = Uplink(spool, link, SYNC, SystemClock())
    again.start()
    after = [telemetry(observer) for _ in range(3)]
    again.stop()
    assert after[:2] == before[1:]
    assert decode_batch(after[2]).first_sequence == 15


def test_without_a_watermark_everything_is_sent_again_after_a_while(
    spool: SqliteSpool, link: MqttLink, observer: Observer
) -> None:
    impatient = Uplink(spool, link, SyncConfig(in_flight=4, stall_s=0.2), SystemClock())
    link.start()
    impatient.start()
    fill(spool, 2)
    seen = [telemetry(observer) for _ in range(4)]
    impatient.stop()
    assert seen[2:] == seen[:2]


def test_a_watermark_beyond_everything_sends_it_again_in_a_new_epoch(
    spool: SqliteSpool, link: MqttLink, uplink: Uplink, observer: Observer
) -> None:
    link.start()
    uplink.start()
    fill(spool, 1)
    first = decode_batch(telemetry(observer))
    foreign = Mark(epoch="deadbeef", lane=Lane.NORMAL, committed_through=4)
    observer.publish(f"{BASE}/down/watermark", encode_watermark((foreign, _mark(spool, 1 << 60))))
    assert [event.kind for event in decode_batch(telemetry(observer, "critical")).events] == ["spool.foreign_mark"]
    again = decode_batch(telemetry(observer))
    assert again.epoch == spool.epoch != first.epoch
    assert (again.first_sequence, again.inferences) == (0, first.inferences)


def test_a_broker_that_hangs_is_owed_little_and_gets_the_rest_once_it_wakes(
    spool: SqliteSpool, identity: Identity, observer: Observer, broker: Mosquitto
) -> None:
    wide = SyncConfig(keepalive_s=60, in_flight=5000, in_flight_bytes=64 << 20, stall_s=60.0)
    link = MqttLink(identity, wide, SystemClock(), "boot-1", "0.1.0")
    uplink = Uplink(spool, link, wide, SystemClock())
    link.start()
    wait_for(lambda: link.connected and link.unacknowledged_bytes == 0, "the link")
    broker.pause()
    try:
        for _ in range(300):
            for _ in range(SPOOL.batch_records):
                spool.append(happening(detail=os.urandom(200).hex()), Lane.NORMAL)
            spool.flush()
        uplink.start()
        wait_for(lambda: link.unacknowledged_bytes >= SEND_AHEAD_BYTES, "a full line")
        sent = uplink.stats().sent_batches
        uplink.wake()
        assert link.unacknowledged_bytes < SEND_AHEAD_BYTES + 4096
        assert uplink.stats().sent_batches == sent < 300
        assert uplink.stats().stalls == 0
    finally:
        broker.resume()
    firsts = [decode_batch(telemetry(observer)).first_sequence for _ in range(300)]
    assert firsts == [5 * i for i in range(300)]
    uplink.stop()
    link.close()


def test_the_bytes_of_a_connection_are_counted_with_their_headers(
    spool: SqliteSpool, link: MqttLink, uplink: Uplink, observer: Observer
) -> None:
    link.start()
    wait_for(lambda: link.connected and link.unacknowledged_bytes == 0, "the link")
    idle = link.traffic_bytes
    assert idle > 1500, "a handshake with certificates is not free"
    for _ in range(SPOOL.batch_records):
        spool.append(happening(detail=os.urandom(400).hex()))
    spool.flush()
    uplink.start()
    size = len(telemetry(observer))
    wait_for(lambda: link.unacknowledged_bytes == 0, "the acknowledgement")
    assert size < link.traffic_bytes - idle < size + 1500


def test_the_desired_twin_arrives_retained_and_live(link: MqttLink, observer: Observer) -> None:
    arrived: queue.Queue[DesiredTwin] = queue.Queue()
    link.on_desired(arrived.put)
    observer.publish(f"{BASE}/down/desired", encode_desired(DesiredTwin(generation=3)), retain=True)
    link.start()
    assert arrived.get(timeout=20).generation == 3
    observer.publish(f"{BASE}/down/desired", encode_desired(DesiredTwin(generation=4)), retain=True)
    assert arrived.get(timeout=20).generation == 4


@pytest.mark.parametrize("topic", ["desired", "watermark"])
def test_a_malformed_message_is_counted_and_what_follows_is_read(
    link: MqttLink, observer: Observer, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    arrived: queue.Queue[object] = queue.Queue()
    link.on_desired(arrived.put)
    link.on_watermark(arrived.put)
    observer.publish(f"{BASE}/down/desired", encode_desired(DesiredTwin(generation=1)), retain=True)
    link.start()
    assert arrived.get(timeout=20) == DesiredTwin(generation=1)  # subscribed by now
    observer.publish(f"{BASE}/down/{topic}", b"\xff\xff not protobuf")
    observer.publish(f"{BASE}/down/desired", b"")
    observer.publish(f"{BASE}/down/desired", encode_desired(DesiredTwin(generation=9)))
    assert arrived.get(timeout=20) == DesiredTwin(generation=9)
    assert link.rejected == 1
    assert f"{BASE}/down/{topic}" in [getattr(record, "topic", "") for record in caplog.records]


def test_a_listener_with_a_bug_does_not_end_the_connection(link: MqttLink, observer: Observer) -> None:
    arrived: queue.Queue[DesiredTwin] = queue.Queue()

    def broken(_: DesiredTwin) -> None:
        raise RuntimeError("bug")

    link.on_desired(broken)
    link.on_desired(arrived.put)
    link.start()
    for generation in (1, 2):
        observer.publish(f"{BASE}/down/desired", encode_desired(DesiredTwin(generation=generation)), retain=True)
        assert arrived.get(timeout=20).generation == generation


def test_presence_is_told_on_connect_and_at_close(link: MqttLink, observer: Observer) -> None:
    link.start()
    presence(observer, Presence.ONLINE)
    link.close()
    status = observer.expect(lambda topic, *_: topic == f"{BASE}/up/status")
    assert decode_status(status).presence is Presence.STOPPED
    assert decode_status(status).boot_id == "boot-1"
    link.close()


def test_the_will_is_delivered_when_the_device_is_killed(identity: Identity, observer: Observer) -> None:
    code = (
        "import sys, threading\nfrom pathlib import Path\n"
        "from edge_agent.core.clock import SystemClock\nfrom edge_agent.core.config import SyncConfig\n"
        "from edge_agent.sync import identity\nfrom edge_agent.sync.mqtt import MqttLink\n"
        "MqttLink(identity.load(Path(sys.argv[1])), SyncConfig(), SystemClock(), 'boot-9', '0').start()\n"
        "threading.Event().wait()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(identity.folder.parent)])
    try:
        presence(observer, Presence.ONLINE)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    presence(observer, Presence.OFFLINE)


def test_a_broker_of_another_authority_is_not_trusted(tmp_path: Path, broker: Mosquitto) -> None:
    stranger = Authority().identity(tmp_path / "stranger", "cam-1", port=broker.port)
    link = MqttLink(stranger, SYNC, SystemClock(), "b", "0")
    failed = time.monotonic() + 1.0
    link.start()
    wait_for(lambda: link.connected or time.monotonic() > failed, "a few tries")
    assert not link.connected
    link.close()


def test_a_renewed_certificate_is_connected_with_at_once_and_nothing_is_lost_or_said_offline(
    identity: Identity, link: MqttLink, spool: SqliteSpool, uplink: Uplink, observer: Observer, authority: Authority
) -> None:
    refused: list[str] = []
    link.on_refused(refused.append)
    link.start()
    uplink.start()
    wait_for(lambda: link.connected, "the connection")
    for turn in range(1, 6):
        fill(spool, 2)
        key, certificate = authority.issue("cam-1")
        identities.save(identity, key_pem=key, certificate_pem=certificate, ca_pem=authority.pem)
        link.renewed()
        wait_for(lambda at=turn: link.connects > at, "the next connection")  # type: ignore[misc]  # of a default
    expected = set(range(10 * SPOOL.batch_records))
    seen: set[int] = set()
    statuses: list[Presence] = []

    def complete(topic: str, payload: bytes, _: bool) -> bool:
        if topic == f"{BASE}/up/status":
            statuses.append(decode_status(payload).presence)
        elif topic == f"{BASE}/up/telemetry/normal":
            batch = decode_batch(payload)
            seen.update(range(batch.first_sequence, batch.last_sequence + 1))
            observer.publish(f"{BASE}/down/watermark", encode_watermark((_mark(spool, batch.last_sequence),)))
        return seen >= expected

    observer.expect(complete)
    assert statuses and set(statuses) == {Presence.ONLINE}, "the broker told nobody that it was away"
    assert refused == []


def test_a_certificate_the_broker_does_not_take_is_told_and_takes_turns_with_the_one_before(
    identity: Identity, link: MqttLink, authority: Authority
) -> None:
    refused: list[str] = []
    link.on_refused(refused.append)
    key, certificate = authority.issue("cam-1", life=timedelta(seconds=1))  # it expired minutes ago
    receipt = Receipt(before=identity.version())
    identities.save(identity, key_pem=key, certificate_pem=certificate, ca_pem=authority.pem, receipt=receipt)
    link.start()
    wait_for(lambda: link.connected, "the connection with the one before")
    assert link.with_previous
    assert refused, "it says that the newest is not taken"
    key, certificate = authority.issue("cam-1")
    identities.save(identity, key_pem=key, certificate_pem=certificate, ca_pem=authority.pem)
    link.renewed()
    wait_for(lambda: link.connects > 1 and link.connected, "the connection with the newest")
    assert not link.with_previous


def test_a_broker_that_is_away_is_no_refusal(tmp_path: Path, authority: Authority) -> None:
    link = MqttLink(authority.identity(tmp_path, "cam-1", port=free_port()), SYNC, SystemClock(), "b", "0")
    refused: list[str] = []
    link.on_refused(refused.append)
    tried = time.monotonic() + 1.5
    link.start()
    wait_for(lambda: time.monotonic() > tried, "a few tries")
    link.close()
    assert refused == []


def test_a_link_without_a_broker_closes_at_once(tmp_path: Path, authority: Authority) -> None:
    link = MqttLink(authority.identity(tmp_path, "cam-1", port=free_port()), SYNC, SystemClock(), "b", "0")
    link.start()
    with pytest.raises(LinkDown, match="no connection"):
        link.publish_telemetry(Lane.NORMAL, b"x")
    started = time.monotonic()
    link.close()
    assert time.monotonic() - started < 20


def test_keys_that_do_not_fit_are_named(tmp_path: Path, authority: Authority) -> None:
    identity = authority.identity(tmp_path, "cam-1", port=1)
    identity.cert_path.write_bytes(authority.issue("cam-2")[1])
    with pytest.raises(ConfigError, match="enrol again"):
        identity.tls()


def _mark(spool: SqliteSpool, through: int) -> Mark:
    return Mark(epoch=spool.epoch, lane=Lane.NORMAL, committed_through=through)


def _reported() -> ReportedTwin:
    now = SystemClock().now()
    return ReportedTwin(generation=0, boot_id="b", agent_version="0", board="x", at=now, health=Health(started_at=now))
