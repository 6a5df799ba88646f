"""The challenger's line, with all that it needs of the agent."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_agent.app.fetching import Fetchers
from edge_agent.app.updating import JOURNAL
from edge_agent.core.backoff import Backoff
from edge_agent.core.clock import Clock
from edge_agent.core.config import AgentConfig
from edge_agent.core.model import Happening
from edge_agent.core.ports import Hub
from edge_agent.update import floors
from edge_agent.update.challenger import ChallengerLine, Stage
from edge_agent.update.floors import Floors
from edge_agent.update.slots import Slots
from edge_agent.update.surroundings import Approved
from protos.contract.twin import ModelAssignment


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The rest of the agent, as a challenger needs it."""

    config: AgentConfig
    slots: Slots
    stage: Stage
    clock: Clock
    fetchers: Fetchers
    changed: Callable[[], None]
    tell: Callable[[Happening], None]
    turn: threading.Lock  # of all that verify releases


def build(given: Given) -> ChallengerLine:
    """Nothing is started."""
    config, slots = given.config, given.slots

    def kept_bytes() -> int:
        """Room for one more update of the model that runs is not the challenger's to take."""
        return max(slots.bytes_in(slots.slot(name)) for name in ("a", "b"))

    return ChallengerLine(
        slots,
        given.stage,
        given.fetchers.new(given.stage.unrunnable, kept_bytes=kept_bytes),
        _Approval(config.data_dir, given.clock, given.turn),
        given.clock,
        Backoff(config.sync.backoff_min_s, config.sync.backoff_max_s),
        max_attempts=config.update.max_attempts,
        tell=given.tell,
        changed=given.changed,
    )


class _Approval:
    """``challenger.Approval`` by the same roots, cache and floors as updates have, over a connection of its own."""

    def __init__(self, data_dir: Path, clock: Clock, turn: threading.Lock) -> None:
        self._data_dir, self._clock, self._turn = data_dir, clock, turn
        self._floors: Floors | None = None

    def __call__(self, model: ModelAssignment, generation: int) -> Callable[[Hub], Approved]:
        from edge_agent.app import trust  # late: it brings TUF and TLS

        anchor = trust.anchor(self._data_dir)
        self._floors = self._floors or floors.beside(self._data_dir / JOURNAL)
        verifier = trust.verifier(self._data_dir, self._floors, self._clock, self._turn)
        return lambda hub: verifier.check(hub, anchor, model, generation)
