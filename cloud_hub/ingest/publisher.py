"""Sends desired twins from the outbox to the broker, which retains them for devices that are away."""

import logging
import threading
import time

from paho.mqtt.client import MQTTMessageInfo
from sqlalchemy.exc import SQLAlchemyError

from cloud_hub.core.errors import HubError
from cloud_hub.ingest.link import Link
from cloud_hub.services.fleet import FleetService
from protos.contract import codec, topics
from protos.contract.ids import DeviceId

log = logging.getLogger(__name__)

_POLL_S = 1.0
_ACK_S = 10.0  # how long the broker may take to say it has them
_LOOK_S = 0.2  # how often to look whether there still is a connection
_PAUSE_S = 1.0
_JOIN_S = 15.0


class Publisher:
    """Publishes what the outbox holds whenever it is woken, and once a second in case nobody did."""

    def __init__(self, link: Link, fleet: FleetService) -> None:
        self._link = link
        self._fleet = fleet
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._new_session = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="ingest-publisher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_JOIN_S)

    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def wake(self) -> None:
        """Something may be in the outbox."""
        self._wake.set()

    def session_started(self) -> None:
        """The broker may be a new one: it gets every desired twin again."""
        self._new_session.set()
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(_POLL_S)
            self._wake.clear()
            try:
                if self._link.ready and self._new_session.is_set():
                    self._new_session.clear()
                    self._fleet.redeliver()
                while self._link.ready and not self._stopping.is_set() and self._publish_some():
                    pass
            except (SQLAlchemyError, HubError) as error:
                log.warning("outbox cannot be read now", extra={"reason": str(error)})
                self._stopping.wait(_PAUSE_S)
            except Exception:  # outermost edge of the thread: the outbox is durable, so the next round tries again
                log.exception("publishing failed")
                self._stopping.wait(_PAUSE_S)

    def _publish_some(self) -> bool:
        """True where it got something through, so that there may be more."""
        sent: list[tuple[DeviceId, int, MQTTMessageInfo]] = []
        for tenant, device, twin in self._fleet.undelivered():
            info = self._link.publish(topics.of(tenant, device, topics.DESIRED), codec.encode_desired(twin), retain=True)
            if info is not None:
                sent.append((device, twin.generation, info))
        deadline = time.monotonic() + _ACK_S
        held = {device: generation for device, generation, info in sent if self._acknowledged(info, deadline)}
        if held:
            self._fleet.delivered_many(held)
            log.info("desired twins published", extra={"devices": len(held)})
        if len(held) < len(sent):
            log.warning("the broker took too long", extra={"devices": len(sent) - len(held)})
        return bool(held) and len(held) == len(sent)

    def _acknowledged(self, info: MQTTMessageInfo, deadline: float) -> bool:
        while not info.is_published() and self._link.ready and not self._stopping.is_set() and time.monotonic() < deadline:
            info.wait_for_publish(_LOOK_S)
        return info.is_published()
