"""Tells devices how far their records are stored: the licence to forget them."""

import time
from collections import defaultdict
from collections.abc import Mapping

from cloud_hub.ingest.link import Link
from cloud_hub.services.telemetry import TelemetryService
from cloud_hub.store.database import Database
from cloud_hub.store.streams import StreamKey
from protos.contract import codec, topics
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import Mark

INTERVAL_S = 0.1  # between two rounds: under load a device hears ten times a second, not once per batch


class Watermarks:
    """Collects which streams moved and tells their newest marks. One that is lost is told again when the device repeats."""

    def __init__(self, db: Database, link: Link, telemetry: TelemetryService) -> None:
        self._db = db
        self._link = link
        self._telemetry = telemetry
        self._moved: dict[StreamKey, TenantId] = {}
        self._sent_at = 0.0

    def add(self, streams: Mapping[StreamKey, TenantId]) -> None:
        """After the commit of what came in them."""
        self._moved.update(streams)

    def due_in_s(self) -> float | None:
        """When ``send`` should be called; None: nobody waits."""
        return max(0.0, self._sent_at + INTERVAL_S - time.monotonic()) if self._moved else None

    def send(self) -> None:
        """Waits for a connection: what the broker redelivers comes before it has answered the subscription."""
        self._sent_at = time.monotonic()
        if not self._link.ready:
            return
        with self._db.read() as tx:
            reached = self._telemetry.reached(tx, list(self._moved))
        tenants = {stream.device: tenant for stream, tenant in self._moved.items()}
        self._moved.clear()
        marks: dict[DeviceId, list[Mark]] = defaultdict(list)
        for device, mark in reached:
            marks[device].append(mark)
        for device, own in marks.items():
            self._link.publish(topics.of(tenants[device], device, topics.WATERMARK), codec.encode_watermark(tuple(own)))
