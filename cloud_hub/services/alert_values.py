"""From what the hub knows of a device to the numbers that rules compare."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cloud_hub.core.alert_rules import AlertRule
from cloud_hub.store.observed import Observed
from protos.contract import codec
from protos.contract.ids import TenantId
from protos.contract.twin import Health, Presence

_AHEAD = timedelta(minutes=5)  # of a look at the fleet: what came while it went on, and what time servers correct


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What of a reported twin rules look at."""

    raw: bytes
    health: Health
    at: datetime  # by the device's clock


class Twins:
    """Reported twins, decoded once for as long as they stay the same."""

    def __init__(self) -> None:
        self._told: dict[str, Told] = {}
        self._kept: dict[str, Told] = {}

    def of(self, seen: Observed) -> Told | None:
        if seen.reported is None:
            return None
        told = self._told.get(seen.subject.device)
        if told is None or told.raw != seen.reported:
            twin = codec.decode_reported(seen.reported)
            told = Told(raw=seen.reported, health=twin.health, at=twin.at)
        self._kept[seen.subject.device] = told
        return told

    def forget_others(self) -> None:
        """Keep only those asked for since the last time."""
        self._told, self._kept = self._kept, {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What one look at the fleet has in common."""

    now: datetime
    started_at: datetime  # of this hub: before, nobody could have been heard
    quarantined: Mapping[float, Mapping[tuple[TenantId, str], int]]  # by a rule's span


def level(rule: AlertRule, seen: Observed, told: Told | None, moment: Moment) -> float | None:
    """Of a source that is read, not counted; None: not known now."""
    if rule.source == "device.offline":
        return _offline_s(rule, seen, moment)
    if rule.source == "drift":
        return float(seen.drifting)
    if rule.source == "telemetry.quarantine":
        return float(moment.quarantined[rule.span_s].get((seen.subject.tenant, seen.subject.device), 0))
    if told is None or seen.presence is not Presence.ONLINE:
        return None  # what it said before it went says nothing about now
    if rule.source == "device.clock_skew_s":
        return _skew_s(seen, told)
    return _HEALTH[rule.source](told.health)


def counters(rule: AlertRule, seen: Observed, told: Told | None) -> tuple[float, ...] | None:
    """Of a source that grows; the first of them is what decides whether anything happened. None: not known."""
    if rule.source == "telemetry.gap":
        return (float(seen.dropped),)
    if told is None:
        return None
    if rule.source == "device.dropped_records":
        return (float(told.health.dropped_records),)
    return (float(told.health.inference_errors), float(told.health.inferences))


def grown(rule: AlertRule, total: tuple[float, ...]) -> float:
    """The value of a source that grew by ``total``."""
    if not total:
        return 0.0
    if rule.source == "device.inference_errors":
        return total[0] / sum(total)
    return total[0]


def _offline_s(rule: AlertRule, seen: Observed, moment: Moment) -> float | None:
    if seen.presence is Presence.ONLINE or (seen.presence is Presence.STOPPED and not rule.count_stopped):
        return 0.0
    if seen.heard_at is None:
        return None
    put_back = seen.heard_at > moment.now + _AHEAD  # our clock has been since: all that is known is that we hear nothing now
    heard_at = moment.started_at if put_back else seen.heard_at
    return max(0.0, (moment.now - max(heard_at, moment.started_at)).total_seconds())


def _skew_s(seen: Observed, told: Told) -> float | None:
    if seen.heard_at is None:
        return None
    clock = told.at if seen.clock_at is None else max(told.at, seen.clock_at)
    return abs((clock - seen.heard_at).total_seconds())


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


_HEALTH: Mapping[str, Callable[[Health], float | None]] = {
    "device.disk_free_ratio": lambda health: _share(health.disk_free_bytes, health.disk_total_bytes),
    "device.disk_free_bytes": lambda health: float(health.disk_free_bytes),
    "device.temperature_c": lambda health: health.temperature_c,
    "device.spool_ratio": lambda health: _share(health.spool_bytes, health.spool_limit_bytes),
    "device.latency_p95_ms": lambda health: health.latency_p95_ms,
}
