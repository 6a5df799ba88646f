"""Where the trials of a job's tuning are kept: the hub's database, through whoever asks it."""

from collections.abc import Callable, Iterable
from typing import Any

from optuna.storages.journal import BaseJournalBackend


class Journal(BaseJournalBackend):
    """Entries in the order in which they came; several processes may append."""

    def __init__(self, read: Callable[[int], Iterable[dict[str, Any]]], append: Callable[[list[dict[str, Any]]], None]) -> None:
        """``read``: those numbered from that on, the first being 0; ``append``: all or none, durable on return."""
        self._read, self._append = read, append

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self._read(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._append(logs)
