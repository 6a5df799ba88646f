"""The composition root: configuration in, running agent out. The first inference waits for nothing that can come later."""

import errno
import fcntl
import logging
import os
import shutil
import uuid
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from edge_agent.app.agent import Agent, Parts
from edge_agent.app.keep import Keeper
from edge_agent.app.monitor import monitored
from edge_agent.app.network import HubNetwork
from edge_agent.app.perceive import Perceiver
from edge_agent.app.report import Reporter, Self
from edge_agent.app.runner import ModelRunner
from edge_agent.app.starts import MANY, Starts
from edge_agent.app.wakeup import StopSignals, Wakeup
from edge_agent.app.watch import Watcher
from edge_agent.core import logs
from edge_agent.core.backoff import Backoff
from edge_agent.core.budget import Budget
from edge_agent.core.clock import Clock, SystemClock
from edge_agent.core.config import AgentConfig, StreamsConfig
from edge_agent.core.errors import AgentError, ConfigError, DiskFull
from edge_agent.core.metrics import Durations
from edge_agent.core.model import Happening
from edge_agent.core.ports import Spool, StreamStats
from edge_agent.decide.store import CaptureFolder
from edge_agent.infer import runtimes
from edge_agent.infer.process import Process
from edge_agent.sense.sources import open_source
from edge_agent.spool.sqlite import SqliteSpool
from edge_agent.update.engine import UpdateEngine
from edge_agent.update.journal import Journal
from edge_agent.update.slots import Slots
from edge_agent.update.surroundings import Anchor, Surroundings, Verifier
from protos.contract.telemetry import Lane

if TYPE_CHECKING:
    from edge_agent.app.streaming import Streaming
    from edge_agent.streams.spec import StreamSpec

log = logging.getLogger(__name__)


def run(config: AgentConfig, *, max_frames: int | None, blank: Process | None = None) -> None:
    """Run the agent until SIGTERM or SIGINT, or with ``max_frames`` until there were that many.

    Without an identity it runs alone: it infers and spools, and joins its hub once ``edge-agent enroll`` has made one. Without
    a model it waits for one. ``blank`` is a worker begun early. Raises ConfigError, or AgentError where ``max_frames`` can
    never be reached.
    """
    try:
        logs.configure(config.log_level)
    except ValueError as error:
        raise ConfigError(f"'log_level' must be DEBUG, INFO, WARNING or ERROR, got {config.log_level!r}") from error
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before anything imports onnxruntime
    with _claim(config.data_dir):
        wakeup = Wakeup()
        signals = StopSignals(wakeup)
        commits = Durations()
        agent, parts = _build(config, wakeup, max_frames, commits, blank)
        if max_frames is not None and not parts.perceiver.equipped.is_set() and not _enrolled(config.data_dir):
            parts.spool.close()
            raise AgentError(f"no model in {config.data_dir} and not enrolled: --max-frames would wait for ever; enroll first")
        with monitored(config.metrics, agent, parts, commits):
            agent.run(signals)


def _build(
    config: AgentConfig, wakeup: Wakeup, max_frames: int | None, commits: Durations, blank: Process | None
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
    perceiver = Perceiver(streams or spool, keeper, clock)
    starts = Starts(config.data_dir / "starts")  # what follows may be what brings the process down
    slots = Slots(config.data_dir / "models")
    runner = ModelRunner(perceiver, config, budget, blank=blank, tell=lambda happening: _tell(spool, happening), clock=clock)
    journal = _journal(config.data_dir, slots, clock)
    engine = UpdateEngine(
        slots,
        journal,
        config.update,
        Surroundings(
            runner=runner,
            connect=lambda: network.connect(),
            anchor=lambda: _anchor(config.data_dir),
            verifier=lambda: _verifier(config.data_dir, journal, clock),
            online=lambda: network.membership.broker_connected,
            clock=clock,
            free_bytes=lambda folder: shutil.disk_usage(folder).free,
            changed=lambda: agent.changed(),
            tell=lambda happening: _tell(spool, happening),
            backoff=Backoff(config.sync.backoff_min_s, config.sync.backoff_max_s),
        ),
    )
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
    )
    network = HubNetwork(
        config,
        me,
        spool=spool,
        captures=captures,
        reporter=reporter,
        offer=engine.offer,
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
        network=network,
        reporter=reporter,
        wakeup=wakeup,
        starts=starts,
        unload=runner.close,
        streams=streams,
        ends_with_source=max_frames is not None,
    )
    agent = Agent(parts)
    engine.boot(suspect=starts.failed >= MANY)
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
            data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
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


def _journal(data_dir: Path, slots: Slots, clock: Clock) -> Journal:
    """On a disk too full for a journal the agent runs what the slots hold, with a journal in memory."""
    try:
        return Journal(data_dir / "updates.sqlite", slots, clock)
    except DiskFull as error:
        log.error("the update journal is kept in memory", extra={"error": str(error)})
        return Journal(None, slots, clock)


def _anchor(data_dir: Path) -> Anchor:
    from edge_agent.app import trust  # late: it brings TLS

    return trust.anchor(data_dir)


def _verifier(data_dir: Path, journal: Journal, clock: Clock) -> Verifier:
    from edge_agent.app import trust  # late, as above, and TUF besides

    return trust.verifier(data_dir, journal.floors, clock)


def _tell(spool: Spool, happening: Happening) -> None:
    spool.append(happening, Lane.CRITICAL)


def _enrolled(data_dir: Path) -> bool:
    from edge_agent.sync import identity  # late: it brings TLS

    return identity.exists(data_dir)
