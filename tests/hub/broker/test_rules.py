"""What the brokers deliver, and to whom. Asserted by delivery: a SUBACK or PUBACK says nothing about it."""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_hub.broker.identity import make_ingest_identity
from cloud_hub.broker.supervisor import open_broker
from cloud_hub.core.config import BrokerConfig
from cloud_hub.core.ports import Broker
from cloud_hub.trust.authority import Authority, ingest_name
from protos.contract import topics
from tests.hub.mqtt_parts import Identity, MqttClient, client, wait_for

UP_A, UP_B = "tl/v1/default/cam-a/up/status", "tl/v1/default/cam-b/up/status"
DOWN_A, DOWN_B = "tl/v1/default/cam-a/down/desired", "tl/v1/default/cam-b/down/desired"
FENCE = "tl/v1/default/cam-a/down/watermark"


@pytest.fixture
def hub(broker: Broker) -> Iterator[MqttClient]:
    with client(broker.local, broker.hub_tls, "tl:hub", "tl/v1/#") as made:
        yield made


def test_a_device_hears_what_is_meant_for_it(broker: Broker, identity: Identity, hub: MqttClient) -> None:
    with client(broker.address, identity.device("cam-a"), "cam-a", "tl/v1/default/cam-a/down/#") as a:
        hub.publish(DOWN_A, b"run this")
        wait_for(lambda: a.payloads(DOWN_A) == [b"run this"], "delivery")


@pytest.mark.parametrize("filter", ["#", "tl/v1/#", "tl/v1/+/+/down/#", "tl/v1/default/cam-b/down/#", "+/+/+/+/+/+", UP_B])
def test_no_subscription_delivers_what_is_meant_for_another(
    broker: Broker, identity: Identity, hub: MqttClient, filter: str
) -> None:
    hub.publish(DOWN_B, b"retained for b", retain=True)
    with (
        client(broker.address, identity.device("cam-b"), "cam-b", "tl/v1/default/cam-b/down/#") as b,
        client(broker.address, identity.device("cam-a"), "cam-a", filter, "tl/v1/default/cam-a/down/#") as a,
    ):
        b.publish(UP_B, b"b's own words", retain=True)
        hub.publish(DOWN_B, b"for b")
        wait_for(lambda: b"for b" in b.payloads(DOWN_B), "delivery to b")
        hub.publish(FENCE, b"the end")
        wait_for(lambda: a.payloads(FENCE), "the fence")
        assert set(a.topics()) == {FENCE}


def test_retained_words_of_another_do_not_greet_whoever_connects(broker: Broker, identity: Identity, hub: MqttClient) -> None:
    with client(broker.address, identity.device("cam-b"), "cam-b") as b:
        b.publish(UP_B, b"b is online", retain=True)
    wait_for(lambda: UP_B in hub.topics(), "delivery to the hub")
    with client(broker.address, identity.device("cam-a"), "cam-a", "tl/v1/default/cam-a/down/#") as a:
        hub.publish(FENCE, b"the end")
        wait_for(lambda: a.payloads(FENCE), "the fence")
        assert set(a.topics()) == {FENCE}


@pytest.mark.parametrize("topic", [UP_B, DOWN_A, DOWN_B, "tl/v1/default/cam-a/sideways"])
def test_a_device_writes_below_its_own_name_only(broker: Broker, identity: Identity, hub: MqttClient, topic: str) -> None:
    with (
        client(broker.address, identity.device("cam-b"), "cam-b", "tl/v1/default/cam-b/down/#") as b,
        client(broker.address, identity.device("cam-a"), "cam-a") as a,
    ):
        a.publish(topic, b"forged", wait=False)
        a.publish(UP_A, b"the end")
        wait_for(lambda: UP_A in hub.topics(), "the fence")
        assert topic not in hub.topics()
        assert b.received == []


def test_a_will_on_the_topic_of_another_is_not_published(broker: Broker, identity: Identity, hub: MqttClient) -> None:
    bad = MqttClient(broker.address, identity.device("cam-a"), "cam-a", will=UP_B)
    wait_for(lambda: bad.connected.is_set() or bad.ended.is_set(), "an answer")
    if bad.connected.is_set():  # mosquitto lets it in and drops the will
        bad.vanish()
    bad.client.loop_stop()
    good = MqttClient(broker.address, identity.device("cam-c"), "cam-c", will="tl/v1/default/cam-c/up/status").ready()
    good.vanish()
    wait_for(lambda: "tl/v1/default/cam-c/up/status" in hub.topics(), "the good will")
    assert UP_B not in hub.topics()


def test_taking_the_client_id_of_another_changes_nothing_for_it(broker: Broker, identity: Identity, hub: MqttClient) -> None:
    with client(broker.address, identity.device("cam-b"), "cam-b", "tl/v1/default/cam-b/down/#") as b:
        thief = MqttClient(broker.address, identity.device("cam-a"), "cam-b", "tl/v1/default/cam-b/down/#")
        wait_for(lambda: thief.connected.is_set() or thief.ended.is_set(), "an answer")
        hub.publish(DOWN_B, b"for b")
        wait_for(lambda: b.payloads(DOWN_B), "delivery to b")
        assert not b.ended.is_set()
        assert thief.received == []
        thief.close()


def test_without_a_certificate_of_this_hub_nobody_connects(
    broker: Broker, identity: Identity, hub: MqttClient, tmp_path: Path
) -> None:
    foreign = Identity(Authority.create(tmp_path / "foreign"), tmp_path / "foreign-clients").device("cam-a")
    for files in (None, foreign):
        context = ssl.create_default_context(cafile=str(broker.hub_tls.ca))
        if files is not None:
            context.load_cert_chain(files.certificate, files.key)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _connect(broker, context)


def _connect(broker: Broker, context: ssl.SSLContext) -> None:
    """In TLS 1.3 a refusal shows with the first bytes read."""
    with (
        socket.create_connection((broker.local.host, broker.local.port), 5) as plain,
        context.wrap_socket(plain, server_hostname=broker.local.host) as secured,
    ):
        secured.sendall(b"\x10\x11\x00\x04MQTT\x04\x02\x00\x00\x00\x05cam-a")
        if secured.recv(4) == b"":
            raise ConnectionError("closed")


def test_an_oversized_packet_costs_only_its_sender(broker: Broker, identity: Identity, hub: MqttClient) -> None:
    with client(broker.address, identity.device("cam-b"), "cam-b") as b:
        big = MqttClient(broker.address, identity.device("cam-a"), "cam-a").ready()
        big.publish(UP_A, b"\0" * (3 << 20), wait=False)
        assert big.ended.wait(20)
        big.client.loop_stop()
        b.publish(UP_B, b"still here")
        wait_for(lambda: hub.payloads(UP_B), "delivery")
        assert UP_A not in hub.topics()


@pytest.fixture
def mosquitto(tmp_path: Path, authority: Authority) -> Iterator[Broker]:
    made = open_broker(BrokerConfig(kind="mosquitto", port=0), tmp_path, authority)
    made.start()
    yield made
    made.stop()


def test_processes_that_ingest_share_the_telemetry_and_read_nothing_else(
    mosquitto: Broker, authority: Authority, identity: Identity, tmp_path: Path
) -> None:
    normal = "tl/v1/default/cam-a/up/telemetry/normal"
    subscriptions = (topics.TELEMETRY_SUBSCRIPTION, "tl/v1/+/+/up/status", "tl/v1/+/+/down/#")
    files = [make_ingest_identity(authority, tmp_path / "shares", number) for number in (1, 2)]
    with (
        client(mosquitto.local, files[0], ingest_name(1), *subscriptions) as first,
        client(mosquitto.local, files[1], ingest_name(2), *subscriptions) as second,
        client(mosquitto.address, identity.device("cam-a"), "cam-a", "tl/v1/default/cam-a/down/#") as device,
    ):
        device.publish(UP_A, b"online")
        for number in range(20):
            device.publish(normal, b"%d" % number)
        wait_for(lambda: len(first.received) + len(second.received) >= 20, "every message")
        assert set(first.topics()) == set(second.topics()) == {normal}
        assert {payload for _, payload in first.received + second.received} == {b"%d" % number for number in range(20)}
        second.publish(DOWN_A, b"run this", retain=True)
        second.publish(UP_A, b"not a device's word")
        second.publish(FENCE, b"a mark")
        wait_for(lambda: device.payloads(FENCE), "the mark")
        assert set(device.topics()) == {FENCE}
