"""Streams of the hub: the YAML of ``edge_agent.streams``, and what only a hub can say of a stream."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

import yaml

from cloud_hub.core.errors import Invalid
from cloud_hub.core.labels import checked_selector
from edge_agent.core import documents
from edge_agent.streams.rows import READING_FIELDS, FieldKind
from edge_agent.streams.spec import InvalidSpec, Kind, StreamSpec, load_specs

MAX_YAML_BYTES = 256 * 1024
MAX_WAIT_S = 86_400.0

FIELDS: Mapping[str, FieldKind] = {
    **READING_FIELDS,
    "model_name": FieldKind.TEXT,
    "version": FieldKind.INTEGER,  # of the model; 0: not published here
    "lane": FieldKind.TEXT,
    "device": FieldKind.TEXT,
}


class Across(StrEnum):
    """Whose readings share a window."""

    DEVICE = "device"  # each device's own
    FLEET = "fleet"  # those of all devices of the tenant, or of the selector


@dataclass(frozen=True, slots=True, kw_only=True)
class HubStream:
    spec: StreamSpec
    across: Across = Across.DEVICE
    wait_s: float = 60.0  # fleet: how long windows wait for a device that has fallen silent
    yaml: str  # of this stream alone

    @property
    def fingerprint(self) -> str:
        """Changes when the engine's states of the old one have no meaning under the new one."""
        return f"{self.spec.fingerprint}-{self.across}"


def parse(text: str) -> tuple[HubStream, ...]:
    """The streams of a YAML document, in its order. Raises Invalid naming stream and key."""
    if len(text.encode(errors="replace")) > MAX_YAML_BYTES:
        raise Invalid(f"streams have more than {MAX_YAML_BYTES} bytes of YAML")
    try:
        root = documents.load(text)
    except yaml.YAMLError as error:
        raise Invalid(f"streams are not YAML: {error}") from error
    streams = root.get("streams") if isinstance(root, Mapping) else None
    if not isinstance(streams, Mapping) or not streams:
        raise Invalid("the file must map 'streams' to at least one stream by its name")
    return tuple(_stream({**root, "streams": {name: values}}, name, values) for name, values in streams.items())


@lru_cache(maxsize=512)
def parsed(text: str) -> HubStream:
    """One stored stream. Raises Invalid where another version of the hub wrote it."""
    [stream] = parse(text)
    return stream


def span_ms(spec: StreamSpec) -> int:
    """Silence of this length, and the lateness, after a reading: nothing can join its windows any more."""
    return max(1, spec.window.gap_ms if spec.window.kind is Kind.SESSION else spec.window.size_ms)


def _stream(document: Mapping[str, Any], name: Any, values: Any) -> HubStream:
    own = {key: values[key] for key in ("across", "wait_s") if isinstance(values, Mapping) and key in values}
    common = {key: value for key, value in values.items() if key not in own} if isinstance(values, Mapping) else values
    try:
        [spec] = load_specs(_dumped({**document, "streams": {name: common}}), FIELDS)
    except InvalidSpec as error:
        raise Invalid(str(error)) from error
    try:
        checked_selector(spec.selector)
    except Invalid as error:
        raise Invalid(f"stream '{name}': {error}") from error
    across = _across(name, own)
    if across is Across.FLEET and spec.window.kind not in (Kind.TUMBLING, Kind.HOPPING):
        # rows of the others wait until the watermark has passed them: a fleet's would be too many
        raise Invalid(f"stream '{name}': 'across: fleet' takes tumbling and hopping windows, not {spec.window.kind}")
    return HubStream(spec=spec, across=across, wait_s=_wait_s(name, own), yaml=_dumped({"streams": {name: values}}))


def _across(name: Any, own: Mapping[str, Any]) -> Across:
    value = own.get("across", Across.DEVICE.value)
    try:
        return Across(value)
    except ValueError:
        raise Invalid(f"stream '{name}': 'across' must be device or fleet, got {value!r}") from None


def _wait_s(name: Any, own: Mapping[str, Any]) -> float:
    value = own.get("wait_s", 60.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_WAIT_S:
        raise Invalid(f"stream '{name}': 'wait_s' must be 0..{MAX_WAIT_S:g} seconds, got {value!r}")
    if own.get("across") != Across.FLEET.value and "wait_s" in own:
        raise Invalid(f"stream '{name}': 'wait_s' needs 'across: fleet': windows of one device wait for nobody")
    return float(value)


def _dumped(values: Any) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
