"""What alerts look at of the hub itself, and its connection to the broker; both are there only after the services."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cloud_hub.app import monitor
from cloud_hub.ingest.service import IngestService
from edge_agent.core.clock import Clock

Figures = Callable[[], Mapping[str, float]]  # by the source of alert rules


class HubItself:
    """Nothing is known, and nothing can be published, before ``ingest`` is set."""

    def __init__(self, certificates: Mapping[str, Path], clock: Clock) -> None:
        """``certificates``: PEM files by purpose."""
        self.ingest: IngestService | None = None
        self.parts: Sequence[Figures] = ()
        self._certificates = certificates
        self._clock = clock

    def publish(self, topic: str, payload: bytes, *, retain: bool, timeout_s: float) -> bool:
        """``cloud_hub.alerting.mqtt.Publish``."""
        ingest = self.ingest
        return ingest is not None and ingest.publish(topic, payload, retain=retain, timeout_s=timeout_s)

    def figures(self) -> dict[str, float]:
        """By the source of alert rules."""
        if self.ingest is None:
            return {}
        figures = {"hub.broker_down": float(not self.ingest.ready)}
        expiries = monitor.expiries(self._certificates).values()
        if expiries:
            figures["hub.certificate_days"] = (min(expiries) - self._clock.now()).total_seconds() / 86_400
        for part in self.parts:
            figures |= part()
        return figures
