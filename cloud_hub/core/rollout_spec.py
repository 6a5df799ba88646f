"""A rollout's plan as the YAML that a user writes, and as the JSON that is stored."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

import yaml

from cloud_hub.core import gates as gate_rules
from cloud_hub.core import plan_times as times
from cloud_hub.core.errors import Invalid
from cloud_hub.core.rollout_plan import MAX_WAVES, Component, Failure, OnBreach, RolloutPlan, Success, Wave
from edge_agent.core import documents
from edge_agent.core.errors import ConfigError
from edge_agent.core.layers import build
from edge_agent.core.nearest import did_you_mean

MAX_PLAN_BYTES = 64 * 1024


def parse(text: str) -> RolloutPlan:
    """Raises Invalid naming the key, and for an unknown one the nearest known key."""
    if len(text) > MAX_PLAN_BYTES:
        raise Invalid(f"rollout plan: {len(text)} characters, more than {MAX_PLAN_BYTES}")
    try:
        values = documents.load(text)
    except yaml.YAMLError as error:
        raise Invalid(f"rollout plan is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise Invalid(f"rollout plan must be a mapping of keys, got {type(values).__name__}")
    return of_values(values)


def of_values(values: Mapping[Any, Any]) -> RolloutPlan:
    """Raises Invalid, as ``parse``."""
    rest = {str(key): value for key, value in values.items() if value is not None}
    for key in rest:
        if key not in _KEYS:
            raise Invalid(f"rollout plan: unknown key '{key[:64]}'{did_you_mean(key, _KEYS)}")
    found = [Component(key) for key in list(rest) if key in set(Component)]
    if len(found) != 1:
        raise Invalid(f"rollout plan must name one of {', '.join(Component)}")
    made: dict[str, Any] = {
        "component": found[0],
        "name": str(rest.pop(found[0])),
        "version": _version(rest.pop("version", "")),
    }
    start = rest.pop("start", None)
    made["manual"] = start == "manual"
    made["start"] = None if made["manual"] else times.moment("start", start)
    made["not_before"] = times.moment("not_before", rest.pop("not_before", None))
    made["windows"] = times.windows(rest.pop("windows", ()))
    made["gates"] = gate_rules.parse(rest.pop("gates", ()))
    made["waves"] = _completed(_waves(rest.pop("waves", ())))
    made["on_breach"] = _on_breach(rest.pop("on_breach", OnBreach.ROLLBACK_ALL))
    try:
        return RolloutPlan(**made, **_plain_parts(rest))
    except ConfigError as error:
        raise Invalid(f"rollout plan: {error}") from error


def to_values(plan: RolloutPlan) -> dict[str, Any]:
    """Plain values with every default written out; ``of_values`` gives the same plan back."""
    return {
        plan.component.value: plan.name,
        "version": plan.version,
        "selector": dict(plan.selector),
        "waves": [
            _without_none(count=w.count, percent=w.percent, selector=w.selector, approval=w.approval, soak_s=w.soak_s)
            for w in plan.waves
        ],
        "rate_per_minute": plan.rate_per_minute,
        **_without_none(
            start="manual" if plan.manual else times.text(plan.start),
            not_before=times.text(plan.not_before),
        ),
        "windows": [times.window_values(window) for window in plan.windows],
        "soak_s": plan.soak_s,
        "success": _without_none(share=plan.success.share, deadline_s=plan.success.deadline_s),
        "failure": _without_none(count=plan.failure.count, share=plan.failure.share, min_executed=plan.failure.min_executed),
        "gates": gate_rules.plain(plan.gates),
        "on_breach": plan.on_breach.value,
        "keep_open": plan.keep_open,
    }


def dump(plan: RolloutPlan) -> str:
    """JSON, which is YAML too; ``load`` gives the same plan back."""
    return json.dumps(to_values(plan), separators=(",", ":"), ensure_ascii=False)


@lru_cache(maxsize=256)
def load(text: str) -> RolloutPlan:
    """What ``dump`` made."""
    return of_values(json.loads(text))


def _version(value: object) -> str:
    """YAML takes 1.10 for the number 1.1."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise Invalid(f"rollout plan: 'version' must be a whole number or text: quote it, as in '1.10', got {str(value)[:64]}")
    return str(value)


def _waves(values: object) -> tuple[Wave, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise Invalid(f"rollout plan: 'waves' must be a list, got {type(values).__name__}")
    if len(values) > MAX_WAVES:
        raise Invalid(f"rollout plan: 'waves' are {len(values)}, more than {MAX_WAVES}")
    return tuple(_wave(f"waves[{number}]", value) for number, value in enumerate(values))


def _wave(where: str, value: object) -> Wave:
    if not isinstance(value, Mapping):
        raise Invalid(f"rollout plan: '{where}' must be a mapping, got {type(value).__name__}")
    value = dict(value)
    if value.pop("rest", True) is not True:
        raise Invalid(f"rollout plan: '{where}.rest' is true or not there")
    try:
        return build(Wave, value, where)
    except ConfigError as error:
        raise Invalid(f"rollout plan: {error}") from error
    except Invalid as error:
        raise Invalid(f"rollout plan: '{where}': {error}") from error


def _completed(waves: tuple[Wave, ...]) -> tuple[Wave, ...]:
    """Whom the waves leave out follows in one more: a selected device is never forgotten."""
    return waves if waves and waves[-1].rest else (*waves, Wave())


def _plain_parts(values: dict[str, Any]) -> dict[str, Any]:
    """The sections that need no care of their own. Raises ConfigError, Invalid."""
    parts = build(_Parts, values)
    return {name: getattr(parts, name) for name in ("selector", "rate_per_minute", "soak_s", "success", "failure", "keep_open")}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    selector: dict[str, str] = field(default_factory=dict)
    rate_per_minute: int = 0
    soak_s: int = 60
    success: Success = field(default_factory=Success)
    failure: Failure = field(default_factory=Failure)
    keep_open: bool = False


_OWN = ("version", "start", "not_before", "windows", "gates", "waves", "on_breach")
_KEYS = (*map(str, Component), *_OWN, *(part.name for part in fields(_Parts)))


def _on_breach(value: object) -> OnBreach:
    try:
        return OnBreach(str(value))
    except ValueError as error:
        raise Invalid(f"rollout plan: 'on_breach' must be one of {', '.join(OnBreach)}, got {str(value)[:64]!r}") from error


def _without_none(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
