"""Prints what happens as it happens, and keeps it for the report."""

import time
from dataclasses import dataclass, field

from rich.console import Console


@dataclass(slots=True)
class Timeline:
    console: Console
    started: float = field(default_factory=time.monotonic)
    entries: list[tuple[float, str, str]] = field(default_factory=list)

    def say(self, who: str, text: str) -> None:
        at = time.monotonic() - self.started
        self.entries.append((at, who, text))
        self.console.print(f"[dim]{at:6.1f} s[/dim]  [bold cyan]{who:<8}[/bold cyan] {text}", highlight=False)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started


class StepFailed(Exception):
    """A step of the loop did not happen; the demo ends with exit code 1."""


def wait_for(what: str, condition: object, *, timeout_s: float, every_s: float = 0.25) -> object:
    """The first true value of ``condition()``; StepFailed naming ``what`` after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()  # type: ignore[operator]
        if value:
            return value
        if time.monotonic() > deadline:
            raise StepFailed(f"{what} did not happen within {timeout_s:.0f} s")
        time.sleep(every_s)
