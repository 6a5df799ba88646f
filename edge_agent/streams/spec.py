"""What a stream is: YAML -> StreamSpec."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

import yaml

from edge_agent.core import documents
from edge_agent.core.errors import ConfigError
from edge_agent.core.nearest import did_you_mean
from edge_agent.streams.rows import FieldKind

MAX_STREAMS = 64  # in one file
MAX_AGGREGATES = 32  # in one stream; a window on the wire carries 64 values
MAX_BY = 4
MAX_CONDITIONS = 16
MAX_NAME = 48  # the event of a condition is called "stream.<name>", and an event's kind has 64 characters
MAX_SIZE_S = 7 * 86_400.0
MAX_LATENESS_S = 86_400.0
MAX_SLICES = 1000  # of one hopping window: its size over the greatest common divisor of size and hop
MAX_BINS = 256
MAX_TEXT = 256

_NAME = re.compile(rf"[A-Za-z][A-Za-z0-9_-]{{0,{MAX_NAME - 1}}}")
_CALL = re.compile(r"([a-z]\w*)(?:\((.*)\))?")
_CONDITION = re.compile(r"\s*([A-Za-z][\w-]*)\s*(<=|>=|==|!=|<|>)\s*(.+?)\s*")
_PERCENTILE = re.compile(r"p[1-9]\d?")
_ORDERED = frozenset(("<", "<=", ">", ">="))
_NUMERIC = frozenset((FieldKind.INTEGER, FieldKind.NUMBER, FieldKind.FLAG))
_TAKES: Mapping[str, frozenset[FieldKind]] = {
    **dict.fromkeys(("sum", "mean", "min", "max", "first", "last", "histogram"), _NUMERIC),
    "share": frozenset((FieldKind.FLAG,)),
    "counts": frozenset((FieldKind.INTEGER,)),
    "distinct": frozenset(FieldKind),
}
_FIELDLESS = frozenset(("count", "rate"))


class InvalidSpec(ConfigError):
    """Names the stream and the key, and the nearest known one."""


class Kind(StrEnum):
    TUMBLING = "tumbling"
    HOPPING = "hopping"
    SLIDING = "sliding"
    SESSION = "session"


class Send(StrEnum):
    """Which closed windows are told: on the device sent, on the hub stored."""

    ALL = "all"
    HOLDING = "holding"  # those whose condition holds
    NONE = "none"  # only that the condition begins or ceases to hold


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSpec:
    """Lengths of event time in seconds, whole milliseconds each. docs/streams.md has the semantics of the kinds."""

    kind: Kind
    size_s: float = 0.0  # tumbling, hopping, sliding; session: at most this long, 0: no bound
    hop_s: float = 0.0  # hopping
    gap_s: float = 0.0  # session: so long without a row ends it
    lateness_s: float = 5.0  # the watermark follows the newest row at this distance

    @property
    def size_ms(self) -> int:
        return round(self.size_s * 1000)

    @property
    def hop_ms(self) -> int:
        """From one start to the next; a tumbling window hops by its size."""
        return round(self.hop_s * 1000) if self.kind is Kind.HOPPING else self.size_ms

    @property
    def gap_ms(self) -> int:
        return round(self.gap_s * 1000)

    @property
    def lateness_ms(self) -> int:
        return round(self.lateness_s * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """``function`` of ``field``: count, sum, mean, min, max, first, last, rate, distinct, p1..p99, share, histogram, counts."""

    function: str
    field: str = ""  # count and rate have none
    low: float = 0.0  # histogram: ``bins`` of equal width over low..high; what is outside counts in the outermost
    high: float = 0.0
    bins: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """``left op right``: an aggregate or a field against a number or a text."""

    left: str
    op: str  # < <= > >= == !=
    right: float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    name: str
    window: WindowSpec
    aggregates: Mapping[str, Aggregate]
    by: tuple[str, ...] = ()  # fields to group by
    where: tuple[Condition, ...] = ()  # rows that count, all must hold
    condition: tuple[Condition, ...] = ()  # on the aggregates, all must hold; one without a value does not
    selector: Mapping[str, str] = field(default_factory=dict)  # hub: devices with these labels
    send: Send = Send.ALL

    def __hash__(self) -> int:
        return hash((self.name, self.window, self.by, self.where, self.condition))

    @property
    def fields(self) -> frozenset[str]:
        """What its rows must have."""
        used = (aggregate.field for aggregate in self.aggregates.values() if aggregate.field)
        return frozenset((*used, *self.by, *(condition.left for condition in self.where)))

    @property
    def fingerprint(self) -> str:
        """Changes when states of the old spec have no meaning under the new one.

        Names, ``condition``, ``send`` and ``selector`` are not in it: they say what is made of a state.
        """
        return _fingerprint(self)


@lru_cache(maxsize=256)
def _fingerprint(spec: StreamSpec) -> str:
    window = spec.window
    meaning = [
        [window.kind.value, window.size_ms, window.hop_ms, window.gap_ms],
        list(spec.by),
        sorted([c.left, c.op, repr(c.right)] for c in spec.where),
        sorted({json.dumps([a.function, a.field, a.low, a.high, a.bins]) for a in spec.aggregates.values()}),
    ]
    return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()[:16]


def load_specs(text: str, fields: Mapping[str, FieldKind] | None = None) -> tuple[StreamSpec, ...]:
    """The streams of a YAML file (docs/streams.md), in its order.

    With ``fields`` every field a spec speaks of must be one of them, of a kind that fits its use. Raises InvalidSpec.
    """
    try:
        values = documents.load(text)
    except yaml.YAMLError as error:
        raise InvalidSpec(f"streams are not YAML: {error}") from error
    root = _mapping(values if values is not None else {}, "streams file", ("streams",))
    streams = root.get("streams") or {}
    if not isinstance(streams, Mapping):
        raise InvalidSpec(f"'streams' must map names to streams, got {type(streams).__name__}")
    if len(streams) > MAX_STREAMS:
        raise InvalidSpec(f"'streams' has {len(streams)} streams, more than {MAX_STREAMS}")
    return tuple(_Reader(str(name), fields).stream(value) for name, value in streams.items())


class _Reader:
    """One stream of the file."""

    def __init__(self, name: str, fields: Mapping[str, FieldKind] | None) -> None:
        self._where, self._name, self._fields = f"stream '{name}'", name, fields

    def stream(self, value: Any) -> StreamSpec:
        if not _NAME.fullmatch(self._name):
            raise self._wrong(f"the name must be a letter and up to {MAX_NAME - 1} letters, digits, '_' or '-'")
        keys = ("window", "aggregates", "by", "where", "condition", "selector", "send")
        values = _mapping(value, self._where, keys)
        aggregates = self._aggregates(values.get("aggregates"))
        spec = StreamSpec(
            name=self._name,
            window=self._window(values.get("window")),
            aggregates=aggregates,
            by=self._by(values.get("by")),
            where=tuple(self._where_condition(text) for text in self._texts(values.get("where"), "where")),
            condition=tuple(
                self._close_condition(text, aggregates) for text in self._texts(values.get("condition"), "condition")
            ),
            selector=self._selector(values.get("selector")),
            send=self._choice(values.get("send", Send.ALL.value), "send", Send),
        )
        if spec.send is Send.HOLDING and not spec.condition:
            raise self._wrong("'send: holding' needs a 'condition'")
        return spec

    def _window(self, value: Any) -> WindowSpec:
        needs = {
            Kind.TUMBLING: ("size_s",),
            Kind.HOPPING: ("size_s", "hop_s"),
            Kind.SLIDING: ("size_s",),
            Kind.SESSION: ("gap_s",),
        }
        where = f"{self._where}: 'window'"
        values = _mapping(value, where, ("kind", "size_s", "hop_s", "gap_s", "lateness_s"))
        kind = self._choice(values.get("kind"), "window.kind", Kind)
        lengths = {key: self._seconds(key, length) for key, length in values.items() if key != "kind"}
        for key in needs[kind]:
            if not lengths.get(key):
                raise self._wrong(f"a {kind} window needs 'window.{key}' above 0")
        takes = {*needs[kind], "lateness_s", *(("size_s",) if kind is Kind.SESSION else ())}
        for key in lengths.keys() - takes:
            raise self._wrong(f"a {kind} window has no 'window.{key}'")
        window = WindowSpec(kind=kind, **lengths)
        if kind is Kind.HOPPING:
            if window.hop_ms > window.size_ms:
                raise self._wrong("'window.hop_s' must not be longer than 'window.size_s'")
            if window.size_ms // math.gcd(window.size_ms, window.hop_ms) > MAX_SLICES:
                raise self._wrong(f"'window.hop_s' cuts 'window.size_s' into more than {MAX_SLICES} slices: take a rounder one")
        return window

    def _seconds(self, key: str, value: Any) -> float:
        most = MAX_LATENESS_S if key == "lateness_s" else MAX_SIZE_S
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise self._wrong(f"'window.{key}' must be 0..{most:g} seconds, got {value!r}")
        if abs(value * 1000 - round(value * 1000)) > 1e-6:
            raise self._wrong(f"'window.{key}' must be whole milliseconds, got {value!r} s")
        return float(value)

    def _aggregates(self, value: Any) -> dict[str, Aggregate]:
        if not isinstance(value, Mapping) or not value:
            raise self._wrong("'aggregates' must map names to functions, as 'mean: mean(confidence)'")
        if len(value) > MAX_AGGREGATES:
            raise self._wrong(f"'aggregates' has {len(value)}, more than {MAX_AGGREGATES}")
        return {str(name): self._aggregate(str(name), text) for name, text in value.items()}

    def _aggregate(self, name: str, text: Any) -> Aggregate:
        key = f"'aggregates.{name}'"
        found = _CALL.fullmatch(text.strip()) if isinstance(text, str) else None
        if not _NAME.fullmatch(name) or found is None:
            raise self._wrong(f"{key} must be a name and a function, as 'mean: mean(confidence)', got {text!r}")
        function, arguments = found[1], [part.strip() for part in (found[2] or "").split(",") if part.strip()]
        known = [*_TAKES, *_FIELDLESS]
        if function not in known and not _PERCENTILE.fullmatch(function):
            raise self._wrong(f"{key} names no function: '{function}'{did_you_mean(function, [*known, 'p50', 'p95', 'p99'])}")
        wanted = 0 if function in _FIELDLESS else 4 if function == "histogram" else 1
        if len(arguments) != wanted:
            form = "histogram(field, low, high, bins)" if wanted == 4 else f"{function}(field)" if wanted else function
            raise self._wrong(f"{key} must be written as {form}, got {text!r}")
        if not wanted:
            return Aggregate(function=function)
        self._check_field(key, arguments[0], _TAKES.get(function, _NUMERIC), function)
        if wanted == 1:
            return Aggregate(function=function, field=arguments[0])
        low, high, bins = (_number(argument) for argument in arguments[1:])
        if low is None or high is None or bins is None or not low < high or bins not in range(1, MAX_BINS + 1):
            raise self._wrong(f"{key} must be histogram(field, low, high, bins) with low < high and 1..{MAX_BINS} bins")
        return Aggregate(function=function, field=arguments[0], low=low, high=high, bins=int(bins))

    def _by(self, value: Any) -> tuple[str, ...]:
        names = self._texts(value, "by")
        if len(names) > MAX_BY or len(set(names)) != len(names):
            raise self._wrong(f"'by' must be at most {MAX_BY} different fields, got {names}")
        for name in names:
            self._check_field("'by'", name, frozenset((FieldKind.INTEGER, FieldKind.FLAG, FieldKind.TEXT)), "by")
        return tuple(names)

    def _where_condition(self, text: str) -> Condition:
        condition = self._condition(text, "where")
        kind = FieldKind.TEXT if isinstance(condition.right, str) else None
        takes = frozenset((kind,)) if kind else _NUMERIC
        self._check_field("'where'", condition.left, takes, f"{condition.op} {condition.right!r}")
        return condition

    def _close_condition(self, text: str, aggregates: Mapping[str, Aggregate]) -> Condition:
        condition = self._condition(text, "condition")
        single = [name for name, aggregate in aggregates.items() if aggregate.function not in ("histogram", "counts")]
        if condition.left not in single:
            near = did_you_mean(condition.left, single)
            raise self._wrong(f"'condition' must be on an aggregate with one value, got '{condition.left}'{near}")
        if isinstance(condition.right, str):
            raise self._wrong(f"'condition' must compare with a number, got {text!r}")
        return condition

    def _condition(self, text: str, key: str) -> Condition:
        found = _CONDITION.fullmatch(text)
        if found is None:
            raise self._wrong(f"'{key}' must be written as 'name < number', with one of < <= > >= == !=, got {text!r}")
        left, op, right = found.groups()
        number = _number({"true": "1", "false": "0"}.get(right, right))
        if number is not None:
            return Condition(left=left, op=op, right=number)
        if op in _ORDERED:
            raise self._wrong(f"'{key}' can compare a text with == and != only, got {text!r}")
        return Condition(left=left, op=op, right=right.strip("'\"")[:MAX_TEXT])

    def _texts(self, value: Any, key: str) -> list[str]:
        """One text or a list of them; a missing one is none."""
        texts = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts) or len(texts) > MAX_CONDITIONS:
            raise self._wrong(f"'{key}' must be a text or a list of at most {MAX_CONDITIONS} texts, got {value!r}")
        return texts

    def _selector(self, value: Any) -> dict[str, str]:
        if value is None:
            return {}
        if not isinstance(value, Mapping) or len(value) > MAX_CONDITIONS:
            raise self._wrong(f"'selector' must map labels to values, got {value!r}")
        return {str(key): str(wanted) for key, wanted in value.items()}

    def _choice(self, value: Any, key: str, choices: type[StrEnum]) -> Any:
        try:
            return choices(value)
        except ValueError:
            known = [choice.value for choice in choices]
            raise self._wrong(
                f"'{key}' must be one of {', '.join(known)}, got {value!r}{did_you_mean(str(value), known)}"
            ) from None

    def _check_field(self, key: str, name: str, takes: frozenset[FieldKind], use: str) -> None:
        if self._fields is None:
            return
        if name not in self._fields:
            raise self._wrong(f"{key} names no field of a reading: '{name}'{did_you_mean(name, self._fields)}")
        if self._fields[name] not in takes:
            kinds = " or ".join(sorted(takes))
            raise self._wrong(f"{key}: {use} needs a field of kind {kinds}, and '{name}' is of kind {self._fields[name]}")

    def _wrong(self, what: str) -> InvalidSpec:
        return InvalidSpec(f"{self._where}: {what}")


def _mapping(value: Any, where: str, known: Iterable[str]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidSpec(f"{where} must be a mapping, got {type(value).__name__}")
    for key in value:
        if key not in (known := list(known)):
            raise InvalidSpec(f"{where} has an unknown key '{key}'{did_you_mean(str(key), known)}")
    return value


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
