"""The agent's metrics in the words of Prometheus. Imported late: it brings the client library."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from edge_agent.app.agent import Parts
from edge_agent.app.monitor import Look
from edge_agent.core.http import Reply
from edge_agent.core.lately import Lately
from edge_agent.core.metrics import BOUNDS_S, Durations
from edge_agent.core.ports import CertificateStats, SpoolStats, StreamStats, UplinkStats
from edge_agent.infer import jail
from protos.contract.twin import Health, ReportedTwin
from protos.contract.update import UpdateState

NAMESPACE = "tideline_agent"


class Exposition(Collector):
    """Looked up when it is asked for; nothing runs while nobody asks."""

    def __init__(self, parts: Parts, look: Lately[Look], commits: Durations) -> None:
        self._parts, self._look, self._commits = parts, look, commits
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def page(self, headers: Mapping[str, str]) -> Reply:
        encode, content_type = choose_encoder(headers.get("accept", ""))
        return Reply(body=encode(self._registry), content_type=content_type)

    def collect(self) -> Iterable[Metric]:
        perceiver, membership = self._parts.perceiver, self._parts.network.membership
        yield _counter("inferences", "Good inferences", perceiver.total.inferences)
        yield _counter("inference_errors", "Inferences that failed", perceiver.total.errors)
        yield _histogram("inference_seconds", "How long good inferences took", perceiver.total.seconds)
        yield _counter("frames_without_model", "Frames that came while there was no model", perceiver.skipped_frames)
        yield _counter("bad_frames", "Frames the model cannot take", perceiver.bad_frames)
        yield _counter("frames_not_kept", "Frames worth keeping that found the disk too slow", self._parts.keeper.missed)
        yield _counter("workers_lost", "Processes that ran a model and died, hung or broke the rules", perceiver.workers_lost)
        yield _jail()
        yield _gauge("equipped", "Whether there is a model", perceiver.equipped.is_set())
        yield _gauge("enrolled", "Whether the device has an identity", bool(membership.device_id))
        yield _gauge("broker_connected", "Whether the link to the hub's broker is up", membership.broker_connected)
        yield from _certificate(membership.certificate)
        yield _histogram("spool_commit_seconds", "How long group commits of the spool took", self._commits)
        look = self._look.get()
        yield _counter("collect_errors", "Looks at the agent's parts that failed or took too long", self._look.errors)
        if look is not None:
            yield from _told(look.twin)
            yield from _spool(look.spool, look.twin.at)
            yield from _uplink(look.uplink)
            yield from _streams(look.streams)

    def describe(self) -> Iterable[Metric]:
        return ()


def _jail() -> Metric:
    family = GaugeMetricFamily(f"{NAMESPACE}_jail", "Whether this kernel gives a part of the workers' jail", labels=["part"])
    for part in jail.standing():
        family.add_metric([part.name], float(part.holds))
    return family


def _certificate(stats: CertificateStats) -> Iterator[Metric]:
    if stats.not_after is not None:
        yield _gauge(
            "certificate_expiry_timestamp_seconds", "When the device's certificate expires", stats.not_after.timestamp()
        )
    yield _counter("certificate_renewals", "Certificates this process has got", stats.renewals)
    yield _gauge(
        "certificate_problem", "Whether the last renewal failed, or the hub refuses the certificate", bool(stats.problem)
    )


def _told(twin: ReportedTwin) -> Iterator[Metric]:
    """What the hub is told too."""
    yield _labelled("build_info", "Always 1", {"version": twin.agent_version}, 1)
    model = twin.model
    if model is not None:
        yield _labelled("model_info", "The model that runs", {"model": model.name, "version": str(model.version)}, 1)
    state = GaugeMetricFamily(f"{NAMESPACE}_update_state", "1 for the state of the last update", labels=["state"])
    for one in UpdateState:
        state.add_metric([one.name.lower()], float(twin.update is not None and twin.update.state is one))
    yield state
    yield _gauge("desired_generation", "Last desired generation acted on", twin.generation)
    yield from _health(twin.health)


def _health(health: Health) -> Iterator[Metric]:
    yield _gauge("spool_records", "Records the hub has not confirmed", health.spool_records)
    yield _gauge("spool_bytes", "Bytes of these", health.spool_bytes)
    if health.spool_limit_bytes:
        yield _gauge("spool_limit_bytes", "Beyond it records are dropped", health.spool_limit_bytes)
    yield _counter("spool_dropped_records", "Records dropped in the life of this spool", health.dropped_records)
    yield _gauge("captures_pending", "Frames kept for the hub", health.captures_pending)
    yield _gauge("disk_free_bytes", "Free where the data is", health.disk_free_bytes)
    if health.disk_total_bytes:
        yield _gauge("disk_total_bytes", "Size of the disk where the data is", health.disk_total_bytes)
    if health.temperature_c is not None:
        yield _gauge("temperature_celsius", "Of the hottest zone", health.temperature_c)


def _spool(spool: SpoolStats, now: datetime) -> Iterator[Metric]:
    yield _gauge("spool_failing", "Whether the last commit found no room", spool.failing)
    yield _gauge("spool_file_bytes", "What the spool takes on the disk", spool.file_bytes)
    yield _counter("spool_resets", "Epochs of the spool before this one", spool.resets)
    oldest = GaugeMetricFamily(f"{NAMESPACE}_spool_oldest_seconds", "Age of the oldest record that is held", labels=["lane"])
    for lane, held in spool.lanes.items():
        age_s = (now - held.oldest_at).total_seconds() if held.oldest_at is not None else 0.0
        oldest.add_metric([lane.name.lower()], max(0.0, age_s))
    yield oldest


def _uplink(uplink: UplinkStats) -> Iterator[Metric]:
    yield _gauge("uplink_in_flight_batches", "Batches sent and not confirmed", uplink.in_flight)
    yield _counter("uplink_sent_batches", "Batches sent, repeats too", uplink.sent_batches)
    yield _counter("uplink_sent_bytes", "Payload of these", uplink.sent_bytes)
    yield _counter("uplink_repeated_batches", "Batches sent again", uplink.repeated_batches)
    yield _counter("uplink_stalls", "Times when no confirmation came", uplink.stalls)
    yield _counter("uplink_connects", "Connections to the broker", uplink.connects)
    yield _counter("uplink_traffic_bytes", "Both ways between the device and the broker", uplink.traffic_bytes)
    if uplink.watermark_age_s is not None:
        yield _gauge("uplink_watermark_age_seconds", "Since the hub last confirmed anything", uplink.watermark_age_s)
    if uplink.budget_left_bytes is not None:
        yield _gauge("uplink_budget_left_bytes", "Left of bytes_per_hour", uplink.budget_left_bytes)


def _streams(streams: StreamStats) -> Iterator[Metric]:
    yield _counter("stream_readings", "Readings folded into windows", streams.readings)
    yield _counter("stream_windows", "Windows sent", streams.windows)
    yield _counter("stream_late_readings", "Readings that came after their window", streams.late)
    yield _counter("stream_left_out_readings", "Readings told by their windows alone", streams.left_out)
    yield _gauge("stream_open_windows", "Windows that are open", streams.open)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{NAMESPACE}_{name}", text, value=float(value))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"{NAMESPACE}_{name}", text, value=float(value))


def _labelled(name: str, text: str, labels: Mapping[str, str], value: float) -> Metric:
    family = GaugeMetricFamily(f"{NAMESPACE}_{name}", text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def _histogram(name: str, text: str, durations: Durations) -> Metric:
    counts, sum_s = durations.read()
    total, buckets = 0, []
    for bound, number in zip((*map(str, BOUNDS_S), "+Inf"), counts, strict=True):
        total += number
        buckets.append((bound, float(total)))
    family = HistogramMetricFamily(f"{NAMESPACE}_{name}", text)
    family.add_metric([], buckets, sum_s)
    return family
