"""What the hub measures while it works. What stands in tables and counters already is collected by ``app.monitor``.

Each hub has a registry of its own, so that several can live in one process. There is no label of device or tenant: a fleet has
too many of them for one time series each.
"""

from prometheus_client import CollectorRegistry, Counter, Histogram

from cloud_hub.core.call_metrics import CallMetrics

NAMESPACE = "tideline_hub"

_FAST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)  # one transaction
_SLOW_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # a call, a query, a tick
_GROUP = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class HubMetrics:
    """All are thread-safe but ``calls``, which is the event loop's."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.calls = CallMetrics(NAMESPACE, _SLOW_S)
        registry.register(self.calls)
        self.ingest_commit_seconds = self._histogram("ingest_commit_seconds", "To land one group of messages, durably", _FAST_S)
        self.ingest_group_messages = self._histogram("ingest_group_messages", "Messages landed in one transaction", _GROUP)
        self.fold_seconds = self._histogram("fold_seconds", "To unfold one group of batches, durably", _SLOW_S)
        self.tick_seconds = Histogram(
            "tick_seconds", "How long scheduled calls took", ["tick"], namespace=NAMESPACE, registry=registry, buckets=_SLOW_S
        )
        self.tick_failures = Counter(
            "tick_failures", "Scheduled calls that failed", ["tick"], namespace=NAMESPACE, registry=registry
        )

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, namespace=NAMESPACE, registry=self.registry, buckets=buckets)
