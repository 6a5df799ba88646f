"""What stands alike in every component that is one file on a shelf and is tried by starting the agent with it."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from edge_agent.update.components.trial import Trial
from edge_agent.update.fetch import Fetcher
from edge_agent.update.floors import Release
from edge_agent.update.installer import Permit
from edge_agent.update.places import found_in
from edge_agent.update.probation import Verdict
from edge_agent.update.record import Component, Found, Update, package_of
from edge_agent.update.shelf import Berth, Shelf, ShelfRecord

IDLE_S = 3600.0
CHECK_S = 120.0  # to import everything on a small board
SPARE_S = 60.0  # beyond what a check may take, or a start: reading and hashing from a slow card
MAX_WORDS = 400  # characters of what a check said


class ShelvedInstaller(ABC):
    """The part of ``installer.Installer`` that a shelf answers for; what makes a package run is the component's own."""

    component: Component

    def __init__(self, shelf: Shelf, fetcher: Fetcher, trial: Trial, *, max_bytes: int) -> None:
        self._shelf, self._fetcher, self._trial, self._max_bytes = shelf, fetcher, trial, max_bytes
        self._damaged = False

    @abstractmethod
    def place(self, update: Update) -> str: ...

    def found(self) -> Found | None:
        return found_in(self._shelf, self.component)

    def tend(self) -> float:
        return IDLE_S

    def failing(self) -> str:
        return ""

    def damaged(self) -> bool:
        damaged, self._damaged = self._damaged, False
        return damaged

    def prepare(self, update: Update) -> None:
        self._shelf.prepare(self._berth(update), record_of(update))

    def fetch(self, update: Update, permit: Permit, called_off: Callable[[], bool]) -> Release:
        package = package_of(update)
        approved = self._fetcher.fetch(
            self._berth(update).file,
            package,
            approve=lambda hub: permit.package(hub, package),
            called_off=called_off,
            max_bytes=self._max_bytes,
        )
        return approved.release

    def cut(self) -> None:
        self._fetcher.cut()

    def progress(self, update: Update) -> int:
        return self._shelf.bytes_in(self._berth(update))

    def check(self, update: Update) -> None:
        self._shelf.check(self._berth(update))

    def judge(self, update: Update, elapsed_s: float) -> Verdict:
        return self._trial.judge(elapsed_s)

    def withdraw(self, update: Update) -> None:  # noqa: B027  # nothing to do, for every one of them
        """Only a new start brings what was before it."""

    def _berth(self, update: Update) -> Berth:
        return self._shelf.slot(update.place or self.place(update))


def record_of(update: Update) -> ShelfRecord:
    return ShelfRecord(assignment=package_of(update), generation=update.generation, rollout_id=update.rollout_id)
