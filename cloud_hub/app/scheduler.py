"""Calls the ticks of the services. APScheduler runs in memory; what is due stands in tables (docs/adr/0006)."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from edge_agent.core.clock import Clock

Tick = Callable[[datetime], object]

log = logging.getLogger(__name__)


def start(ticks: Mapping[str, tuple[float, Tick]], clock: Clock) -> BackgroundScheduler:
    """Run each tick every so many seconds, never twice at once; a failing tick is logged and called again next time."""
    scheduler = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(max(2, len(ticks)))},
        job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        timezone="UTC",
    )
    for name, (seconds, tick) in ticks.items():
        scheduler.add_job(_guarded(name, tick, clock), "interval", seconds=seconds, id=name)
    scheduler.start()
    return scheduler


def _guarded(name: str, tick: Tick, clock: Clock) -> Callable[[], None]:
    def run() -> None:
        try:
            tick(clock.now())
        except Exception:  # outermost edge of a scheduled call: the next one must still come
            log.exception("scheduled call failed", extra={"tick": name})

    return run
