"""Which queued job is next on a machine. Pure: it knows jobs by what they ask for and how long they have waited."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

PRIORITIES = {"low": 25, "normal": 50, "high": 75}
AGEING = timedelta(hours=1)  # of waiting is worth a step of ...
STEP = 5  # ... so much priority: nothing waits for ever
PATIENCE = timedelta(minutes=30)  # a job that does not fit for so long gets what becomes free, before smaller ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a job asks for, or what a machine has."""

    cpus: int = 1
    memory_mb: int = 0
    gpus: int = 0

    def fit(self, free: "Resources") -> bool:
        return self.cpus <= free.cpus and self.memory_mb <= free.memory_mb and self.gpus <= free.gpus

    def without(self, taken: "Resources") -> "Resources":
        return Resources(cpus=self.cpus - taken.cpus, memory_mb=self.memory_mb - taken.memory_mb, gpus=self.gpus - taken.gpus)

    def lacks(self, wanted: "Resources") -> str:
        """In words, what of ``wanted`` this machine does not have; empty where it could run it alone."""
        short = [
            f"{want} {name}, this machine has {have}"
            for name, want, have in (
                ("CPUs", wanted.cpus, self.cpus),
                ("MB of memory", wanted.memory_mb, self.memory_mb),
                ("GPUs", wanted.gpus, self.gpus),
            )
            if want > have
        ]
        return "; ".join(short)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    id: str
    number: int  # in the order they came
    since: datetime
    priority: int = PRIORITIES["normal"]
    wants: Resources = field(default_factory=Resources)
    expected_s: float | None = None  # as earlier ones of its model took; None: nobody knows


def order(queue: Sequence[Waiting], now: datetime) -> list[Waiting]:
    """By priority, which grows with waiting; within one the job that is expected to be done first, unknown ones last."""

    def rank(job: Waiting) -> tuple[int, float, int]:
        aged = job.priority + STEP * int((now - job.since) / AGEING)
        return -aged, job.expected_s if job.expected_s is not None else float("inf"), job.number

    return sorted(queue, key=rank)


def choose(queue: Sequence[Waiting], machine: Resources, free: Resources, now: datetime) -> Waiting | None:
    """The next one that fits into what is ``free`` of the ``machine``; None: wait.

    What the machine could never run is left to another one. A smaller job may pass a larger one that does not fit now, until
    that one has waited for PATIENCE.
    """
    for job in order(queue, now):
        if machine.lacks(job.wants):
            continue
        if job.wants.fit(free):
            return job
        if now - job.since >= PATIENCE:
            return None
    return None
