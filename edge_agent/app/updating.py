"""The update engine, with an installer for all that can be replaced on this device."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_agent.app import packages
from edge_agent.app.fetching import Fetchers
from edge_agent.app.packages import Means
from edge_agent.app.perceive import Perceiver
from edge_agent.core.backoff import Backoff
from edge_agent.core.clock import Clock
from edge_agent.core.config import AgentConfig
from edge_agent.core.errors import DiskFull
from edge_agent.core.model import Happening
from edge_agent.update import floors, interlocks
from edge_agent.update.components.config import ConfigInstaller
from edge_agent.update.components.model import ModelInstaller
from edge_agent.update.engine import UpdateEngine
from edge_agent.update.fetch import Fetcher
from edge_agent.update.floors import Floors
from edge_agent.update.installer import Installer
from edge_agent.update.journal import Journal
from edge_agent.update.overlay import Overlay
from edge_agent.update.record import Effect
from edge_agent.update.slots import Slots
from edge_agent.update.surroundings import Anchor, Runner, Surroundings, Verifier

log = logging.getLogger(__name__)

JOURNAL = "updates.sqlite"  # in data_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The rest of the agent, as updates need it."""

    config: AgentConfig
    config_path: Path | None  # agent.yaml
    overlay: Overlay
    slots: Slots
    runner: Runner
    perceiver: Perceiver
    clock: Clock
    fetchers: Fetchers
    connected: Callable[[], bool]  # the broker is reached now
    changed: Callable[[], None]
    tell: Callable[[Happening], None]
    again: Callable[[Effect], None]
    turn: threading.Lock  # of all that verify releases


@dataclass(frozen=True, slots=True, kw_only=True)
class Updating:
    engine: UpdateEngine
    journal: Journal


def build(given: Given) -> Updating:
    """Raises ConfigError."""
    config, clock = given.config, given.clock
    installers = _installers(given)
    journal = _journal(config.data_dir, installers, clock)
    verifier = _Verifiers(config.data_dir, journal, clock, given.turn)
    engine = UpdateEngine(
        installers,
        journal,
        config.update,
        Surroundings(
            anchor=lambda: _anchor(config.data_dir),
            verifier=verifier,
            online=given.connected,
            clock=clock,
            changed=given.changed,
            tell=given.tell,
            backoff=lambda: Backoff(config.sync.backoff_min_s, config.sync.backoff_max_s),
            apart=lambda fetch: threading.Thread(target=fetch, name="download", daemon=True).start(),
            again=given.again,
            interlocks=interlocks.of(config.update, clock),
        ),
    )
    return Updating(engine=engine, journal=journal)


def _installers(given: Given) -> list[Installer]:
    config = given.config

    def fetcher() -> Fetcher:
        return given.fetchers.new(given.runner.unrunnable)

    model = ModelInstaller(
        given.slots,
        given.runner,
        fetcher(),
        config.update,
        given.clock,
        given.tell,
        golden_timeout_s=config.infer.golden_timeout_s,
    )
    means = Means(
        config=config,
        config_path=given.config_path,
        clock=given.clock,
        perceiver=given.perceiver,
        connected=given.connected,
        again=given.again,
        fetcher=fetcher,
    )
    small = given.fetchers.new(given.runner.unrunnable, reserve_bytes=0)  # the reserve may be what it is to mend
    check = ("--config", str(given.config_path.absolute())) if given.config_path is not None else ()
    overlay = ConfigInstaller(given.overlay, small, packages.trial(means), check)
    return [model, overlay, *packages.installers(means)]


def _journal(data_dir: Path, installers: list[Installer], clock: Clock) -> Journal:
    """On a disk too full for a journal the agent runs what is there, with a journal in memory."""
    found = [each for installer in installers if (each := installer.found()) is not None]
    try:
        return Journal(data_dir / JOURNAL, found, clock)
    except DiskFull as error:
        log.error("the update journal is kept in memory", extra={"error": str(error)})
        return Journal(None, found, clock)


def _anchor(data_dir: Path) -> Anchor:
    from edge_agent.app import trust  # late: it brings TLS

    return trust.anchor(data_dir)


class _Verifiers:
    """For downloads, which are not in the engine's thread: by the journal's floors, over a connection of their own."""

    def __init__(self, data_dir: Path, journal: Journal, clock: Clock, turn: threading.Lock) -> None:
        self._data_dir, self._journal, self._clock, self._turn = data_dir, journal, clock, turn
        self._floors: Floors | None = None

    def __call__(self) -> Verifier:
        """Raises DiskFull."""
        from edge_agent.app import trust  # late, as above, and TUF besides

        if self._floors is None:
            durable = self._journal.floors.durable
            self._floors = floors.beside(self._data_dir / JOURNAL) if durable else self._journal.floors
        return trust.verifier(self._data_dir, self._floors, self._clock, self._turn)
