"""Calls the ticks of the services. APScheduler runs in memory; what is due stands in tables (docs/adr/0006)."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from cloud_hub.core.errors import Unavailable
from cloud_hub.core.metrics import HubMetrics
from edge_agent.core.beats import Beats
from edge_agent.core.clock import Clock
from edge_agent.core.seldom import Seldom

Tick = Callable[[datetime], object]

log = logging.getLogger(__name__)

_SAY_EVERY_S = 60.0  # a call that fails twice a second must not fill the disk with saying so
_HUNG_S = 900.0  # a tick that takes longer hangs; the longest real one writes a large file


def start(
    ticks: Mapping[str, tuple[float, Tick]], clock: Clock, *, metrics: HubMetrics | None = None, beats: Beats | None = None
) -> BackgroundScheduler:
    """Run each tick every so many seconds, never twice at once; a failing tick is logged and called again next time."""
    scheduler = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(max(2, len(ticks)))},
        job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        timezone="UTC",
    )
    metrics, beats = metrics or HubMetrics(), beats or Beats(clock)
    for name, (seconds, tick) in ticks.items():
        beats.expect(f"tick {name}", within_s=_HUNG_S + seconds)
        scheduler.add_job(_guarded(name, tick, clock, metrics, beats), "interval", seconds=seconds, id=name)
    scheduler.start()
    return scheduler


def _guarded(name: str, tick: Tick, clock: Clock, metrics: HubMetrics, beats: Beats) -> Callable[[], None]:
    seconds, failures = metrics.tick_seconds.labels(name), metrics.tick_failures.labels(name)  # there from the start, at zero

    seldom = Seldom(_SAY_EVERY_S, clock)

    def run() -> None:
        try:
            with seconds.time():
                tick(clock.now())
        except Unavailable as error:
            failures.inc()
            if (before := seldom.turn()) is not None:
                log.warning("scheduled call put off", extra={"tick": name, "reason": str(error), "not_logged": before})
        except Exception:  # outermost edge of a scheduled call: the next one must still come
            failures.inc()
            if (before := seldom.turn()) is not None:
                log.exception("scheduled call failed", extra={"tick": name, "not_logged": before})
        beats.beat(f"tick {name}")

    return run
