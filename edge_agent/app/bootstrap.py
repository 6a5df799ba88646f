"""The composition root: configuration in, running agent out. The first inference waits for nothing that can come later."""

import errno
import fcntl
import logging
import os
import subprocess
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from edge_agent.app import challenging, updating
from edge_agent.app.agent import REBOOT_S, Agent, Parts
from edge_agent.app.fetching import Fetchers
from edge_agent.app.keep import Keeper
from edge_agent.app.monitor import monitored
from edge_agent.app.network import HubNetwork
from edge_agent.app.perceive import Perceiver
from edge_agent.app.report import Reporter, Self
from edge_agent.app.runner import ModelRunner
from edge_agent.app.shadow import Shadow
from edge_agent.app.starts import FALL_BACK_EVERY, FALL_BACK_FROM, MANY, Starts
from edge_agent.app.wakeup import StopSignals, Wakeup
from edge_agent.app.watch import Watcher
from edge_agent.core import logs
from edge_agent.core.budget import Budget
from edge_agent.core.clock import Clock, SystemClock
from edge_agent.core.config import AgentConfig, StreamsConfig
from edge_agent.core.errors import AgentError, ConfigError, Restart
from edge_agent.core.files import make_folder
from edge_agent.core.metrics import Durations
from edge_agent.core.model import Happening
from edge_agent.core.ports import Spool, StreamStats
from edge_agent.decide.store import CaptureFolder
from edge_agent.infer import runtimes
from edge_agent.infer.process import Process
from edge_agent.sense.sources import open_source
from edge_agent.spool.sqlite import SqliteSpool
from edge_agent.update import interlocks
from edge_agent.update.overlay import Overlay, check_open
from edge_agent.update.slots import Slots
from protos.contract.telemetry import Lane
from protos.contract.twin import DesiredTwin

if TYPE_CHECKING:
    from edge_agent.app.streaming import Streaming
    from edge_agent.streams.spec import StreamSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the configuration comes from."""

    load: Callable[[Path | None], AgentConfig]  # with a configuration from the hub over it, or without; raises ConfigError
    path: Path | None  # agent.yaml


def run(origin: Origin, *, max_frames: int | None, blank: Process | None = None) -> None:
    """Run the agent until SIGTERM or SIGINT, or with ``max_frames`` until there were that many.

    Without an identity it runs alone: it infers and spools, and joins its hub once ``edge-agent enroll`` has made one. Without
    a model it waits for one. ``blank`` is a worker begun early.

    Raises:
        ConfigError: the device's own configuration cannot be used.
        Restart: it ended to be started again.
        AgentError: ``max_frames`` can never be reached; a part of it hangs.
    """
    own = origin.load(None)
    _configure_logs(own)
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before anything imports onnxruntime
    with _claim(own.data_dir):
        overlay = Overlay(own.data_dir)
        config = overlay.begin(origin.load, own)
        wakeup = Wakeup()
        signals = StopSignals(wakeup)
        commits = Durations()
        try:
            _configure_logs(config)
            agent, parts = _build(config, origin.path, overlay, wakeup, max_frames, commits, blank)
        except ConfigError as error:
            if overlay.running is None:
                raise
            overlay.shun(str(error))
            raise Restart(f"the configuration from the hub cannot be used: {error}") from error
        if max_frames is not None and not parts.perceiver.equipped.is_set() and not _enrolled(config.data_dir):
            parts.spool.close()
            raise AgentError(f"no model in {config.data_dir} and not enrolled: --max-frames would wait for ever; enroll first")
        with monitored(config.metrics, agent, parts, commits):
            agent.run(signals)


def usable(config: AgentConfig) -> None:
    """Raises ConfigError for what can be told without opening or connecting anything."""
    _check_level(config)
    check_open(config)
    _specs(config.streams)
    open_source(config.source, SystemClock()).close()
    interlocks.of(config.update, SystemClock())


def _check_level(config: AgentConfig) -> None:
    if config.log_level.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ConfigError(f"'log_level' must be DEBUG, INFO, WARNING or ERROR, got {config.log_level!r}")


def _configure_logs(config: AgentConfig) -> None:
    """Raises ConfigError."""
    _check_level(config)
    logs.configure(config.log_level)


def _build(
    config: AgentConfig,
    config_path: Path | None,
    overlay: Overlay,
    wakeup: Wakeup,
    max_frames: int | None,
    commits: Durations,
    blank: Process | None,
) -> tuple[Agent, Parts]:
    """Everything wired, and the model that was running before loaded; no thread but the spool's is started."""
    clock = SystemClock()
    specs = _specs(config.streams)
    source = open_source(config.source, clock)
    spool = SqliteSpool(config.data_dir / "spool.sqlite", config.spool, clock, commits=commits)
    captures = CaptureFolder(config.data_dir / "captures", config.capture.max_bytes)
    budget = Budget(config.capture.per_hour, clock, captures.folder / "budget")
    streams = _streaming(specs, config, spool, clock)
    keeper = Keeper(captures, streams or spool, budget)
    shadow = Shadow(config.infer, keeper, budget, clock)
    perceiver = Perceiver(streams or spool, keeper, clock, beside=shadow.show)
    starts = Starts(config.data_dir / "starts")  # what follows may be what brings the process down
    slots = Slots(config.data_dir / "models")
    runner = ModelRunner(
        perceiver,
        config,
        budget,
        blank=blank,
        tell=lambda happening: _tell(spool, happening),
        crashed=lambda: engine.wake(),
        clock=clock,
    )
    turn = threading.Lock()
    fetchers = Fetchers(lambda: network.connect(), config.update)
    updates = updating.build(
        updating.Given(
            config=config,
            config_path=config_path,
            overlay=overlay,
            slots=slots,
            runner=runner,
            perceiver=perceiver,
            clock=clock,
            fetchers=fetchers,
            connected=lambda: network.membership.broker_connected,
            changed=lambda: agent.changed(),
            tell=lambda happening: _tell(spool, happening),
            again=lambda effect: agent.again(effect),
            turn=turn,
        )
    )
    engine = updates.engine
    challenger = challenging.build(
        challenging.Given(
            config=config,
            slots=slots,
            stage=shadow,
            clock=clock,
            fetchers=fetchers,
            changed=lambda: agent.changed(),
            tell=lambda happening: _tell(spool, happening),
            turn=turn,
        )
    )

    def offer(twin: DesiredTwin) -> None:
        engine.offer(twin)
        challenger.offer(twin)

    me = Self(
        boot_id=uuid.uuid4().hex,
        agent_version=version("tideline"),
        runtimes=runtimes.available(),
        started_at=clock.now(),
        data_dir=config.data_dir,
    )
    reporter = Reporter(
        me,
        perceiver=perceiver,
        keeper=keeper,
        engine=engine,
        spool=spool,
        captures=captures,
        clock=clock,
        spool_limit_bytes=config.spool.max_bytes,
        uplink=lambda: network.uplink,
        unreadable=lambda: getattr(source, "skipped", 0),
        streams=streams.stats if streams is not None else StreamStats,
        shadow=challenger.report,
    )
    network = HubNetwork(
        config,
        me,
        spool=spool,
        captures=captures,
        reporter=reporter,
        offer=offer,
        starting=lambda: perceiver.equipped.is_set() and not perceiver.inferred.is_set(),
        clock=clock,
    )
    parts = Parts(
        clock=clock,
        spool=spool,
        perceiver=perceiver,
        keeper=keeper,
        watcher=Watcher(source, perceiver, max_frames=max_frames),
        engine=engine,
        challenger=challenger,
        network=network,
        reporter=reporter,
        wakeup=wakeup,
        starts=starts,
        unload=runner.close,
        reboot=lambda: _reboot(config.update.reboot_command),
        streams=streams,
        ends_with_source=max_frames is not None,
    )
    agent = Agent(parts)
    often = starts.failed >= FALL_BACK_FROM and starts.failed % FALL_BACK_EVERY == 0
    engine.boot(suspect=starts.failed >= MANY, fall_back=often, cut=starts.cut)
    runner.dismiss()
    log.info(
        "agent starts",
        extra={"boot_id": me.boot_id, "version": me.agent_version, "model": perceiver.active and perceiver.active.digest},
    )
    return agent, parts


def _specs(config: StreamsConfig) -> "tuple[StreamSpec, ...]":
    """Raises ConfigError."""
    if config == StreamsConfig():
        return ()
    from edge_agent.app.streaming import load_device_specs  # late: most devices have no streams, and all of them start

    return load_device_specs(config)


def _streaming(specs: "Sequence[StreamSpec]", config: AgentConfig, spool: Spool, clock: Clock) -> "Streaming | None":
    if not specs and config.streams.raw == "all":
        return None
    from edge_agent.app.streaming import Streaming  # late, as above

    return Streaming(specs, config.streams, spool, config.data_dir, clock)


class _claim:
    """Two agents on one data directory would undo each other's work: a lock that ends with the process."""

    def __init__(self, data_dir: Path) -> None:
        try:
            make_folder(data_dir)
            self._file: TextIO = (data_dir / "agent.lock").open("w")
        except OSError as error:
            # A full or failing disk may mend: ending as a wrong configuration does, the service would never be started again.
            kind = AgentError if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS) else ConfigError
            raise kind(f"data_dir {data_dir} cannot be used: {error.strerror}; give a folder this user may write") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AgentError(f"another agent runs with {data_dir}: stop it, or give this one its own --data-dir") from error

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _reboot(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, timeout=REBOOT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        log.error("the board does not start again", extra={"command": list(command), "error": str(error)})


def _tell(spool: Spool, happening: Happening) -> None:
    spool.append(happening, Lane.CRITICAL)


def _enrolled(data_dir: Path) -> bool:
    from edge_agent.sync import identity  # late: it brings TLS

    return identity.exists(data_dir)
