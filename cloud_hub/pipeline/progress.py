"""How a long job tells where it is, and how long each stage took."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from cloud_hub.core.model import TrainingStep

# Share of a whole job by stage, as measured on 2,000 images of 32x32; good enough for a progress bar.
STAGES = {"data": 0.05, "teacher": 0.45, "student": 0.25, "export": 0.15, "verify": 0.07, "report": 0.02, "publish": 0.01}
# The same where a search makes the network smaller: it makes the files too, and takes as long as all the rest.
SEARCHED = {"compress" if name == "export" else name: (share + (name == "export")) / 2 for name, share in STAGES.items()}
TUNED = 0.4  # share of a job that looks for settings first


def shares(*, tuned: bool = False, searched: bool = False) -> dict[str, float]:
    """Of a whole job, by stage, in their order."""
    rest = SEARCHED if searched else STAGES
    if not tuned:
        return rest
    left = {name: share * (1 - TUNED) for name, share in rest.items()}
    return {"data": left.pop("data"), "tuning": TUNED, **left}


STEP_S = 1.0  # between two steps that are told: each is a write to the database, and nobody reads faster


class Progress(Protocol):
    """Where progress goes. May raise Cancelled: every stage can be left between two steps."""

    def __call__(self, stage: str, fraction: float, line: str, step: TrainingStep | None = None) -> None:
        """``fraction`` is 0..1 of the whole job; ``line`` is empty where only the step is new."""


class Step(Protocol):
    """What a training loop calls after every step of the optimiser, at no cost worth mentioning."""

    def __call__(self, *, epoch: int, epochs: int, step: int, steps: int, loss: Callable[[], float]) -> None:
        """``epoch`` and ``step`` (of this epoch) count from 1; ``loss`` is asked only where the step is told: on a GPU a
        look at it waits for all the work that was queued. May raise Cancelled."""


class Cancelled(BaseException):
    """The job was asked to stop. Not an Exception: a converter that catches everything must not swallow it."""


class Stages:
    """Names the stage, scales its own progress into the job's, and keeps the time each one took."""

    def __init__(
        self, report: Progress, *, shares: Mapping[str, float] = STAGES, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.seconds: dict[str, float] = {}
        self._shares = shares  # of the whole job, in the order of its stages
        self._report = report
        self._now = now
        self._stage = ""
        self._told_at = float("-inf")  # of the last step
        self._step = self.part()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = self._now()
        self._stage, self._step = name, self.part()
        try:
            yield
        finally:
            self.seconds[name] = round(self._now() - started, 3)

    def tell(self, fraction: float, line: str) -> None:
        """``fraction`` is 0..1 of the current stage."""
        self._report(self._stage, self._scaled(fraction), line)

    def step(self, *, epoch: int, epochs: int, step: int, steps: int, loss: Callable[[], float]) -> None:
        """A ``Step`` of the one training that the stage is."""
        self._step(epoch=epoch, epochs=epochs, step=step, steps=steps, loss=loss)

    def part(self, begun: float = 0.0, length: float = 1.0) -> Step:
        """For one of several trainings in a stage; both are shares of it, 0..1.

        A step is told once in STEP_S, with the time left to this training as its steps so far have taken it.
        """
        first: list[tuple[float, float]] = []  # when its first step ended, and its share done by then

        def tell(*, epoch: int, epochs: int, step: int, steps: int, loss: Callable[[], float]) -> None:
            now, done = self._now(), (epoch - 1 + step / steps) / epochs
            if not first:
                first.append((now, done))
            if now - self._told_at < STEP_S:
                return
            self._told_at = now
            began, before = first[0]
            eta_s = (now - began) / (done - before) * (1 - done) if done > before else 0.0
            at = TrainingStep(epoch=epoch, epochs=epochs, step=step, steps=steps, loss=loss(), eta_s=round(eta_s, 1))
            self._report(self._stage, self._scaled(begun + length * done), "", at)

        return tell

    def _scaled(self, fraction: float) -> float:
        names = list(self._shares)
        before = sum(self._shares[name] for name in names[: names.index(self._stage)])
        return min(1.0, before + self._shares[self._stage] * min(1.0, max(0.0, fraction)))


def silent(stage: str, fraction: float, line: str, step: TrainingStep | None = None) -> None:
    """A Progress nobody listens to."""


def no_step(*, epoch: int, epochs: int, step: int, steps: int, loss: Callable[[], float]) -> None:
    """A Step nobody listens to."""
