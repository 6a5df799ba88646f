"""A component that this device does not have: what is asked of it fails at once, and with a reason."""

from collections.abc import Callable

from edge_agent.core.errors import BadPackage
from edge_agent.update.floors import Release
from edge_agent.update.installer import Permit
from edge_agent.update.probation import Ruling, Verdict
from edge_agent.update.record import Component, Effect, Found, Update

IDLE_S = 3600.0


class AbsentInstaller:
    """See ``installer.Installer``. Nothing gets beyond its first state; what an older agent left on trial is taken back."""

    verify_s = activate_s = 60.0

    def __init__(self, component: Component, why: str) -> None:
        self.component, self._why = component, why

    def running(self) -> None:
        return None

    def found(self) -> Found | None:
        return None

    def boot(self, trial: Update | None, *, suspect: bool) -> str:
        return self._why if trial is not None else ""

    def tend(self) -> float:
        return IDLE_S

    def failing(self) -> str:
        return ""

    def damaged(self) -> bool:
        return False

    def place(self, update: Update) -> str:
        raise BadPackage(self._why)

    def present(self, update: Update) -> str:
        return ""

    def prepare(self, update: Update) -> None:
        raise BadPackage(self._why)

    def fetch(self, update: Update, permit: Permit, called_off: Callable[[], bool]) -> Release:
        raise BadPackage(self._why)

    def cut(self) -> None: ...

    def progress(self, update: Update) -> int:
        return 0

    def verify(self, update: Update) -> None:
        raise BadPackage(self._why)

    def check(self, update: Update) -> None:
        raise BadPackage(self._why)

    def activate(self, update: Update) -> Effect:
        raise BadPackage(self._why)

    def judge(self, update: Update, elapsed_s: float) -> Verdict:
        return Verdict(Ruling.ROLL_BACK, self._why)

    def commit(self, update: Update) -> None: ...

    def withdraw(self, update: Update) -> None: ...

    def roll_back(self, update: Update) -> Effect:
        return Effect.NOW

    def fall_back(self, reason: str) -> Effect | None:
        return None
