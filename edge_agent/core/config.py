"""One frozen configuration, read once: defaults < agent.yaml < conf.d/*.yaml < environment (``EDGE_AGENT__SOURCE__KIND``)."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from edge_agent.core import documents
from edge_agent.core.errors import ConfigError
from protos.contract.inputs import MAX_FEATURES, MAX_STEPS

ENV_PREFIX = "EDGE_AGENT__"
REPORT_BYTES = 1000  # one health report on the wire, with its acknowledgement
_LOCAL = (("", "data_dir"), ("update", "reboot_command"), ("update", "rauc"))  # of agent.yaml and the environment only
LINE_KINDS = ("table", "lines", "series")  # of sources
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesConfig:
    """Readings in the lines of a file -> windows."""

    channels: tuple[str, ...] = ()  # columns, in this order; none: all but those of time and name, as the file has them
    steps: int = 0  # readings in a window
    stride: int = 0  # readings from one window to the next; 0: as many as a window has
    step_s: float = 0.0  # between two readings, by source.time_column; 0: each is the next step, whenever it came
    max_gap: int = 0  # missing readings in a row that a window bridges with NaN; a longer gap begins a new window

    def __post_init__(self) -> None:
        if not 0 <= self.steps <= MAX_STEPS or self.stride < 0 or not 0 <= self.max_gap <= MAX_STEPS:
            raise ConfigError(f"'source.series': steps and max_gap must be in 0..{MAX_STEPS}, and stride 0 or more")
        if self.step_s and not 1e-6 <= self.step_s < 1e9:  # times have microseconds
            raise ConfigError(f"'source.series.step_s' must be 0, or 0.000001 s or more, got {self.step_s:g}")
        if len(self.channels) * self.steps > MAX_FEATURES or len(set(self.channels)) != len(self.channels):
            raise ConfigError(f"'source.series.channels' must differ, and a window of them hold {MAX_FEATURES} values at most")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    kind: str = "folder"  # "folder", "camera", "table", "lines", "series" or "none"
    path: str = ""  # folder of images; a camera: /dev/videoN, rtsp://..., or a video file; else a file, or unix:SOCKET
    name: str = ""  # camera or site name sent with samples; default: the last part of path
    fps: float = 10.0  # frames, rows or texts a second at most; 0: as fast as they come
    loop: bool = False  # folder, file: start again at the end
    follow: bool = False  # folder, file of lines: wait for new ones at the end, as tail -F does
    fresh: bool = False  # file of lines that is followed: only what is written from now on
    format: str = ""  # table, series: "csv" with a header or "jsonl"; default: by the ending, a socket gives "jsonl"
    time_column: str = ""  # table, series: ISO 8601 or Unix time of a row; default: when it is read
    name_column: str = ""  # table, series: what a row is called, for labels that come later; default: "file#line"
    series: SeriesConfig = field(default_factory=SeriesConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class InferConfig:
    threads: int = 1  # intra-op threads of the runtime: more burn CPU by spinning
    golden_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureConfig:
    max_bytes: int = 64 << 20
    per_hour: int = 3600  # frames
    control_rate: float = 0.01  # share of frames kept at random, whatever the model says


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolConfig:
    max_bytes: int = 64 << 20  # of records; the file with its log takes half as much again and 5 MiB at most
    batch_records: int = 100
    linger_s: float = 2.0  # a batch is cut when it is this old, full or not
    commit_interval_s: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncConfig:
    keepalive_s: int = 30
    in_flight: int = 100  # batches sent and not yet covered by a watermark, per lane: the hub tells ten times a second
    in_flight_bytes: int = 512 << 10  # and bytes of them, per lane
    stall_s: float = 15.0  # the broker has it all and no watermark comes for this long or up to twice: send again from the last
    stall_max_s: float = 600.0  # what that pause grows to while none comes
    report_s: float = 30.0
    backoff_min_s: float = 0.5
    backoff_max_s: float = 60.0
    metered: bool = False  # the link costs by the byte: bytes_per_hour holds, and normal goes before bulk
    bytes_per_hour: int = 8 << 20  # both ways, as a carrier counts them; the critical lane goes on beyond it, and is counted

    def __post_init__(self) -> None:
        needed = round(3600 / max(self.report_s, 1.0) * REPORT_BYTES)
        if self.metered and self.bytes_per_hour < 2 * needed:
            raise ConfigError(
                f"'sync.bytes_per_hour' is {self.bytes_per_hour}, but reports every {self.report_s:g} s use {needed} of it: "
                f"give at least {2 * needed}, or report less often"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamsConfig:
    """Windows made of readings before the uplink."""

    specs: Path | None = None  # YAML, see docs/streams.md; None: no streams
    raw: str = "all"  # which readings are sent besides the windows: "all", "uncertain" or "none"
    checkpoint_s: float = 5.0  # how often open windows are kept on disk


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """HTTP: /metrics, /livez, /readyz, and /latest, which is what the model said last."""

    host: str = "127.0.0.1"
    port: int | None = None  # None: off; 0: a free one, named in the log

    def __post_init__(self) -> None:
        if self.port is not None and not 0 <= self.port <= 65535:
            raise ConfigError(f"'metrics.port' must be in 0..65535, got {self.port}; 0 takes a free one")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedConfig:
    """A vehicle's signals, by their VSS names in one JSON object that another process writes over and over."""

    path: Path
    max_age_s: float = 10.0  # an older file says nothing: the vehicle is then not parked
    max_speed_kmh: float = 0.5
    speed: str = "Vehicle.Speed"
    parked: tuple[str, ...] = ("Vehicle.Powertrain.Transmission.IsParkLockEngaged",)  # each that is there is true, and one is


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateConfig:
    probation_s: float = 10.0  # how long a new model must stay healthy before it is committed
    probation_inferences: int = 20  # and how many good inferences it must give
    max_attempts: int = 3
    fetch_timeout_s: float = 600.0  # without a byte, while the device is online
    staged_timeout_s: float = 7 * 86400.0  # how long a downloaded one may wait for its conditions
    trial_timeout_s: float = 3600.0  # after which one that nothing was decided about is taken back
    max_crashes: int = 5  # of a committed model's worker, in crash_window_s: then the one before it returns
    crash_window_s: float = 3600.0
    windows: tuple[str, ...] = ()  # when updates may become active here, as "mon-fri 02:00-05:00 local"; none: at any time
    lock_files: tuple[Path, ...] = ()  # none becomes active while one of these exists: whoever records something makes it
    min_battery_percent: int = 0  # of the emptiest battery that does not charge; 0: it does not matter
    parked: ParkedConfig | None = None  # None: this is no vehicle
    reboot_command: tuple[str, ...] = ("systemctl", "reboot")  # for an image of the board to be tried
    max_error_rate: float = 0.05
    max_latency_ratio: float = 5.0  # p95 of the new model / p95 of the golden run's own latency on this device
    disk_reserve_bytes: int = 16 << 20  # left free after staging
    min_bytes_per_s: float = 256.0  # a hub that sends slower than this, averaged over rate_window_s, is given up on
    rate_window_s: float = 60.0
    delta_memory_bytes: int = 64 << 20  # that decoding a delta may take, beside the process it runs in; 0: no deltas
    plain_http: bool = False  # blobs may come over HTTP without TLS: others see them, and nobody can change them unseen
    settle_s: float = 60.0  # how long a new agent or image of the board must do its work before it is committed
    reach_timeout_s: float = 3600.0  # and how long it has to reach the hub
    rauc: Path | None = None  # RAUC's command, where the board has it; None: its image cannot be replaced


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """Everything the agent can be told. ``data_dir`` holds identity, models, spool and captures."""

    data_dir: Path = Path("/var/lib/edge-agent")
    source: SourceConfig = field(default_factory=SourceConfig)
    infer: InferConfig = field(default_factory=InferConfig)
    capture: CaptureConfig = field(default_factory=CaptureConfig)
    spool: SpoolConfig = field(default_factory=SpoolConfig)
    sync: SyncConfig = field(default_factory=SyncConfig)
    update: UpdateConfig = field(default_factory=UpdateConfig)
    streams: StreamsConfig = field(default_factory=StreamsConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    log_level: str = "INFO"


def load(path: Path | None, env: Mapping[str, str] = os.environ, *, overlay: Path | None = None) -> AgentConfig:
    """``overlay``: what the hub has sent, over the device's own files and under its environment.

    Raises ConfigError naming the key, or the file that cannot be read.
    """
    sent = _overlay(overlay)
    config = build(AgentConfig, layered(path, env, prefix=ENV_PREFIX, overlay=sent))
    _check_source(config.source, sent)
    return config


def _overlay(path: Path | None) -> Mapping[str, Any]:
    """It cannot move the data directory: in there it lies itself, and what would take it back. Nor name commands: whoever signs
    settings would run programs.
    """
    values = _read(path, aliases=False) if path is not None else {}
    for section, key in _LOCAL:
        inside = values.get(section, {}) if section else values
        if isinstance(inside, Mapping) and key in inside:
            name = f"{section}.{key}" if section else key
            raise ConfigError(f"'{name}' cannot be set by a configuration from the hub")
    return values


def _check_source(source: SourceConfig, sent: Mapping[str, Any]) -> None:
    """Which file of lines is read, this device says: its lines can become captures, and any file has lines."""
    inside = sent.get("source")
    if source.kind in LINE_KINDS and isinstance(inside, Mapping) and (named := {"kind", "path"} & inside.keys()):
        name = f"source.{min(named)}"
        raise ConfigError(f"'{name}' cannot be set by a configuration from the hub for a source of kind '{source.kind}'")


def layered(
    path: Path | None, env: Mapping[str, str], *, prefix: str, overlay: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Plain values of a file, the ``conf.d`` beside it, ``overlay`` and the environment, later ones over earlier ones."""
    merged: dict[str, Any] = {}
    if path is not None:
        _merge(merged, _read(path))
        for extra in sorted(path.parent.joinpath("conf.d").glob("*.yaml")):
            _merge(merged, _read(extra))
    _merge(merged, overlay or {})
    for key, text in env.items():
        if key.startswith(prefix):
            try:
                value = documents.load(text, aliases=True)
            except yaml.YAMLError as error:
                raise ConfigError(f"environment variable {key} is not YAML: {text[:80]!r}") from error
            _put(merged, key.removeprefix(prefix).lower().split("__"), value)
    return merged


def build(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """A configuration dataclass from plain values; an unknown key or a wrong type is a ConfigError that names it."""
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]  # cls is a dataclass by contract
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{where}.{key}" if where else str(key)
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            raise ConfigError(f"unknown key '{path}'" + (f"; did you mean '{near[0]}'?" if near else ""))
        arguments[str(key)] = _convert(hints[key], value, path)
    return cls(**arguments)


def _convert(kind: Any, value: Any, path: str) -> Any:
    if kind is Any:
        return value
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        if value is None and type(None) in get_args(kind):
            return None
        return _convert(next(k for k in get_args(kind) if k is not type(None)), value, path)
    if is_dataclass(kind):
        if value is None:  # a section whose keys are all commented out
            value = {}
        if not isinstance(value, Mapping):
            raise ConfigError(f"'{path}' must be a mapping, got {type(value).__name__}")
        return build(kind, value, path)  # type: ignore[arg-type]
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(get_args(kind)[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {str(k): _convert(get_args(kind)[1], v, f"{path}.{k}") for k, v in value.items()}
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ConfigError(f"'{path}' must be {getattr(kind, '__name__', kind)}, got {value!r}")


def _read(path: Path, *, aliases: bool = True) -> dict[str, Any]:
    try:
        values = documents.load(path.read_text(), aliases=aliases)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping, got {type(values).__name__}")
    return values


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif value is not None or not isinstance(into.get(key), dict):
            into[key] = value


def _put(into: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        if not isinstance(into.get(key), dict):
            into[key] = {}
        into = into[key]
    into[keys[-1]] = value
