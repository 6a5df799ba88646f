"""What the agent tells monitoring on the device, where it is asked to: /metrics, /livez, /readyz and /latest."""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from edge_agent.app.agent import STUCK_S, TICK_S, Agent, Parts
from edge_agent.app.latest import latest
from edge_agent.core.config import MetricsConfig
from edge_agent.core.http import HttpServer, document, verdict
from edge_agent.core.lately import Lately
from edge_agent.core.metrics import Durations
from edge_agent.core.ports import SpoolStats, StreamStats, UplinkStats
from protos.contract.twin import ReportedTwin

if TYPE_CHECKING:
    from edge_agent.app.families import Exposition

log = logging.getLogger(__name__)

FIRST_INFERENCE_S = 3.0  # it waits so long for it at most
RETRY_S = 60.0  # between tries to get the port
_FRESH_S, _WAIT_S = 1.0, 2.0  # a hanging disk must not hold up a scrape
_LATE_S = 5 * TICK_S  # a main thread that looks around no more


class Look(NamedTuple):
    """What is asked of parts that may be busy with the disk."""

    twin: ReportedTwin
    spool: SpoolStats
    uplink: UplinkStats
    streams: StreamStats


@contextmanager
def monitored(config: MetricsConfig, agent: Agent, parts: Parts, commits: Durations) -> Iterator[None]:
    """Answers over HTTP meanwhile, if the configuration names a port. Whatever fails here, the agent goes on."""
    if config.port is None:
        yield
        return
    monitor = Monitor(config.host, config.port, agent, parts, commits)
    thread = threading.Thread(target=monitor.run, name="monitor", daemon=True)
    thread.start()
    try:
        yield
    finally:
        monitor.stop()


class Monitor:
    def __init__(self, host: str, port: int, agent: Agent, parts: Parts, commits: Durations) -> None:
        """``commits``: those of the spool."""
        self._host, self._port, self._agent, self._parts, self._commits = host, port, agent, parts, commits
        self._look: Lately[Look] = Lately("agent", self._read, parts.clock, fresh_s=_FRESH_S, wait_s=_WAIT_S)
        self._stopping = threading.Event()

    def run(self) -> None:
        """Until ``stop``. A port that is taken is tried again: it costs the device nothing."""
        self._parts.perceiver.inferred.wait(FIRST_INFERENCE_S)
        from edge_agent.app.families import Exposition  # late: see core.metrics

        exposition, complained = Exposition(self._parts, self._look, self._commits), False
        while not self._stopping.is_set():
            try:
                server = self._listen(exposition)
            except OSError as error:
                if not complained:
                    log.warning(
                        "no metrics", extra={"host": self._host, "port": self._port, "error": error.strerror or str(error)}
                    )
                complained = True
                self._stopping.wait(RETRY_S)
                continue
            log.info("metrics are served", extra={"host": self._host, "port": server.port})
            server.start()
            self._stopping.wait()
            server.stop()

    def stop(self) -> None:
        self._stopping.set()

    def dead(self) -> Mapping[str, str]:
        """Why the agent should be started again; empty: no reason."""
        problems = {}
        if (silent_s := self._agent.silent_s()) > _LATE_S:
            problems["main"] = f"has not looked around for {silent_s:.0f} s"
        if (busy_s := self._parts.perceiver.busy_s()) > STUCK_S:
            problems["inference"] = f"has hung for {busy_s:.0f} s"
        return problems

    def unready(self) -> Mapping[str, str]:
        """Why the agent cannot do its work now; empty: it can. A hub out of reach is no reason."""
        problems = dict(self.dead())
        if not self._parts.perceiver.equipped.is_set():
            problems["model"] = "none yet"
        look = self._look.get()
        if look is None or self._look.problem:
            problems["spool"] = self._look.problem or "does not answer"
        elif look.spool.failing:
            problems["spool"] = "finds no room on the disk"
        return problems

    def _read(self) -> Look:
        reporter = self._parts.reporter
        twin = reporter.twin(self._parts.network.membership.board)
        return Look(twin, self._parts.spool.stats(), reporter.uplink(), reporter.streams())

    def _listen(self, exposition: "Exposition") -> HttpServer:
        pages = {
            "/metrics": exposition.page,
            "/livez": lambda _: verdict(self.dead()),
            "/readyz": lambda _: verdict(self.unready()),
            "/latest": lambda _: document(latest(self._parts.perceiver.last)),
        }
        return HttpServer(self._host, self._port, pages)
