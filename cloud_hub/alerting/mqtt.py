"""Alerts as retained messages of the hub's own broker: who subscribes sees what is open, and what changes."""

from typing import Protocol
from urllib.parse import quote

from cloud_hub.alerting.body import notice_json
from cloud_hub.core.alerts import Alert, AlertState
from cloud_hub.core.errors import Invalid
from cloud_hub.core.notices import Letter, News, Route, SinkDown
from protos.contract import ids, topics
from protos.contract.errors import ContractError

NO_DEVICE = "_"  # no device can be called so


class Publish(Protocol):
    """The hub's connection to its broker."""

    def __call__(self, topic: str, payload: bytes, *, retain: bool, timeout_s: float) -> bool:
        """True once the broker has acknowledged it; False where it has not within ``timeout_s``."""


class MqttSink:
    """A resolved alert is told once, and its retained message is removed."""

    def __init__(self, route: Route, publish: Publish, *, segment: str, timeout_s: float) -> None:
        """Raises Invalid."""
        if segment:
            try:
                ids.device_id(segment)  # a topic's segment like any other
            except ContractError as error:
                raise Invalid(f"sink {route.sink!r}: 'topic' must be 1 to 63 of a-z, 0-9 and inner '-'") from error
        self.route = route
        self._publish = publish
        self._segment = segment
        self._timeout_s = timeout_s

    def send(self, letter: Letter) -> None:
        for notice in letter.notices:
            topic, ended = self.topic(notice.alert), notice.alert.state is AlertState.RESOLVED
            self._send(topic, notice_json(notice), retain=not ended and notice.news is not News.TEST)
            if ended:
                self._send(topic, b"", retain=True)

    def topic(self, alert: Alert) -> str:
        parts = [topics.ROOT, alert.tenant, "hub/alerts", self._segment, alert.rule, alert.device or NO_DEVICE]
        return "/".join(part for part in (*parts, quote(alert.key, safe="=,")) if part)

    def _send(self, topic: str, payload: bytes, *, retain: bool) -> None:
        if not self._publish(topic, payload, retain=retain, timeout_s=self._timeout_s):
            raise SinkDown("the broker has not taken it: is it there?")
