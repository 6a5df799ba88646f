"""Gates of a rollout: what the field must show of the new version before the rollout goes on. Rules only, no clock, no store.

A gate compares one metric of the devices that took the new version with a number, or with a group of devices that is like them:
the same devices before, or devices of the rollout whose turn has not come. Every reading comes with an interval; a gate is
breached only when the whole interval is on the wrong side, passed when the estimate is on the right one, and waits in between
and until there are samples enough. How wide an interval must be so that many looks at it do no harm: ``gate_figures``.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum, StrEnum
from typing import Any

from cloud_hub.core.errors import Invalid
from edge_agent.core.errors import ConfigError
from edge_agent.core.layers import build

MAX_GATES = 32


class Metric(StrEnum):
    INSTALL_SUCCESS = "install_success"  # share of the updates that ended which are committed, 0..1
    ERROR_RATE = "error_rate"  # failed share of inferences, 0..1
    LATENCY_P95_MS = "latency_p95_ms"  # of inference on the device
    CONFIDENCE_SHIFT = "confidence_shift"  # mean confidence less that of the version at validation
    DRIFT_SCORE = "drift_score"  # PSI of labels or of confidence against validation, whichever is larger
    UNCERTAIN_RATE = "uncertain_rate"  # share of readings below the manifest's threshold: what joint inference escalates, 0..1
    CRASH_RATE = "crash_rate"  # dead workers, faults and unannounced restarts, each device-hour
    ACCURACY = "accuracy"  # of labelled control samples, 0..1


class Group(StrEnum):
    """Whom the devices with the new version are compared with."""

    BEFORE = "before"  # the same devices, before they were updated
    CONTROL = "control"  # devices of the rollout that have not been updated, at the same time


class Outcome(Enum):
    PASS = "pass"
    WAIT = "wait"
    BREACH = "breach"


_LEAST: Mapping[Metric, float] = {
    Metric.INSTALL_SUCCESS: 1.0,  # devices
    Metric.CRASH_RATE: 5.0,  # device-minutes
    Metric.ACCURACY: 30.0,  # labels
}
_LEAST_READINGS = 200.0
_ABSOLUTE, _RELATIVE = ("max", "min"), ("max_rise", "max_fall", "max_ratio")
_ONLY_ABSOLUTE = (Metric.INSTALL_SUCCESS,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Valid by construction: raises Invalid naming the key."""

    metric: str = ""  # of Metric
    max: float | None = None
    min: float | None = None
    max_rise: float | None = None  # above the group it is compared with
    max_fall: float | None = None  # below it
    max_ratio: float | None = None  # times it
    versus: str = ""  # of Group; what a relative bound is compared with; default: control
    min_samples: float | None = None  # on either side; default: by metric

    def __post_init__(self) -> None:
        if self.metric not in list(Metric):
            raise Invalid(f"gate metric must be one of {', '.join(Metric)}, got {self.metric[:64]!r}")
        given = [name for name in (*_ABSOLUTE, *_RELATIVE) if getattr(self, name) is not None]
        if len(given) != 1:
            raise Invalid(
                f"gate {self.metric} needs exactly one of {', '.join((*_ABSOLUTE, *_RELATIVE))}, got {given or 'none'}"
            )
        if not math.isfinite(self.bound) or (given[0] in _RELATIVE and self.bound < 0):
            raise Invalid(f"gate {self.metric}: {given[0]} must be finite, and not negative where it is relative")
        if self.is_relative and self.metric in _ONLY_ABSOLUTE:
            raise Invalid(f"gate {self.metric} has nothing to be compared with: use max or min")
        if self.is_relative and not self.versus:
            object.__setattr__(self, "versus", Group.CONTROL.value)
        if self.versus and (not self.is_relative or self.versus not in list(Group)):
            raise Invalid(f"gate {self.metric}: versus goes with a relative bound, and is one of {', '.join(Group)}")
        if self.min_samples is None:
            object.__setattr__(self, "min_samples", _LEAST.get(Metric(self.metric), _LEAST_READINGS))
        if not 0 < self.least < math.inf:
            raise Invalid(f"gate {self.metric}: min_samples must be above 0, got {self.least}")

    @property
    def rule(self) -> str:
        """Which of the bounds it has."""
        return next(name for name in (*_ABSOLUTE, *_RELATIVE) if getattr(self, name) is not None)

    @property
    def bound(self) -> float:
        return float(getattr(self, self.rule))

    @property
    def is_relative(self) -> bool:
        return self.rule in _RELATIVE

    @property
    def least(self) -> float:
        assert self.min_samples is not None
        return self.min_samples

    def __str__(self) -> str:
        return f"{self.metric} {self.rule} {self.bound:g}" + (f" versus {self.versus}" if self.versus else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one group shows of one metric."""

    value: float
    low: float  # the interval, at most value
    high: float  # at least value
    samples: float  # readings, devices, device-minutes or labels: what ``min_samples`` counts
    devices: int = 0  # that they come from


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReading:
    """One gate, judged once."""

    gate: Gate
    outcome: Outcome
    reason: str
    treated: Reading | None = None  # None: nothing has come yet
    compared: Reading | None = None  # of the group it is compared with


@dataclass(frozen=True, slots=True, kw_only=True)
class GateVerdict:
    """All gates of a rollout together."""

    outcome: Outcome
    readings: tuple[GateReading, ...] = field(default=())

    @property
    def reason(self) -> str:
        """What decided: of the breaches, or else of those that wait."""
        return "; ".join(one.reason for one in self.readings if one.outcome is self.outcome and one.outcome is not Outcome.PASS)


Readings = Mapping[Metric, Reading]

NO_GATES = GateVerdict(outcome=Outcome.PASS)


def parse(values: object) -> tuple[Gate, ...]:
    """The ``gates`` section of a rollout's plan: a list of mappings, or nothing. Raises Invalid naming the gate and the key."""
    if values is None:
        return ()
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise Invalid(f"gates must be a list, got {type(values).__name__}")
    if len(values) > MAX_GATES:
        raise Invalid(f"{len(values)} gates are more than {MAX_GATES}")
    gates = tuple(_gate(number, value) for number, value in enumerate(values, 1))
    twice = next((gate for number, gate in enumerate(gates) if gate in gates[:number]), None)
    if twice is not None:
        raise Invalid(f"the gate {twice} is there twice")
    return gates


def plain(gates: Sequence[Gate]) -> list[dict[str, Any]]:
    """What ``parse`` takes, to be stored."""
    named = [f.name for f in fields(Gate)]
    return [{name: getattr(gate, name) for name in named if getattr(gate, name) not in (None, "")} for gate in gates]


def waiting(gates: Sequence[Gate], reason: str) -> GateVerdict:
    """All of them, for the same reason."""
    readings = tuple(GateReading(gate=gate, outcome=Outcome.WAIT, reason=f"{gate}: {reason}") for gate in gates)
    return GateVerdict(outcome=Outcome.WAIT, readings=readings)


def judge(
    gates: Sequence[Gate], treated: Readings, groups: Mapping[Group, Readings], over: Collection[Group] = ()
) -> GateVerdict:
    """``groups`` lacks those that have no device: what is to be compared with one of them passes, and says so.

    The same holds where a group that is ``over``, of which nothing more can come, has too few samples.
    """
    readings = tuple(_judged(gate, treated.get(Metric(gate.metric)), groups, over) for gate in gates)
    for outcome in (Outcome.BREACH, Outcome.WAIT):
        if any(one.outcome is outcome for one in readings):
            return GateVerdict(outcome=outcome, readings=readings)
    return GateVerdict(outcome=Outcome.PASS, readings=readings)


def _gate(number: int, value: object) -> Gate:
    if not isinstance(value, Mapping):
        raise Invalid(f"gate {number} must be a mapping of its keys, got {type(value).__name__}")
    try:
        return build(Gate, dict(value))
    except ConfigError as error:
        raise Invalid(f"gate {number}: {error}") from error


def _judged(gate: Gate, treated: Reading | None, groups: Mapping[Group, Readings], over: Collection[Group]) -> GateReading:
    compared: Reading | None = None

    def outcome(outcome: Outcome, reason: str) -> GateReading:
        return GateReading(gate=gate, outcome=outcome, reason=f"{gate}: {reason}", treated=treated, compared=compared)

    if gate.is_relative and Group(gate.versus) not in groups:
        return outcome(Outcome.PASS, "there is no device to compare with")
    if treated is None or treated.samples < gate.least:
        return outcome(Outcome.WAIT, f"{treated.samples if treated else 0:g} samples of {gate.least:g}")
    if gate.is_relative:
        compared = groups[Group(gate.versus)].get(Metric(gate.metric))
        if compared is None or compared.samples < gate.least:
            too_few = f"{compared.samples if compared else 0:g} samples of {gate.least:g} to compare with"
            if gate.versus in over and gate.metric != Metric.ACCURACY:  # labels may come at any time
                return outcome(Outcome.PASS, f"{too_few}, and there will be no more")
            return outcome(Outcome.WAIT, too_few)
    excess, surely = _excess(gate, treated, compared)
    said = f"{treated.value:.4g}" + (f" against {compared.value:.4g}" if compared is not None else "")
    if surely > 0:
        return outcome(Outcome.BREACH, f"{said}, of {treated.samples:g} samples of {treated.devices} devices")
    if excess > 0:
        return outcome(Outcome.WAIT, f"{said} is beyond it, and {treated.samples:g} samples are too few to be sure")
    return outcome(Outcome.PASS, said)


def _excess(gate: Gate, treated: Reading, compared: Reading | None) -> tuple[float, float]:
    """By how much the bound is exceeded, and by how much at least.

    The distance to the lower end of a difference of two is the root of the sum of the squares of theirs (G. Zou and A. Donner,
    "Construction of confidence limits about effect measures", Statistics in Medicine 27, 2008).
    """
    if gate.rule == "max":
        return treated.value - gate.bound, treated.low - gate.bound
    if gate.rule == "min":
        return gate.bound - treated.value, gate.bound - treated.high
    assert compared is not None
    if gate.rule == "max_fall":
        excess = compared.value - treated.value - gate.bound
        return excess, excess - math.hypot(compared.value - compared.low, treated.high - treated.value)
    times, more = (gate.bound, 0.0) if gate.rule == "max_ratio" else (1.0, gate.bound)
    excess = treated.value - times * compared.value - more
    return excess, excess - math.hypot(treated.value - treated.low, times * (compared.high - compared.value))
