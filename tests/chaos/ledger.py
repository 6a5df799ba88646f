"""What a device may run after all it has said, and what is wrong with what it does. Pure: it knows no process and no file."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from protos.contract.update import FINAL, UpdateState

WRONGS = (
    "bricked",  # it does not start, does not do its work, or can no more be updated
    "mixed",  # what is to be started is not the files of one version
    "bad_commits",  # a version that must not pass its trial did
    "good_lost",  # what was committed does not run, or is on the disk no more
    "bad_runs",  # it runs what had ended badly
    "revived",  # what had ended is begun again, or has ended in another way
    "died",  # a process ended although nobody ended it
)


class Known(Protocol):
    """A version, by what it was made to be."""

    @property
    def good(self) -> bool: ...

    @property
    def kind(self) -> str:
        """In a word."""


@dataclass(slots=True)
class Findings:
    wrong: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in WRONGS})
    updates: Counter[str] = field(default_factory=Counter)  # how they ended, by what the hub heard
    kills: int = 0  # so far

    @property
    def good(self) -> bool:
        return not any(self.wrong.values())

    def add(self, name: str, case: str) -> None:
        self.wrong[name].append(f"kill {self.kills}: {case}")


class Ledger:
    """Of one component of one device: what was asked of it, and what its hub has heard."""

    def __init__(self, findings: Findings, generation: int, first: Known) -> None:
        """``first``: what it came with, as ``generation``."""
        self._findings = findings
        self._asked: dict[int, Known] = {generation: first}
        self._ended = {generation: UpdateState.COMMITTED}
        self._committed = generation
        self._same: dict[int, int] = {}  # later generations that ask for the same -> the one that did first

    @property
    def newest(self) -> int:
        return max(self._asked)

    @property
    def wanted(self) -> Known:
        return self._asked[self.newest]

    @property
    def pending(self) -> bool:
        """The hub has not heard how the newest ended."""
        return self.newest not in self._ended

    @property
    def outcome(self) -> UpdateState | None:
        """Of the newest."""
        return self._ended.get(self.newest)

    @property
    def committed(self) -> Known:
        """Newest that the hub knows to be."""
        return self._asked[self._committed]

    def is_newest(self, generation: int) -> bool:
        return self._same.get(generation, generation) == self.newest

    def ask(self, generation: int, version: Known) -> None:
        self._asked[generation] = version

    def carry(self, generation: int) -> None:
        """It asks for the same as the newest."""
        self._same[generation] = self.newest

    def hear(self, generation: int, state: UpdateState) -> None:
        """The device has reported it."""
        generation = self._same.get(generation, generation)
        if generation not in self._asked:
            return
        ended = self._ended.get(generation)
        if ended is not None:
            if state is not ended:
                self._findings.add("revived", f"generation {generation} was {ended.name} and is {state.name}")
            return
        if state not in FINAL:
            return
        self._ended[generation] = state
        self._findings.updates[f"{self._asked[generation].kind} {state.name}"] += 1
        if state is UpdateState.COMMITTED:
            self._committed = max(self._committed, generation)
            if not self._asked[generation].good:
                self._findings.add("bad_commits", f"generation {generation}: {self._asked[generation]}")

    def runs(self, version: Known) -> None:
        """The device does its work with it, and had said all that was heard before it started."""
        following = [
            it for generation, it in self._asked.items() if generation > self._committed and generation not in self._ended
        ]
        if version not in (self.committed, *following):
            name = "good_lost" if version.good else "bad_runs"
            self._findings.add(
                name, f"runs {version}; committed is {self.committed}, under way {[str(it) for it in following]}"
            )

    def disk(self, pointed: Known | None, there: Sequence[Known | None], journal: Mapping[int, UpdateState] | None) -> None:
        """What is on the disk of a dead device.

        Args:
            pointed: what is to be started; None: it is not the files of one version.
            there: every whole version.
            journal: of the device; None: not to be had. It may know of a commit that the hub has not heard of.
        """
        if pointed is None:
            self._findings.add("mixed", f"what is to be started is no version; whole are {[str(it) for it in there]}")
        if journal is not None and not any(version in there for version in self._good(journal)):
            self._findings.add("good_lost", f"{self.committed} is not there; whole are {[str(it) for it in there]}")

    def _good(self, journal: Mapping[int, UpdateState]) -> Collection[Known]:
        kept = [self._same.get(it, it) for it, state in journal.items() if state is UpdateState.COMMITTED]
        return [self.committed, *(self._asked[it] for it in kept if it > self._committed and it in self._asked)]
