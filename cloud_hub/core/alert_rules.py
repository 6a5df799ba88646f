"""What to be told of: YAML -> AlertRule, and the sources a rule can look at."""

import fnmatch
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum, IntEnum
from typing import Any

import yaml

from cloud_hub.core.errors import Invalid
from cloud_hub.core.labels import checked_selector
from edge_agent.core import documents
from edge_agent.core.errors import ConfigError
from edge_agent.core.layers import build
from edge_agent.core.nearest import did_you_mean
from protos.contract.telemetry import MAX_NAME

MAX_RULES_BYTES = 256 * 1024
MAX_SUMMARY = 512  # characters
MAX_SPAN_S = 30 * 86_400.0

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # it is a segment of a topic
_PLACE = re.compile(r"\{([^{}]*)\}")
PLACES = ("device", "key", "rule", "severity", "threshold", "value")


class Severity(IntEnum):
    """Numbers are the wire's (``alerts.proto``)."""

    INFO = 1
    WARNING = 2
    CRITICAL = 3

    @classmethod
    def of(cls, word: str) -> "Severity":
        """Raises Invalid naming the nearest known word."""
        words = [severity.name.lower() for severity in cls]
        if word not in words:
            raise Invalid(f"severity must be one of {', '.join(words)}, got {word!r}{did_you_mean(word, words)}")
        return cls[word.upper()]


class Kind(Enum):
    """How a source's value comes about."""

    LEVEL = "level"  # of a device, now
    GROWTH = "growth"  # of a device's counters, over the last ``over_s``
    EVENTS = "events"  # of a device, how many in the last ``over_s``
    STREAM = "stream"  # of the last closed window
    TENANT = "tenant"  # of a tenant, no device
    HUB = "hub"  # of the hub itself, shown to the default tenant


@dataclass(frozen=True, slots=True)
class Source:
    kind: Kind
    help: str
    over_s: float = 0.0  # default of a rule's over_s
    above: float | None = None  # default threshold; None: a rule must say


_TEN_MINUTES, _HOUR, _DAY = 600.0, 3600.0, 86_400.0

SOURCES: Mapping[str, Source] = {
    "device.offline": Source(Kind.LEVEL, "seconds since it was heard of, while it is not connected"),
    "device.disk_free_ratio": Source(Kind.LEVEL, "free share of the disk with the agent's data, 0..1"),
    "device.disk_free_bytes": Source(Kind.LEVEL, "free bytes of that disk"),
    "device.temperature_c": Source(Kind.LEVEL, "hottest zone of the board"),
    "device.spool_ratio": Source(Kind.LEVEL, "filled share of the spool, 0..1"),
    "device.latency_p95_ms": Source(Kind.LEVEL, "of the running model's inferences"),
    "device.clock_skew_s": Source(Kind.LEVEL, "how far its clock is from the hub's, either way"),
    "device.dropped_records": Source(Kind.GROWTH, "records its spool dropped, as it reports", _TEN_MINUTES, 0.0),
    "device.inference_errors": Source(Kind.GROWTH, "failed share of its inferences, 0..1", _TEN_MINUTES),
    "telemetry.gap": Source(Kind.GROWTH, "records that gaps in its telemetry stand in for", _HOUR, 0.0),
    "telemetry.quarantine": Source(Kind.LEVEL, "messages from its topic that could not be used", _HOUR, 0.0),
    "drift": Source(Kind.LEVEL, "open episodes of drift", 0.0, 0.0),
    "event": Source(Kind.EVENTS, "events of a kind", _HOUR, 0.0),
    "stream": Source(Kind.STREAM, "an aggregate of a stream's windows", _DAY),
    "job.failed": Source(Kind.TENANT, "1 while a model's last ended training job is a failed one; by model", 0.0, 0.0),
    "hub.broker_down": Source(Kind.HUB, "1 while the hub has no connection to the broker", 0.0, 0.0),
    "hub.ingest_lag_s": Source(Kind.HUB, "age of the oldest batch that is stored and not looked at"),
    "hub.certificate_days": Source(Kind.HUB, "days until the first of the hub's certificates expires"),
    "hub.revocation_list_days": Source(Kind.HUB, "days until the broker's revocation list expires, which the hub signs hourly"),
    "hub.issuing_days": Source(Kind.HUB, "days until the authority expires that issues all certificates"),
    "hub.audit_broken": Source(Kind.HUB, "tenants whose audit log was found not to hold since the hub started", 0.0, 0.0),
    "hub.root_days": Source(Kind.HUB, "days until the first TUF root expires; its holders have to sign the next one"),
    "hub.metadata_left": Source(Kind.HUB, "what is left of the life of the TUF metadata that the hub signs itself, 0..1"),
    "hub.dead_notices": Source(Kind.HUB, "notices given up on in the last over_s", _HOUR, 0.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """Valid by construction: raises Invalid naming the key."""

    name: str
    source: str = ""  # of SOURCES; "event" and "stream" follow from the keys of these names
    event: str = ""  # kind of device events, with * and ?
    stream: str = ""  # name of a stream on devices or on the hub
    value: str = ""  # stream: the aggregate to look at; empty: whether the stream's own condition holds, 1 or 0
    above: float | None = None  # fires above it ...
    below: float | None = None  # ... or below it
    clear: float | None = None  # back at it the alert may end; None: at the threshold
    for_s: float = 0.0  # how long the condition must hold
    clear_for_s: float = 0.0  # how long it must be clear
    over_s: float = 0.0  # how far back a source that counts looks; stream: how long a window's word holds; 0: the source's own
    count_stopped: bool = False  # device.offline: also devices whose agent was stopped on purpose
    severity: str = "warning"
    selector: dict[str, str] = field(default_factory=dict)  # devices with these labels; empty: all
    summary: str = ""
    enabled: bool = True

    def __post_init__(self) -> None:
        for key, source in (("event", "event"), ("stream", "stream")):
            if getattr(self, key):
                self._require(self.source in ("", source), "source", f"must be left out beside '{key}'")
                object.__setattr__(self, "source", source)
        words = ", ".join(SOURCES)
        self._require(self.source != "", "source", f"is missing: one of {words}")
        self._require(
            self.source in SOURCES,
            "source",
            f"{self.source!r} is not known{did_you_mean(self.source, SOURCES)}: one of {words}",
        )
        self._check_own_keys()
        self._check_threshold()
        self._check_rest()

    @property
    def kind(self) -> Kind:
        return SOURCES[self.source].kind

    @property
    def level(self) -> Severity:
        return Severity.of(self.severity)

    @property
    def threshold(self) -> float:
        return self.above if self.above is not None else self.below if self.below is not None else 0.0

    @property
    def identity(self) -> tuple[str, ...]:
        """What it looks at. What was seen under another identity says nothing about this rule."""
        return (self.source, self.event, self.stream, self.value)

    @property
    def span_s(self) -> float:
        return self.over_s or SOURCES[self.source].over_s

    def fires(self, value: float) -> bool:
        return value > self.threshold if self.above is not None else value < self.threshold

    def clears(self, value: float) -> bool:
        bound = self.threshold if self.clear is None else self.clear
        return value <= bound if self.above is not None else value >= bound

    def of_event(self, kind: str) -> bool:
        return bool(self.event) and fnmatch.fnmatchcase(kind, self.event)

    def _check_own_keys(self) -> None:
        self._require((self.source == "event") == bool(self.event), "event", "must name the kind of events, as update.*")
        self._require(len(self.event) <= MAX_NAME, "event", f"is longer than {MAX_NAME} characters")
        self._require((self.source == "stream") == bool(self.stream), "stream", "must name a stream")
        self._require(not self.value or self.source == "stream", "value", "belongs to stream rules only")
        self._require(
            len(self.stream) <= MAX_NAME and len(self.value) <= MAX_NAME, "stream", f"or 'value' is over {MAX_NAME} long"
        )
        self._require(
            not self.count_stopped or self.source == "device.offline", "count_stopped", "belongs to device.offline only"
        )
        self._require(
            not self.over_s or (self.span_s == self.over_s and SOURCES[self.source].over_s > 0), "over_s", "means nothing here"
        )

    def _check_threshold(self) -> None:
        default = 0.0 if self.source == "stream" and not self.value else SOURCES[self.source].above
        if self.above is None and self.below is None and default is not None:
            object.__setattr__(self, "above", default)
        self._require((self.above is None) != (self.below is None), "above", "or 'below' is needed, one of the two")
        for key in ("above", "below", "clear"):
            bound = getattr(self, key)
            self._require(bound is None or math.isfinite(bound), key, f"must be a finite number, got {bound}")
        if self.clear is not None:
            side = "above" if self.above is not None else "below"
            right = self.clear <= self.threshold if self.above is not None else self.clear >= self.threshold
            self._require(right, "clear", f"{self.clear:g} lies on the firing side of '{side}' {self.threshold:g}")

    def _check_rest(self) -> None:
        for key in ("for_s", "clear_for_s", "over_s"):
            self._require(
                0.0 <= getattr(self, key) <= MAX_SPAN_S, key, f"must be in 0..{MAX_SPAN_S:.0f}, got {getattr(self, key)}"
            )
        self._require(len(self.summary) <= MAX_SUMMARY, "summary", f"is longer than {MAX_SUMMARY} characters")
        for place in _PLACE.findall(self.summary):
            known = ", ".join(f"{{{name}}}" for name in PLACES)
            self._require(place in PLACES, "summary", f"names {{{place}}}{did_you_mean(place, PLACES)}: it may name {known}")
        try:
            Severity.of(self.severity)
            checked_selector(self.selector)
        except Invalid as error:
            raise Invalid(f"alert rule {self.name!r}: {error}") from error

    def _require(self, holds: bool, key: str, problem: str) -> None:
        if not holds:
            raise Invalid(f"alert rule {self.name!r}: '{key}' {problem}")


def render(rule: AlertRule, *, device: str, key: str, value: float) -> str:
    """The summary with its places filled."""
    places = {
        "device": device or "the hub",
        "key": key,
        "rule": rule.name,
        "severity": rule.severity,
        "threshold": readable(rule.threshold),
        "value": readable(value),
    }
    text = rule.summary or f"{rule.source} is {{value}} on {{device}}"
    return _PLACE.sub(lambda match: places[match[1]], text)


def readable(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def parse(text: str, built_in: Mapping[str, AlertRule]) -> tuple[AlertRule, ...]:
    """One rule, or several under ``rules:``. One named like a built-in rule that says no source changes only the keys it has.

    Raises Invalid naming the rule and the key, and the nearest known one.
    """
    if len(text.encode(errors="replace")) > MAX_RULES_BYTES:
        raise Invalid(f"alert rules are larger than {MAX_RULES_BYTES} bytes")
    try:
        values = documents.load(text)
    except yaml.YAMLError as error:
        raise Invalid(f"alert rules are not YAML: {' '.join(str(error).split())[:500]}") from error
    entries = values
    if isinstance(values, Mapping):
        entries = values.get("rules", [values]) if set(values) == {"rules"} or "name" in values else None
    if not isinstance(entries, list) or not entries:
        raise Invalid("alert rules must be one rule with a 'name', or a list of them under 'rules'")
    rules = tuple(_rule(entry, built_in) for entry in entries)
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise Invalid(f"alert rule {name!r} stands there twice")
    return rules


def dump(rule: AlertRule) -> str:
    """YAML that ``parse`` makes the same rule of; keys that are as by default are left out."""
    plain = asdict(rule)
    defaults = {f.name: f.default for f in fields(AlertRule)} | {"selector": {}}
    kept = {key: value for key, value in plain.items() if key == "name" or value != defaults[key]}
    if rule.event or rule.stream:
        del kept["source"]
    return yaml.safe_dump(kept, sort_keys=False)


def _rule(entry: object, built_in: Mapping[str, AlertRule]) -> AlertRule:
    if not isinstance(entry, Mapping):
        raise Invalid(f"an alert rule must be a mapping, got {type(entry).__name__}")
    name = entry.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Invalid(f"alert rule: 'name' must be 1 to 63 of a-z, 0-9 and inner '-', got {str(name)[:80]!r}")
    values: dict[str, Any] = dict(entry)
    if name in built_in and not {"source", "event", "stream"} & set(values):
        values = {**_said(built_in[name]), **values}
    try:
        return build(AlertRule, values)
    except ConfigError as error:
        raise Invalid(f"alert rule {name!r}: {error}") from error
    except TypeError as error:  # keys that are no text
        raise Invalid(f"alert rule {name!r}: {error}") from error


def _said(rule: AlertRule) -> dict[str, Any]:
    """What a rule says beyond the defaults, and its source."""
    said: dict[str, Any] = yaml.safe_load(dump(rule))
    return said
