"""One frozen configuration, read once: defaults < agent.yaml < conf.d/*.yaml < environment (``EDGE_AGENT__SOURCE__KIND``)."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.core import layers
from edge_agent.core.errors import ConfigError
from protos.contract.inputs import MAX_FEATURES, MAX_STEPS

ENV_PREFIX = "EDGE_AGENT__"
REPORT_BYTES = 1000  # one health report on the wire, with its acknowledgement
_LOCAL = (("", "data_dir"), ("update", "reboot_command"), ("update", "rauc"))  # of agent.yaml and the environment only
FROM_HUB = "configuration from the hub"
LINE_KINDS = ("table", "lines", "series")  # of sources


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

    Raises ConfigError naming the key, and the file or the variable it stands in.
    """
    sent = _overlay(overlay)
    over = layers.Layer(FROM_HUB, sent)
    config = layers.configured(AgentConfig, layers.found(path, env, prefix=ENV_PREFIX, overlay=over))
    _check_source(config.source, sent)
    return config


def _overlay(path: Path | None) -> Mapping[str, Any]:
    """It cannot move the data directory: in there it lies itself, and what would take it back. Nor name commands: whoever signs
    settings would run programs.
    """
    values = layers.read(path, aliases=False) if path is not None else {}
    for section, key in _LOCAL:
        inside = values.get(section, {}) if section else values
        if isinstance(inside, Mapping) and key in inside:
            name = f"{section}.{key}" if section else key
            raise ConfigError(f"'{name}' cannot be set by a {FROM_HUB}")
    return values


def _check_source(source: SourceConfig, sent: Mapping[str, Any]) -> None:
    """Which file of lines is read, this device says: its lines can become captures, and any file has lines."""
    inside = sent.get("source")
    if source.kind in LINE_KINDS and isinstance(inside, Mapping) and (named := {"kind", "path"} & inside.keys()):
        name = f"source.{min(named)}"
        raise ConfigError(f"'{name}' cannot be set by a {FROM_HUB} for a source of kind '{source.kind}'")
