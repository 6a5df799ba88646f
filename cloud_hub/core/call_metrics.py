"""What is counted of gRPC calls: plain numbers, made into samples when somebody asks: a call is over in half a millisecond."""

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class MethodFigures:
    """Of one method, since the start."""

    __slots__ = ("_bounds", "buckets", "codes", "seconds")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.codes: dict[str, int] = {}  # calls that ended, by the name of their status
        self.buckets = [0] * (len(bounds) + 1)  # calls that took up to each bound and more than the one before; the last: more
        self.seconds = 0.0  # of all calls

    def ended(self, code: str, seconds: float) -> None:
        self.codes[code] = self.codes.get(code, 0) + 1
        self.buckets[bisect_left(self._bounds, seconds)] += 1
        self.seconds += seconds


class CallMetrics(Collector):
    """Counted by one thread, the event loop's; read by any."""

    def __init__(self, namespace: str, bounds: tuple[float, ...]) -> None:
        self.open = 0
        self._namespace = namespace
        self._bounds = bounds
        self._methods: dict[str, MethodFigures] = {}

    def of(self, method: str) -> MethodFigures:
        """``method``: "tideline.v1.Fleet/GetDevice"."""
        return self._methods.setdefault(method, MethodFigures(self._bounds))

    def collect(self) -> Iterator[Metric]:
        calls = CounterMetricFamily(f"{self._namespace}_grpc_calls", "gRPC calls that ended", labels=["method", "code"])
        text = "How long gRPC calls took; of a stream, all of it"
        seconds = HistogramMetricFamily(f"{self._namespace}_grpc_call_seconds", text, labels=["method"])
        for method, figures in tuple(self._methods.items()):
            for code, count in tuple(figures.codes.items()):
                calls.add_metric([method, code], count)
            if figures.codes:
                seconds.add_metric([method], self._up_to(figures.buckets), figures.seconds)
        yield calls
        yield seconds
        yield GaugeMetricFamily(f"{self._namespace}_grpc_calls_open", "gRPC calls under way", value=self.open)

    def _up_to(self, buckets: list[int]) -> list[tuple[str, float]]:
        total, found = 0, []
        for bound, count in zip((*map(str, self._bounds), "+Inf"), tuple(buckets), strict=True):
            total += count
            found.append((bound, float(total)))
        return found
