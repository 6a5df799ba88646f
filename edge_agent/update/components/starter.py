"""Starting models from their slots."""

import logging

from edge_agent.core.errors import BadModel, Corrupt
from edge_agent.update.slots import Slot, Slots
from edge_agent.update.surroundings import Runner
from protos.contract.twin import ModelAssignment

log = logging.getLogger(__name__)


class Starter:
    """Starts models from their slots and knows which one runs."""

    def __init__(self, slots: Slots, runner: Runner) -> None:
        self._slots, self._runner = slots, runner
        self.running: ModelAssignment | None = None
        self.slot: Slot | None = None  # of what runs

    def require(self, slot: Slot) -> None:
        """Run the model in ``slot``. Raises BadModel or Corrupt: what ran before still runs."""
        self._slots.check(slot)
        self._runner.activate(slot)
        record = self._slots.record(slot)
        self.running, self.slot = (record.assignment, slot) if record is not None else (None, None)

    def start(self, slot: Slot | None) -> bool:
        """Run the model in ``slot``; where it does not start, or there is none, nothing runs afterwards."""
        if slot is not None:
            try:
                self.require(slot)
                return True
            except (Corrupt, BadModel) as error:
                log.error("model does not start", extra={"slot": slot.name, "error": str(error)})
        self._runner.activate(None)
        self.running = self.slot = None
        return False

    def start_current(self) -> tuple[str, bool]:
        """Start what the pointer names, or else the good model beside it.

        Returns what was wrong (empty where nothing was) and whether it is the files of the current slot that are damaged.
        """
        current = self._slots.current()
        if current is None or self.start(current):
            return "", False
        damage = self._damage(current)
        previous = self._slots.fallback(than=current)
        if self.start(previous):
            try:
                self._slots.activate(previous)
            except OSError as error:  # it runs, and that counts: the next start decides the same again
                log.error("pointer not moved", extra={"slot": current.name, "error": str(error)})
        outcome = "the one before it runs" if self.running is not None else "no model runs"
        return f"slot {current.name} does not start{damage and ': ' + damage}; {outcome}", bool(damage)

    def _damage(self, slot: Slot) -> str:
        try:
            self._slots.check(slot)
        except Corrupt as error:
            return str(error)
        return ""
