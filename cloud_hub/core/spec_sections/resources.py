"""What a job asks of the machine it runs on."""

from dataclasses import dataclass

from cloud_hub.core.checks import choice, require
from cloud_hub.core.job_queue import PRIORITIES, Resources

EXECUTORS = ("local", "ray")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSpec:
    cpus: int = 0  # 0: all of the machine, so that jobs run one at a time
    memory_mb: int = 0  # kept free for it; 0: not counted
    gpus: int | None = None  # None: one for each of train.processes, where the machine has any
    priority: str = "normal"
    executor: str = "local"  # ray: the cluster that the hub's training.ray_address names
    workers: int = 2  # of ray: they share each batch, or the trials of a search for settings

    def __post_init__(self) -> None:
        require(0 <= self.cpus <= 1024, "resources.cpus", f"must be in 0..1024, got {self.cpus}")
        require(0 <= self.memory_mb <= 1 << 24, "resources.memory_mb", f"must be in 0..{1 << 24}, got {self.memory_mb}")
        require(self.gpus is None or 0 <= self.gpus <= 64, "resources.gpus", f"must be in 0..64, got {self.gpus}")
        require(1 <= self.workers <= 1024, "resources.workers", f"must be in 1..1024, got {self.workers}")
        choice("resources.priority", self.priority, tuple(PRIORITIES))
        choice("resources.executor", self.executor, EXECUTORS)

    def on(self, machine: Resources, processes: int = 1) -> Resources:
        """What that is on this machine, for so many processes: a GPU each."""
        gpus = min(processes, machine.gpus) if self.gpus is None else self.gpus
        return Resources(cpus=self.cpus or machine.cpus, memory_mb=self.memory_mb, gpus=gpus)
