"""How one component of a device is replaced: the port between the engine, which decides, and what it decides about.

The engine keeps the journal, counts attempts before the risky act, waits for interlocks, and calls these in the order of
``protos.contract.update``: ``place`` -> ``prepare`` -> ``fetch`` -> ``verify`` -> ``activate`` -> ``judge`` ... -> ``commit``
or ``withdraw`` and ``roll_back``. Any of them may be cut short by a crash, and is then called again with the same update:
each must be safe to repeat. All are called from one thread, except ``fetch``, ``cut`` and ``progress``.
"""

from collections.abc import Callable
from typing import Protocol

from edge_agent.core.ports import Hub
from edge_agent.update.floors import Release
from edge_agent.update.probation import Verdict
from edge_agent.update.record import Assignment, Component, Effect, Found, Update
from edge_agent.update.surroundings import Approved, ApprovedPackage
from protos.contract.twin import Fit, ModelAssignment, PackageAssignment


class Permit(Protocol):
    """The right to fetch what one update names; asked of both repositories over the connection that will fetch it.

    Raises, all three of them: Untrusted, LinkDown, Refused, DiskFull as ``Verifier.check``.
    """

    def model(self, hub: Hub, model: ModelAssignment) -> Approved: ...

    def package(self, hub: Hub, package: PackageAssignment) -> ApprovedPackage: ...


class Installer(Protocol):
    """One component of this device. What it keeps on disk survives a power cut at any moment, whole."""

    @property
    def component(self) -> Component: ...

    @property
    def verify_s(self) -> float:
        """The longest that ``verify`` takes: past it the agent is started again."""

    @property
    def activate_s(self) -> float:
        """The longest that each of ``activate``, ``commit``, ``withdraw`` and ``roll_back`` takes, likewise."""

    def running(self) -> Assignment | None:
        """What runs in this process or on this board now, whatever is to be started next; None: what the device came with."""

    def found(self) -> Found | None:
        """What is started from, by its own record on disk; None: nothing but what the device came with."""

    def boot(self, trial: Update | None, *, suspect: bool) -> str:
        """Settle what a crash left and, unless ``trial`` is given, start what was committed. First of all calls, and once.

        Args:
            trial: the update on trial; it is not started here but by ``activate``, which the engine calls next.
            suspect: the agent ended soon after its last starts: what takes the process down may be started later.
        Returns why what the journal has as newest has been taken back already, before this agent began; empty: it has not.
        Never raises for what it should start: then something else runs, or nothing.
        """

    def tend(self) -> float:
        """What there is to do between updates; seconds until it is to be called again. Not called while it is on trial."""

    def failing(self) -> str:
        """Why what was committed cannot stay, although it passed its trial; empty: it can, or that was said already. Cheap."""

    def damaged(self) -> bool:
        """What was committed is no more what was fetched: it is to be fetched again. True once for each damage."""

    # -- in the order of an update ----------------------------------------------------------------------------------------

    def place(self, update: Update) -> str:
        """The name of the place to put it, at most 40 characters: never that of what runs.

        Raises BadPackage: this device has no place for such a thing.
        """

    def present(self, update: Update) -> str:
        """Its place, where it runs already and is started next: it needs no fetching and no trial. Else empty."""

    def prepare(self, update: Update) -> None:
        """Make ``update.place`` ready to be filled; what it holds of the same assignment stays. Raises DiskFull, OSError,
        BadPackage."""

    def fetch(self, update: Update, permit: Permit, called_off: Callable[[], bool]) -> Release:
        """On return ``update.place`` holds it whole and durably. What is there already is not fetched again.

        It runs beside the engine's thread, where the other calls go on: it touches nothing but the files of a place that was
        prepared, which is not what runs and is no more fit to go back to.

        Raises:
            Untrusted: it cannot be believed, or is not what was approved. Nothing of it is used.
            BadModel, BadPackage: it can never run here; known before its bulk was fetched where that is possible.
            DiskFull: it would leave less than the reserve.
            LinkDown: also where it was ``called_off`` before it began, or ``cut``; what came is kept.
            Refused, Corrupt: as ``Hub.download``.
        """

    def cut(self) -> None:
        """End a ``fetch`` under way soon; for any thread, at any time."""

    def progress(self, update: Update) -> int:
        """Bytes of it that are there; for any thread, during ``fetch``."""

    def verify(self, update: Update) -> Fit | None:
        """Try it where it can do no harm, which is out of this process; what was measured, if anything.

        Raises BadModel, BadPackage or Corrupt: it must not become active.
        """

    def check(self, update: Update) -> None:
        """It is still whole, byte for byte, as it was verified. Raises Corrupt."""

    def activate(self, update: Update) -> Effect:
        """Durable on return: this is what is started from now on; the one before stays whole beside it.

        NOW: it runs. Otherwise it runs after that much of a new start; the engine then calls this again, and NOW is the answer.

        Raises:
            BadModel, BadPackage, Corrupt: it does not start; the engine rolls it back.
            DiskFull, OSError: nothing has changed.
        """

    def judge(self, update: Update, elapsed_s: float) -> Verdict:
        """Rule on a trial that runs; ``elapsed_s`` since it began, in this run of the agent."""

    def commit(self, update: Update) -> None:
        """It is good: fit to go back to. Durable on return. Raises DiskFull, OSError."""

    def withdraw(self, update: Update) -> None:
        """Stop it at once where that needs no new start, and run what ran before; writes nothing, raises nothing."""

    def roll_back(self, update: Update) -> Effect:
        """Durable on return: what ran before is started from now on, and this is not fit to go back to.

        Safe whether or not it ever became active. Raises DiskFull, OSError.
        """

    def fall_back(self, reason: str) -> Effect | None:
        """As ``roll_back``, for what was committed; None: there is nothing good to go back to, and nothing has changed."""
