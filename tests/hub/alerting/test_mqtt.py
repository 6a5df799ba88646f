"""Over a real broker: who subscribes sees what is open, and what changes."""

import json
from collections.abc import Iterator

import pytest

from cloud_hub.alerting.mqtt import MqttSink
from cloud_hub.core.alerts import AlertState
from cloud_hub.core.notices import News, SinkDown
from tests.hub.alert_parts import routed
from tests.hub.alerting.parts import AT, alert, letter
from tests.hub.ingest.parts import Ingesting
from tests.hub.mqtt_parts import MqttClient, wait_for

TOPIC = "tl/v1/default/hub/alerts/hot/cam-1"


@pytest.fixture(scope="module")
def ingesting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingesting]:
    running = Ingesting(tmp_path_factory.mktemp("hub"))
    yield running.start()
    running.stop()


def sink(ingesting: Ingesting, segment: str = "") -> MqttSink:
    return MqttSink(routed("bus"), ingesting.ingest.publish, segment=segment, timeout_s=10.0)


def subscriber(ingesting: Ingesting) -> MqttClient:
    """A device may not read alerts; another session of the hub's own identity could not live beside the first."""
    ingesting.ingest.stop()
    client = MqttClient(ingesting.broker.local, ingesting.broker.hub_tls, "tl:hub", "tl/v1/+/hub/alerts/#").ready()
    return client


def test_what_is_open_is_retained_and_what_has_ended_is_told_once_and_gone(ingesting: Ingesting) -> None:
    bus = sink(ingesting)
    resolved = alert(id="a2", device="cam-2", state=AlertState.RESOLVED, resolved_at=AT)
    bus.send(letter(alert(), alert(id="a2", device="cam-2"), alert(device="", key="label=7/x", rule="busy")))
    bus.send(letter(resolved, news=News.RESOLVED))
    bus.send(letter(alert(device="", rule="test"), news=News.TEST))
    client = subscriber(ingesting)
    wait_for(lambda: len(client.received) >= 2, "what is retained")
    assert sorted(client.topics()) == ["tl/v1/default/hub/alerts/busy/_/label=7%2Fx", TOPIC]
    told = json.loads(client.payloads(TOPIC)[0])
    assert (told["event"], told["state"], told["tenant"], told["summary"]) == (
        "fired",
        "firing",
        "default",
        "cam-1 is at 85 °C",
    )
    client.close()


def test_a_broker_that_is_not_reached_is_down(ingesting: Ingesting) -> None:
    with pytest.raises(SinkDown, match="broker"):
        MqttSink(routed("bus"), lambda *_, **__: False, segment="", timeout_s=1.0).send(letter())
    ingesting.ingest.stop()
    with pytest.raises(SinkDown, match="broker"):
        sink(ingesting).send(letter())


def test_a_segment_of_its_own_stands_before_the_rules() -> None:
    bus = MqttSink(routed("bus"), lambda *_, **__: True, segment="ops", timeout_s=1.0)
    assert bus.topic(alert()) == "tl/v1/default/hub/alerts/ops/hot/cam-1"
