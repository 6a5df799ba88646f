"""A real agent with a repository of its own to be attacked, and what is to be seen of it meanwhile."""

from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.core.errors import AgentError
from protos.contract.twin import ModelAssignment, ReportedTwin
from protos.contract.update import FINAL, UpdateState
from tests.agent import models
from tests.agent.models import ModelFiles
from tests.conformance.agent import Agent
from tests.conformance.hub import TENANT, Device, Hub
from tests.conformance.repository import Release, Repository
from tests.conformance.scene import Scene

INFERENCES = 20  # of the model that ran, while an attack lasts
UPDATE = {
    "fetch_timeout_s": 0.5,
    "rate_window_s": 1.5,
    "probation_s": 0.1,
    "probation_inferences": 3,
    "max_latency_ratio": 1e6,  # a busy machine is no attack
}


@dataclass
class Ground:
    """A device, its own repository, and what they have been through."""

    hub: Hub
    agent: Agent
    repository: Repository
    name: str
    past: dict[str, bytes] = field(default_factory=dict)
    ran: list[Release] = field(default_factory=list)
    version: int = 0

    @property
    def device(self) -> Device:
        return self.hub.devices[self.name]

    def files(self) -> ModelFiles:
        self.version += 1
        return models.files(seed=self.version, version=self.version)

    def release(self) -> tuple[Release, ModelFiles]:
        files = self.files()
        self.hub.put(files)
        return self.repository.release(files), files

    def update(self) -> None:
        """An honest release, through to its commit."""
        self.past = dict(self.repository.images.files)
        release = self.outrun()
        self.commits(self.hub.desire(self.name, release.assignment), release)

    def scene(self) -> Scene:
        """A newer release is on its way, and the device has not heard of it."""
        release, files = self.release()
        answers = self.hub.answers(self.name)
        return Scene(self.hub, answers, self.past, self.ran[-2], self.ran[-1], release, files)

    def honest(self) -> None:
        """The attack is over."""
        self.hub.answers(self.name).honest()
        self.hub.streams.clear()

    def refused(self, generation: int, error: type[AgentError]) -> str:
        """The reason that the failed update reports."""
        twin = self.ended(generation)
        assert twin.update is not None
        assert (twin.update.state, twin.model) == (UpdateState.FAILED, self.ran[-1].assignment), twin.update.reason
        assert twin.update.reason.startswith(f"{error.__name__}: "), twin.update.reason
        return twin.update.reason

    def ended(self, generation: int) -> ReportedTwin:
        def done() -> bool:
            twin = self.device.twin
            return twin is not None and twin.generation == generation and twin.update is not None and twin.update.state in FINAL

        self.hub.wait(done, f"the end of generation {generation}")
        twin = self.device.twin
        assert twin is not None
        return twin

    def pointer(self) -> bytes:
        return (self.agent.data_dir / "models" / "current").read_bytes()

    def outrun(self) -> Release:
        """An honest release, with higher versions than a forger gave who counted one on."""
        self.repository.images.renew()
        self.repository.images.renew()
        return self.release()[0]

    def commits(self, generation: int, release: Release) -> None:
        twin = self.ended(generation)
        assert twin.update is not None
        assert (twin.update.state, twin.model) == (UpdateState.COMMITTED, release.assignment), twin.update.reason
        self.ran.append(release)

    def told(self, kind: str, since: int) -> list[str]:
        """Details of the events of a kind in what came after so many batches."""
        return [event.detail for batch in self.device.batches[since:] for event in batch.events if event.kind == kind]


def prepared(hub: Hub, folder: Path, name: str) -> Ground:
    """Its agent runs, and has been through three honest releases."""
    agent = Agent(folder / "agent")
    agent.configure(update=UPDATE)
    made = Ground(hub, agent, Repository(TENANT), name)
    hub.identity(name, agent.data_dir, made.repository)
    agent.start()
    for _ in range(3):
        made.update()
    return made


@dataclass
class Watch:
    """Of what a device does from now on."""

    ground: Ground

    def __post_init__(self) -> None:
        self._batches = len(self.ground.device.batches)
        self._downloads = len(self.ground.hub.downloads)
        self._pointer = self.ground.pointer()

    def refusal(self, error: type[AgentError]) -> str:
        """What was told at once."""

        def told() -> list[str]:
            return [it for it in self.ground.told("trust.refused", self._batches) if it.startswith(f"{error.__name__}: ")]

        self.ground.hub.wait(lambda: bool(told()), f"word of {error.__name__}")
        return told()[0]

    def inferences(self) -> dict[str, int]:
        """By model. The first batch may hold what was inferred before."""
        counted: dict[str, int] = {}
        for batch in self.ground.device.batches[self._batches + 1 :]:
            for index, model in enumerate(batch.inferences.models):
                counted[model] = counted.get(model, 0) + int((batch.inferences.model == index).sum())
        return counted

    def nothing_changed(self, running: ModelAssignment) -> int:
        """The model that ran runs, and nothing else did. How many inferences it made."""
        mine = running.manifest_digest
        self.ground.hub.wait(lambda: self.inferences().get(mine, 0) >= INFERENCES, f"{INFERENCES} inferences under attack")
        twin = self.ground.device.twin
        assert twin is not None and twin.model == running
        assert set(self.inferences()) <= {mine}
        assert self.ground.pointer() == self._pointer
        assert self.ground.agent.process is not None and self.ground.agent.process.poll() is None
        return self.inferences()[mine]

    def asked_for(self) -> set[str]:
        return {digest for digest, _ in self.ground.hub.downloads[self._downloads :]}
