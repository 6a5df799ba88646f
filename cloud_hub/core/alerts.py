"""Alerts, as a pure state machine: nothing -> pending -> firing -> resolved, slow to fire and slow to clear.

A rule's condition is a value against two thresholds. Between them nothing changes, so a value that moves around one of them
does not make the alert flap; and both sides must hold for a time of their own.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum, IntEnum

from cloud_hub.core.alert_rules import AlertRule, Severity
from cloud_hub.core.model import StreamWindow
from protos.contract.ids import TenantId

_BUCKETS = 20  # parts of ``over_s`` in which a growth is remembered


class Phase(IntEnum):
    PENDING = 1  # the condition holds, not yet long enough
    FIRING = 2


class Change(Enum):
    FIRED = "fired"
    AGAIN = "again"  # the condition held again before the alert could clear
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a rule stands for one device. There is none while its condition does not hold."""

    phase: Phase
    since: datetime  # of the phase
    clearing: datetime | None = None  # firing, but clear since then


def step(
    rule: AlertRule, standing: Standing | None, value: float | None, now: datetime
) -> tuple[Standing | None, Change | None]:
    """What one more look does. A value of None says nothing: everything stays as it is."""
    if value is None or not math.isfinite(value):
        return standing, None
    if standing is None or standing.phase is Phase.PENDING:
        if not rule.fires(value):
            return None, None
        since = min(standing.since, now) if standing else now  # a clock that was put back must not hold it up
        if now - since >= timedelta(seconds=rule.for_s):
            return Standing(phase=Phase.FIRING, since=now), Change.FIRED
        return Standing(phase=Phase.PENDING, since=since), None
    if not rule.clears(value):
        again = standing.clearing is not None and rule.fires(value)
        return replace(standing, clearing=None), Change.AGAIN if again else None
    clearing = min(standing.clearing or now, now)
    if now - clearing >= timedelta(seconds=rule.clear_for_s):
        return None, Change.RESOLVED
    return replace(standing, clearing=clearing), None


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """How much counters have grown lately. A counter that went back began anew, with its device's process."""

    last: tuple[float, ...] = ()  # as they were told; empty: none of them is told, growth is added
    at_ms: int = 0  # when ``last`` changed
    grown: tuple[tuple[int, tuple[float, ...]], ...] = ()  # (when, by how much), oldest first

    def told(self, values: tuple[float, ...], now_ms: int, over_s: float) -> "Growth":
        """The counters stand at ``values`` now. The same object where the first of them did not move."""
        if values[0] == self.last[0]:
            return self
        anew = any(value < last for value, last in zip(values, self.last, strict=True))
        by = values if anew else tuple(value - last for value, last in zip(values, self.last, strict=True))
        # the others may have grown for much longer than the first, of which we want to know the share now
        share = min(1.0, over_s * 1000 / max(1, now_ms - self.at_ms))
        by = (by[0], *(amount * share for amount in by[1:]))
        return replace(self.added(by, now_ms, over_s), last=values, at_ms=now_ms)

    def added(self, by: tuple[float, ...], now_ms: int, over_s: float) -> "Growth":
        span_ms = int(over_s * 1000)
        bucket = max(1, span_ms // _BUCKETS)
        kept = [entry for entry in self.grown if now_ms - span_ms < entry[0] <= now_ms]
        if kept and kept[-1][0] // bucket == now_ms // bucket:
            _, before = kept.pop()
            by = tuple(a + b for a, b in zip(before, by, strict=True))
        return replace(self, grown=(*kept, (now_ms, by)))

    def total(self, now_ms: int, over_s: float) -> tuple[float, ...]:
        """Empty where nothing has grown in the last ``over_s``."""
        span_ms = int(over_s * 1000)
        parts = [by for at_ms, by in self.grown if now_ms - span_ms < at_ms <= now_ms]
        return tuple(sum(column) for column in zip(*parts, strict=True))


class AlertState(IntEnum):
    """Numbers are the wire's (``alerts.proto``)."""

    FIRING = 1
    ACKNOWLEDGED = 2
    RESOLVED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One time that a rule fired: the only open one of its (tenant, rule, device, key)."""

    id: str
    tenant: TenantId
    rule: str
    device: str  # empty: of the tenant or of the hub
    key: str  # what a stream groups by, or a job's model; empty: nothing
    source: str
    severity: Severity
    state: AlertState
    summary: str
    value: float  # last seen
    threshold: float
    labels: Mapping[str, str]  # of the device when it fired
    repeats: int  # times the condition was seen anew while it was open
    fired_at: datetime
    updated_at: datetime
    acknowledged_at: datetime | None = None
    acknowledged_by: str = ""
    comment: str = ""
    resolved_at: datetime | None = None
    resolution: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    """Alerts of which all that is given is true."""

    rule: str = ""  # empty: any
    device: str = ""
    severity: Severity | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def matches(self, alert: Alert) -> bool:
        return (
            self.rule in ("", alert.rule)
            and self.device in ("", alert.device)
            and self.severity in (None, alert.severity)
            and all(alert.labels.get(key) == value for key, value in self.labels.items())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Nobody is told of what matches until then; it is listed all the same."""

    id: str
    tenant: TenantId
    what: Matcher
    starts_at: datetime
    until: datetime
    reason: str
    created_by: str

    def covers(self, alert: Alert, now: datetime) -> bool:
        return self.tenant == alert.tenant and self.starts_at <= now < self.until and self.what.matches(alert)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Of whom a rule is asked."""

    tenant: TenantId
    device: str = ""  # empty: the tenant itself, or the hub
    board: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    model: str = ""  # as reported
    version: int = 0

    def matches(self, selector: Mapping[str, str]) -> bool:
        """By the terms of ``cloud_hub.core.labels``; a subject without a device has none of them."""
        own = {"id": self.device, "board": self.board, **self.labels}
        for key, wanted in selector.items():
            if key == "model":
                if wanted not in (self.model, f"{self.model}:{self.version}"):
                    return False
            elif own.get(key) != wanted:
                return False
        return True


def window_value(rule: AlertRule, window: StreamWindow) -> float | None:
    """What a stream's rule looks at; None: the window does not say, or it is not whole."""
    if not window.complete:
        return None
    if rule.value:
        return window.values.get(rule.value)
    return None if window.holds is None else float(window.holds)
