"""A version that passes every check at home and is worse only in the field stops by itself, on real photos."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud_hub.core.gates import GateVerdict
from cloud_hub.core.model import JOB_ENDED, JobState, ModelVersion, RolloutState
from cloud_hub.core.pages import Page
from protos.contract import ids
from protos.contract.ids import DeviceId
from tests.conformance.agent import Agent
from tests.e2e import signs
from tests.e2e.system import ADMIN, System, wait_for

MINUTES = 60
SIGNS = ids.model_name("signs")
CAMERAS = ("cam-0", "cam-1", "cam-2", "cam-3")
CANARIES = CAMERAS[:2]
FPS = 12.0
SOAK_S = 90
CHAMPION = {
    "teacher": {"width": 24, "epochs": 6},
    "student": {"width": 16, "epochs": 7},
}  # on day and dusk: not trained to the end, so that there is something to gain by day
CHALLENGER = {
    "teacher": {"width": 24, "epochs": 22},
    "student": {"width": 16, "epochs": 28},
    "train": {"augment": ["noise", "shift"], "seed": 1},
}  # longer, but somebody cleaned the data set of all that is dark, and turned brightness off
GATES: list[dict[str, Any]] = [
    {"metric": "accuracy", "max_fall": 0.1},
    {"metric": "drift_score", "max_rise": 0.25},
    {"metric": "confidence_shift", "max_fall": 0.1},
    {"metric": "uncertain_rate", "max_rise": 0.1},
    {"metric": "latency_p95_ms", "max_ratio": 5.0},
    {"metric": "error_rate", "max": 0.05},
]  # each versus the devices whose turn has not come


@dataclass
class Fleet:
    """Four cameras that see the same signs, and a person who labels what they keep."""

    system: System
    folder: Path
    photos: list[signs.Photo]

    def __post_init__(self) -> None:
        self.labels: dict[str, str] = {}
        self.dusk, self.dark = signs.halves(photo for photo in self.photos if photo.split == "drift_dark")
        self.val, self.test = signs.halves(photo for photo in self.photos if photo.split == "val_day")
        self.train = [photo for photo in self.photos if photo.split == "train_day"]
        self.agents: dict[str, Agent] = {}

    def trained(self, dataset: str, recipe: dict[str, Any], train: list[signs.Photo]) -> ModelVersion:
        """The next version, by the hub's own job: data set, training, gate, publication."""
        files = self.folder / dataset
        signs.write_dataset(files, train=train, val=self.val, test=self.test)
        hubctl = self.system.hubctl
        hubctl("dataset", "create", dataset, "--labels", ",".join(sorted({photo.label for photo in train})))
        hubctl("dataset", "import", dataset, "--dir", files, "--source-pattern", r"/([^/]+)_\d+\.png$")
        gate = {"bound": 0.7, "when_unsure": "promote"}  # what is looked at here is what a rollout sees in the field
        spec = {"name": SIGNS, "data": {"dataset": dataset}, "targets": ["onnx-fp32"], "gate": gate}
        path = self.folder / f"{dataset}.yaml"
        path.write_text(yaml.safe_dump(spec | recipe | {"triggers": {"drift": False}}))
        hubctl("spec", "put", "-f", path)
        job = hubctl("job", "run", SIGNS)["id"]
        training = self.system.services.training
        wait_for(lambda: training.job(job).state in JOB_ENDED, f"job {job}", 15 * MINUTES)
        done = training.job(job)
        assert done.state is JobState.PUBLISHED, done.reason
        return self.system.services.registry.get(ADMIN, SIGNS, done.published_version)

    def enrol(self) -> None:
        for number, camera in enumerate(CAMERAS):
            agent = self.agents[camera] = self.system.agent(camera)
            for scene, chosen in (("day", self.val + self.test), ("dark", self.dark)):
                self.labels |= signs.write_scene(agent.folder / scene, scene, chosen, number)
            self.look(camera, "day")
            agent.configure(
                source={"fps": FPS},
                capture={"control_rate": 0.15},
                update={"max_latency_ratio": 1e6},  # a busy machine is no reason to send the model back
            )
            agent.start()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """The cameras are off: training has the machine for itself."""
        for agent in self.agents.values():
            agent.stop()
        yield
        for agent in self.agents.values():
            agent.start()

    def look(self, camera: str, scene: str) -> None:
        """From now on this camera sees that."""
        agent = self.agents[camera]
        agent.images = agent.folder / "seen"
        fresh = agent.folder / ".seen"
        fresh.symlink_to(agent.folder / scene, target_is_directory=True)
        fresh.replace(agent.images)

    def annotate(self, until: threading.Event) -> None:
        """Label what comes, as long as nobody says stop."""
        datasets = self.system.services.datasets
        seen: set[str] = set()
        while not until.wait(1.0):
            for dataset in datasets.list(ADMIN):
                token = ""
                while True:
                    found, token = datasets.list_samples(
                        ADMIN, dataset.name, labelled=False, device=None, page=Page(size=500, token=token)
                    )
                    new = [(sample.id, self.labels[Path(sample.name).name]) for sample in found if sample.id not in seen]
                    if new:
                        datasets.label(ADMIN, new)
                        seen |= {id for id, _ in new}
                    if not token:
                        break

    def verdict(self, id: str) -> GateVerdict:
        return self.system.services.rollouts.view(ADMIN, id)[1]

    def roll_out(self, version: ModelVersion, **plan: Any) -> str:
        path = self.folder / f"plan-{version.version}.yaml"
        path.write_text(yaml.safe_dump({"model": SIGNS, "version": version.version} | plan))
        return str(self.system.hubctl("rollout", "create", "-f", path)["id"])


@pytest.fixture
def fleet(shared_data: Path, tmp_path: Path) -> Iterator[Fleet]:
    if not (shared_data / "gtsrb32" / "index.csv").is_file():
        pytest.skip(f"no photos of traffic signs in {shared_data}")
    system = System(tmp_path / "system")
    try:
        yield Fleet(system, tmp_path, signs.photos(shared_data / "gtsrb32"))
    finally:
        system.close()


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.timeout(45 * MINUTES)
def test_a_version_that_is_worse_only_in_the_dark_stops_by_itself_and_its_wave_goes_back(fleet: Fleet) -> None:
    champion = fleet.trained("signs", CHAMPION, fleet.train + fleet.dusk)
    fleet.enrol()
    first = fleet.roll_out(champion, waves=[{"count": 4}], soak_s=0)
    wait_for(lambda: fleet.system.rollout(first).state is not RolloutState.RUNNING, "the champion on all devices", 4 * MINUTES)
    assert fleet.system.rollout(first).state is RolloutState.SUCCEEDED, fleet.system.rollout(first).reason

    with fleet.resting():
        challenger = fleet.trained("signs-clean", CHALLENGER, fleet.train)
    at_home = champion.variants[0].score, challenger.variants[0].score
    assert at_home[1] > at_home[0] - 0.06, "at home nobody can surely tell: the hub let it through"

    id = fleet.roll_out(challenger, waves=[{"count": len(CANARIES)}], soak_s=SOAK_S, gates=GATES)
    wait_for(lambda: all(fleet.system.runs(camera) == challenger.version for camera in CANARIES), "the first wave", 4 * MINUTES)
    for camera in CAMERAS:
        fleet.look(camera, "dark")
    stop = threading.Event()
    person = threading.Thread(target=fleet.annotate, args=(stop,))
    person.start()
    try:
        wait_for(lambda: fleet.system.rollout(id).state is not RolloutState.RUNNING, "the gate", 8 * MINUTES)
    finally:
        stop.set()
        person.join()
    told = "\n".join(f"{one.outcome.value}: {one.reason}" for one in fleet.verdict(id).readings)
    rollout = fleet.system.rollout(id)
    assert (rollout.state, rollout.wave) == (RolloutState.FAILED, 0), told
    assert rollout.reason.startswith("gate "), rollout.reason
    wait_for(lambda: all(fleet.system.runs(camera) == champion.version for camera in CAMERAS), "the way back", 2 * MINUTES)
    asked = {row.device: row.generation for row in rollout.devices if row.wave > 0}
    assert asked == {DeviceId(camera): 0 for camera in CAMERAS[2:]}, "nobody else was ever asked"
