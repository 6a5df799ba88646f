"""Readings -> windows -> spool: what the device makes of its readings before the uplink."""

import logging
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path

from edge_agent.app.checkpoint import Checkpoint
from edge_agent.app.stream import Stream, picked, rows_of
from edge_agent.core.clock import Clock
from edge_agent.core.config import StreamsConfig
from edge_agent.core.errors import ConfigError
from edge_agent.core.model import Happening, Item, Outcome, Summary
from edge_agent.core.ports import Spool, StreamStats
from edge_agent.streams.rows import READING_FIELDS
from edge_agent.streams.spec import InvalidSpec, StreamSpec, load_specs
from protos.contract.errors import ContractError
from protos.contract.telemetry import Lane, to_ms

log = logging.getLogger(__name__)

FOLD_S = 0.5  # how long a reading waits: one at a time would cost a frame more than its record does
MAX_WAITING = 4096  # readings; beyond it whoever brings one folds them all
IDLE_S = 5.0  # and the lateness: so long without a reading, and windows close by the clock
CLOCK_STEP_MS = 1000  # put back by more than this and the lateness, time begins anew; less makes readings late
SOON_S = 1.0  # after windows were told, their states are kept so soon: a crash in between tells them again

RAW = ("all", "uncertain", "none")


def load_device_specs(config: StreamsConfig) -> tuple[StreamSpec, ...]:
    """Raises ConfigError that names the file and the key."""
    if config.raw not in RAW:
        raise ConfigError(f"'streams.raw' must be one of {', '.join(RAW)}, got {config.raw!r}")
    if config.checkpoint_s <= 0:
        raise ConfigError(f"'streams.checkpoint_s' must be above 0 seconds, got {config.checkpoint_s:g}")
    if config.specs is None:
        return ()
    try:
        specs = load_specs(config.specs.read_text(), READING_FIELDS)
        for spec in specs:
            _check(spec)
    except OSError as error:
        raise ConfigError(f"'streams.specs': cannot read {config.specs}: {error.strerror}") from error
    except (InvalidSpec, UnicodeDecodeError) as error:
        raise ConfigError(f"'streams.specs': {config.specs}: {error}") from error
    return specs


class Streaming:
    """An ``Outlet`` before the spool. ``append`` and ``stats`` are for any thread; ``run`` folds, until ``stop``."""

    def __init__(self, specs: Sequence[StreamSpec], config: StreamsConfig, spool: Spool, folder: Path, clock: Clock) -> None:
        """Goes on from the windows that were open when the agent stopped."""
        self._config, self._spool, self._clock = config, spool, clock
        self._streams = [Stream(spec) for spec in specs]
        self._fields = frozenset(name for spec in specs for name in spec.fields)
        self._checkpoint = Checkpoint(folder / "windows.json")
        self._origin = uuid.uuid4().hex[:16]  # numbers this start's readings
        self._gate = threading.Lock()  # guards the two below; never held for long
        self._waiting: list[Outcome] = []
        self._left_out = 0
        self._work = threading.Lock()  # guards all below
        self._readings = self._windows = 0
        self._saved_at = self._last_row_at = clock.monotonic()
        self._clock_ahead_ms = self._ahead_ms()
        self._dirty = self._told = self._save_failing = False
        self._stop = threading.Event()
        self._restore()

    def append(self, item: Item, lane: Lane = Lane.NORMAL) -> int | None:
        if not isinstance(item, Outcome):
            return self._spool.append(item, lane)
        sent = item.captured or self._config.raw == "all" or (item.uncertain and self._config.raw == "uncertain")
        sequence = self._spool.append(item, lane) if sent else None
        with self._gate:
            self._left_out += not sent
            if self._streams:
                self._waiting.append(item)
            full = len(self._waiting) >= MAX_WAITING
        if full:
            self.tick()
        return sequence

    def run(self) -> None:
        """Until ``stop``, which comes when no more readings do; on return everything is folded and kept."""
        while not self._stop.wait(FOLD_S):
            self.tick()
        with self._work:
            self._fold()
            self._save(clean=True)

    def stop(self) -> None:
        self._stop.set()

    def tick(self) -> None:
        """Fold what waits, close what is over, and keep what is open where it is time to."""
        with self._work:
            self._fold()
            since_s = self._clock.monotonic() - self._saved_at
            due_s = min(SOON_S, self._config.checkpoint_s) if self._told else self._config.checkpoint_s
            if self._dirty and since_s >= due_s:
                self._save(clean=False)

    def stats(self) -> StreamStats:
        return StreamStats(
            readings=self._readings,
            left_out=self._left_out,
            windows=self._windows,
            late=sum(stream.late + stream.overflowed for stream in self._streams),
            open=sum(map(len, self._streams)),
        )

    def _restore(self) -> None:
        saved = self._checkpoint.load()
        if saved.damage:
            self._spool.append(
                Happening(at=self._clock.now(), kind="streams.reset", detail=f"open windows are lost: {saved.damage}"),
                Lane.CRITICAL,
            )
        for stream in self._streams:
            found = saved.streams.get(stream.spec.name)
            stream.restore(found, clean=saved.clean)
        if self._streams:
            self._save(clean=False)  # before the first reading: from here on a crash loses some

    def _fold(self) -> None:
        with self._gate:
            outcomes, self._waiting = self._waiting, []
        now = self._clock.monotonic()
        put_back_ms = self._clock_ahead_ms - self._ahead_ms()
        self._clock_ahead_ms -= put_back_ms
        if outcomes:
            self._last_row_at = now
        idle_s = now - self._last_row_at
        rows = rows_of(outcomes, self._origin, self._readings, self._fields)
        self._readings += len(outcomes)
        self._dirty = self._dirty or bool(outcomes)
        for stream in self._streams:
            lateness_ms = stream.spec.window.lateness_ms
            if put_back_ms > max(lateness_ms, CLOCK_STEP_MS):
                before = rows.at_ms > to_ms(self._clock.now())
                self._tell(stream.fold(picked(rows, before)))
                self._tell(stream.restart())
                self._tell(stream.fold(picked(rows, ~before)))
            elif outcomes:
                self._tell(stream.fold(rows))
            elif idle_s >= IDLE_S + lateness_ms / 1000:
                self._tell(stream.pass_time(round(idle_s * 1000)))
            for happening in stream.signals(self._clock.now()):
                self._spool.append(happening, Lane.CRITICAL)
                self._dirty = True

    def _tell(self, summaries: Sequence[Summary]) -> None:
        for summary in summaries:
            self._dirty = self._told = True
            try:
                self._spool.append(summary, Lane.NORMAL)
            except ContractError as error:
                log.error("window not told", extra={"stream": summary.stream, "error": str(error)})
            else:
                self._windows += 1

    def _save(self, *, clean: bool) -> None:
        """What is told is durable before the states say that it was: a crash in between tells it twice, and loses nothing."""
        if self._told:
            self._spool.flush()
        self._saved_at = self._clock.monotonic()
        try:
            self._checkpoint.save({stream.spec.name: stream.state() for stream in self._streams}, clean=clean)
        except OSError as error:
            if not self._save_failing:
                log.error("open windows are not kept", extra={"error": str(error)})
            self._save_failing = True
            return
        self._dirty = self._told = self._save_failing = False

    def _ahead_ms(self) -> int:
        """By how much the wall clock is ahead of the monotonic one."""
        return to_ms(self._clock.now()) - round(self._clock.monotonic() * 1000)


def _check(spec: StreamSpec) -> None:
    """What only the hub can make of a stream."""
    for name, aggregate in spec.aggregates.items():
        if aggregate.function in ("histogram", "counts"):
            raise InvalidSpec(f"stream '{spec.name}': 'aggregates.{name}': {aggregate.function} is for streams of the hub")
    if spec.selector:
        raise InvalidSpec(f"stream '{spec.name}': 'selector' is for streams of the hub: a device has only itself")
